"""Lines parsed before their turn come in it all the same."""

import gzip
import io
import os

import pytest

from store.errors import InvalidSource
from store.interchange import parse_line
from store.records import Event
from store.transfer.batch import Entry
from store.transfer.parsing import Invalid, ParsedLines

LINE = b"""{"event_id":"00000000-0000-7000-8000-%012d","aggregate_type":"thing",\
"aggregate_id":"a","version":%d,"event_type":"Happened","data":{},\
"occurred_at":"2026-01-01T00:00:00Z"}
"""


def parsed(content: bytes) -> ParsedLines:
    return ParsedLines(io.BufferedReader(io.BytesIO(content)), restore=False, renumber=False)


def told(lines: list[Entry | Invalid]) -> list[tuple[int, str]]:
    return [(each.line, type(each).__name__) for each in lines]


@pytest.mark.parametrize("ahead", [0, 1, 2, 3, 9])
def test_the_order_is_that_of_the_lines(ahead: int) -> None:
    lines = parsed(b"\n".join([LINE % (1, 1), b"no event", LINE % (2, 2), LINE % (3, 3)]))
    first = next(lines)
    for _ in range(ahead):
        lines.parse_ahead()
    everything = [first, *lines]
    assert told(everything) == [(1, "Entry"), (3, "Invalid"), (4, "Entry"), (6, "Entry")]
    lines.parse_ahead()
    assert list(lines) == []


@pytest.mark.parametrize("ahead", [0, 500, 5_000])
def test_damage_is_told_in_its_turn(ahead: int) -> None:
    whole = gzip.compress(b"".join(LINE % (i, i) for i in range(1, 5_001)))
    lines = parsed(whole[: len(whole) // 2])
    for _ in range(ahead):
        lines.parse_ahead()
    numbers = []
    with pytest.raises(InvalidSource, match="damaged") as damage:  # noqa: PT012
        for each in lines:
            numbers.append(each.line)  # noqa: PERF401 (what came before the damage counts)
    assert numbers == list(range(1, len(numbers) + 1))
    assert f"after line {len(numbers)}:" in str(damage.value)
    assert len(numbers) > 1_000


def test_only_so_much_is_parsed_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def counted(line: bytes, *, position: int) -> Event:
        seen.append(position)
        return parse_line(line, position=position)

    monkeypatch.setattr("store.transfer.parsing.parse_line", counted)
    monkeypatch.setattr("store.transfer.parsing.MAX_BYTES_AHEAD", 2 * len(LINE % (1, 1)))
    lines = parsed(b"".join(LINE % (i, i) for i in range(1, 9)))
    for _ in range(50):
        lines.parse_ahead()
    assert seen == [1, 2, 3]
    assert [each.line for each in lines] == list(range(1, 9))


def test_nothing_of_a_pipe_is_read_before_its_turn() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as stream:  # noqa: PTH123 (a descriptor)
        lines = ParsedLines(stream, restore=False, renumber=False)
        lines.parse_ahead()  # would wait for ever
        os.write(writing, LINE % (1, 1))
        os.close(writing)
        lines.parse_ahead()
        assert [each.line for each in lines] == [1]
