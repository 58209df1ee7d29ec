"""What the time axis and the list show of a history."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import charts
from dashboard.colours import OTHER, PALETTE, colours, text_colour
from dashboard.lanes import MAX_LANES, MAX_MARKS, arrange
from dashboard.listing import page_of
from dashboard.outline import EMPTY, Outline, Outlines
from dashboard.stretch import Stretch, closer, further
from store.sources.ndjson import NdjsonSource

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def outline(moments: list[int], kinds: list[int], first_version: int = 1) -> Outline:
    return Outline(
        types=tuple(f"type-{kind}" for kind in range(max(kinds, default=-1) + 1)),
        versions=np.arange(first_version, first_version + len(moments), dtype=np.int64),
        moments=np.array(moments, dtype=np.int64),
        kinds=np.array(kinds, dtype=np.int64),
    )


histories = st.lists(
    st.tuples(st.integers(-(10**15), 10**15), st.integers(0, 40)), min_size=1, max_size=400
).map(lambda rows: outline([moment for moment, _ in rows], [kind for _, kind in rows]))


def write_log(path: Path, events: int) -> Path:
    lines: list[dict[str, object]] = [
        {
            "event_id": f"00000000-0000-4000-8000-{version:012}",
            "aggregate_type": "thing",
            "aggregate_id": "thing-1",
            "version": version,
            "event_type": "Odd" if version % 2 else "Even",
            "schema_version": 1,
            "data": {},
            "metadata": {},
            "occurred_at": (BEGIN + timedelta(seconds=version)).isoformat(),
        }
        for version in range(1, events + 1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@given(histories)
def test_every_event_is_in_one_mark(history: Outline) -> None:
    lanes = arrange(history)
    assert sum(mark.events for mark in lanes.marks) == len(history)
    assert sum(lane.events for lane in lanes.lanes) == len(history)
    assert len(lanes.lanes) <= MAX_LANES
    assert len(lanes.marks) <= MAX_MARKS
    assert all(lanes.start <= mark.moment <= lanes.end for mark in lanes.marks)


@given(histories)
def test_a_click_on_a_mark_leads_to_an_event_of_its_lane(history: Outline) -> None:
    lanes = arrange(history)
    for mark in lanes.marks:
        index = history.index_of(mark.version)
        assert index is not None
        assert lanes.lane_of(history.types[int(history.kinds[index])]) == mark.lane


def test_a_mark_leads_to_the_newest_of_its_events() -> None:
    at_once = outline([7] * 1_000, [number * 7 % 3 for number in range(1_000)])
    assert [mark.version for mark in arrange(at_once).marks] == [1_000, 998, 999]
    assert [mark.first_version for mark in arrange(at_once).marks] == [1, 2, 3]


def test_lanes_stand_in_the_order_of_life() -> None:
    lanes = arrange(outline([1, 2, 3, 4], [0, 1, 1, 2]))
    assert [(lane.name, lane.events) for lane in lanes.lanes] == [
        ("type-0", 1), ("type-1", 2), ("type-2", 1),
    ]  # fmt: skip


def test_a_hundred_thousand_events_make_a_few_thousand_marks() -> None:
    many = outline(list(range(100_000)), [number % 9 for number in range(100_000)])
    assert len(arrange(many).marks) <= MAX_MARKS


def test_an_outline_reads_only_what_it_does_not_know(tmp_path: Path) -> None:
    with NdjsonSource(write_log(tmp_path / "log.ndjson", 10)) as source:
        outlines = Outlines(source)
        head = source.aggregate("thing-1")
        first = outlines.outline(head)
        assert outlines.outline(head) is first
        assert first.versions.tolist() == list(range(1, 11))
        assert first.types == ("Odd", "Even")


def test_of_a_very_long_history_the_newest_events_are_outlined(tmp_path: Path) -> None:
    with NdjsonSource(write_log(tmp_path / "log.ndjson", 10)) as source:
        outlines = Outlines(source, limit=4)
        head = source.aggregate("thing-1")
        short = outlines.outline(head)
        assert short.versions.tolist() == [7, 8, 9, 10]
        assert outlines.left_out(head, short) == 6


def test_of_a_history_that_has_its_limit_nothing_is_left_out(tmp_path: Path) -> None:
    with NdjsonSource(write_log(tmp_path / "log.ndjson", 10)) as source:
        outlines = Outlines(source, limit=10)
        head = source.aggregate("thing-1")
        assert outlines.left_out(head, outlines.outline(head)) == 0


def test_a_stretch_of_time_is_half_open() -> None:
    shown = outline([10, 20, 30], [0, 0, 0]).within(10, 30)
    assert shown.moments.tolist() == [10, 20]


@given(history=histories, newest_first=st.booleans(), size=st.integers(1, 30))
def test_pages_hold_every_event_once(history: Outline, *, newest_first: bool, size: int) -> None:
    seen: list[int] = []
    at = None
    while (page := page_of(history, at=at, newest_first=newest_first, size=size)) is not None:
        seen += range(page.from_version, page.to_version + 1)
        at = page.following
        if at is None:
            break
    assert sorted(seen) == history.versions.tolist()


def test_a_page_is_found_by_any_of_its_events() -> None:
    history = outline(list(range(100)), [0] * 100)
    page = page_of(history, at=37, newest_first=True, size=25)
    assert page is not None
    assert (page.from_version, page.to_version) == (26, 50)
    assert (page.previous, page.following) == (75, 25)
    assert (page.first_row, page.last_row, page.rows) == (51, 75, 100)


def test_no_events_have_no_page() -> None:
    assert page_of(EMPTY, at=None, newest_first=True) is None


def test_looking_closer_and_further_stays_within_the_history() -> None:
    whole = Stretch(start=0, end=64_000_000)
    near = closer(whole, around=63_000_000)
    assert near == Stretch(start=48_000_000, end=64_000_000)
    assert further(near, 63_000_000, whole) is None
    assert closer(Stretch(start=0, end=10), around=5) is None


def test_types_of_a_store_have_different_colours() -> None:
    chosen = colours(f"type-{number}" for number in range(len(PALETTE)))
    assert sorted(chosen.values()) == sorted(PALETTE)


def test_a_type_keeps_its_colour_beside_others() -> None:
    assert colours(["PackageAdded"]) == {
        "PackageAdded": colours(["PackageAdded", "Zoo"])["PackageAdded"]
    }


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    channels = [value / 255 for value in bytes.fromhex(colour.removeprefix("#"))]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", [*PALETTE, OTHER])
@pytest.mark.parametrize(("background", "dark"), [("#ffffff", False), ("#10161f", True)])
def test_colours_are_readable_on_both_themes(colour: str, background: str, *, dark: bool) -> None:
    assert contrast(colour, background) >= 3
    assert contrast(text_colour(colour, dark=dark), background) >= 4.5


def test_a_type_named_like_a_tag_is_text_on_the_axis() -> None:
    history = Outline(
        types=("<b>x</b>",),
        versions=np.array([1], dtype=np.int64),
        moments=np.array([0], dtype=np.int64),
        kinds=np.array([0], dtype=np.int64),
    )
    figure = charts.timeline(arrange(history), {}, chosen=(0, 0), dark=False)
    assert figure["layout"]["yaxis"]["ticktext"] == ["&lt;b&gt;x&lt;/b&gt;"]
    assert figure["data"][0]["customdata"] == [1]


def test_a_stretch_without_events_has_a_figure() -> None:
    figure = charts.timeline(arrange(EMPTY, start=0, end=10), {}, chosen=None, dark=True)
    assert figure["data"][0]["x"] == []
