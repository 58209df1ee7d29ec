"""What the time axis and the list show of a history."""

import json
import re
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.axis import IDLE_WIDTH, axis_of
from dashboard.colours import COLOURS, SHAPES, looks
from dashboard.lanes import MAX_LANES, MAX_MARKS, Lanes, arrange
from dashboard.listing import page_of
from dashboard.outline import EMPTY, Outline, Outlines
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


def arranged(history: Outline, *, collapse: bool = False) -> Lanes:
    start, end = int(history.moments.min()), int(history.moments.max()) + 1
    return arrange(history, axis_of(history.moments, start, end, collapse=collapse))


@given(histories, st.booleans())
def test_every_event_is_in_one_mark(history: Outline, collapse: bool) -> None:  # noqa: FBT001 (drawn)
    lanes = arranged(history, collapse=collapse)
    assert sum(mark.events for mark in lanes.marks) == len(history)
    assert sum(lane.events for lane in lanes.lanes) == len(history)
    assert len(lanes.lanes) <= MAX_LANES
    assert len(lanes.marks) <= MAX_MARKS
    assert all(0 <= mark.place <= 1 for mark in lanes.marks)


@given(histories)
def test_a_click_on_a_mark_leads_to_an_event_of_its_lane(history: Outline) -> None:
    lanes = arranged(history)
    for mark in lanes.marks:
        index = history.index_of(mark.version)
        assert index is not None
        event_type = history.types[int(history.kinds[index])]
        assert event_type in lanes.lanes[mark.lane].event_types


def test_a_mark_leads_to_the_newest_of_its_events() -> None:
    at_once = outline([7] * 1_000, [number * 7 % 3 for number in range(1_000)])
    assert [mark.version for mark in arranged(at_once).marks] == [1_000, 998, 999]
    assert [mark.first_version for mark in arranged(at_once).marks] == [1, 2, 3]


def test_lanes_stand_in_the_order_of_life() -> None:
    lanes = arranged(outline([1, 2, 3, 4], [0, 1, 1, 2]))
    assert [(lane.event_types, lane.events) for lane in lanes.lanes] == [
        (("type-0",), 1), (("type-1",), 2), (("type-2",), 1),
    ]  # fmt: skip


def test_a_hundred_thousand_events_make_a_few_thousand_marks() -> None:
    many = outline(list(range(100_000)), [number % 9 for number in range(100_000)])
    assert len(arranged(many).marks) <= MAX_MARKS


@given(histories, st.booleans())
def test_an_axis_keeps_the_order_of_time(history: Outline, collapse: bool) -> None:  # noqa: FBT001 (drawn)
    start, end = int(history.moments.min()), int(history.moments.max()) + 1
    axis = axis_of(history.moments, start, end, collapse=collapse)
    assert (axis.knots[0].moment, axis.knots[0].place) == (start, 0)
    assert (axis.knots[-1].moment, axis.knots[-1].place) == (max(end, start + 1_000), 1)
    places = axis.places(np.sort(history.moments))
    assert (np.diff(places) >= 0).all()
    assert all(since < until for since, until in axis.idle)
    assert collapse or not axis.idle


def test_bursts_far_apart_get_the_room_that_idle_time_had() -> None:
    bursts = [day * 10**9 + second for day in (0, 400, 1_000) for second in range(50)]
    moments = np.array(bursts, dtype=np.int64)
    axis = axis_of(moments, bursts[0], bursts[-1] + 1, collapse=True)
    assert axis.idle == ((49, 400 * 10**9), (400 * 10**9 + 49, 1_000 * 10**9))
    first_burst = axis.places(moments[[0, 49]])
    assert first_burst[1] - first_burst[0] == pytest.approx((1 - 2 * IDLE_WIDTH) / 3, abs=0.01)


def test_even_steps_are_never_idle() -> None:
    moments = np.arange(0, 5 * 10**9, 10**9, dtype=np.int64)
    assert axis_of(moments, 0, 4 * 10**9 + 1, collapse=True).idle == ()


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


def test_types_of_a_store_differ_by_colour_and_then_by_shape() -> None:
    names = [f"type-{number:02}" for number in range(COLOURS * SHAPES)]
    assert sorted(looks(names[:COLOURS]).values()) == list(range(COLOURS))
    assert sorted(looks(names).values()) == list(range(COLOURS * SHAPES))


def test_a_type_keeps_its_look_beside_others() -> None:
    assert looks(["PackageAdded"])["PackageAdded"] == looks(["PackageAdded", "Zoo"])["PackageAdded"]


STYLES = (Path(__file__).parents[2] / "dashboard/static/timeline.css").read_text()
THEMES = {
    "light": ("#ffffff", STYLES[STYLES.index(".app {") : STYLES.index(".app.dark {")]),
    "dark": ("#10161f", STYLES[STYLES.index(".app.dark {") : STYLES.index(".look-0 {")]),
}

# Machado, Oliveira and Fernandes 2009, severity 1.0: what the colour-blind see, in linear light.
BLINDNESS = {
    "none": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
# From linear light to OKLab (Ottosson 2020), where distance is difference as it is seen.
TO_CONES = np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]])
TO_LAB = np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]])


def palette(theme: str) -> list[str]:
    return re.findall(r"--look-\d: (#[0-9a-f]{6});", THEMES[theme][1])


def linear(colour: str) -> Any:
    channels = np.frombuffer(bytes.fromhex(colour.removeprefix("#")), dtype=np.uint8) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    weights = [0.2126, 0.7152, 0.0722]
    darker, lighter = sorted(float(linear(colour) @ weights) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", THEMES)
def test_colours_stand_out_from_the_background(theme: str) -> None:
    background, styles = THEMES[theme]
    none = re.findall(r"--look-none: (#[0-9a-f]{6});", styles)
    assert len(palette(theme)) == COLOURS
    assert all(contrast(colour, background) >= 3 for colour in [*palette(theme), *none])


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("theme", THEMES)
def test_colours_differ_for_the_colour_blind(theme: str, blindness: str) -> None:
    seen = [
        TO_LAB @ np.cbrt(TO_CONES @ np.clip(BLINDNESS[blindness] @ linear(colour), 0, 1))
        for colour in palette(theme)
    ]
    differences = [np.linalg.norm(one - other) for one, other in combinations(seen, 2)]
    # 0.02 is just noticeable side by side.
    assert min(differences) > 0.1
