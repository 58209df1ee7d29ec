"""The dashboard beside an empty Streamlit page: `python -m benchmarks.ui`."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
from msgspec import Struct

from benchmarks.rounds import interleave
from benchmarks.ui import filling, report, scrubbing, serving, sessions
from benchmarks.ui.report import Amount, Bound, Comparison, compared
from benchmarks.ui.scrubbing import Scrubbed
from benchmarks.ui.visits import (
    CLICKED,
    OPENED,
    Arrival,
    Place,
    Times,
    Visitor,
    opened_browser,
    visitor,
)

EMPTY = "empty page"
OPEN_TARGET = 1.5
CLICK_TARGET = 1.3
LOAD_TARGET = 3.0
MOST_WORK = 8.0
MOST_BEYOND_THE_FLOOR = 4.0
LONGEST_JUMP = 300.0
MOST_BYTES = 2_000_000
MOST_MARKS = 5_000
SESSIONS = 20


class Plan(Struct, frozen=True, kw_only=True):
    """How thorough a run is."""

    rounds: int
    clicks: int
    small: int
    large: int
    long: int
    turns: int


FULL = Plan(rounds=7, clicks=5, small=1_000, large=1_000_000, long=100_000, turns=20)
QUICK = Plan(rounds=2, clicks=2, small=1_000, large=50_000, long=10_000, turns=4)


class Served(Struct, frozen=True):
    """Where the contenders are."""

    empty: str
    small: str
    large: str


@click.command()
@click.option("--quick", is_flag=True, help="Few rounds on small stores, nothing written.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(["pages", "sessions", "replay"]),
    help="Just this; may be repeated.",
)
@click.option("--rounds", type=click.IntRange(1), help="Rounds of each measure.  [default: 7]")
def main(*, quick: bool, only: tuple[str, ...], rounds: int | None) -> None:
    """Compare the pages with an empty one in a browser; print the tables.

    A full run, about fifteen minutes on a quiet machine, also writes benchmarks/UI.md.
    """
    plan = QUICK if quick else FULL
    rounds = rounds or plan.rounds
    pages: list[Comparison] = []
    loads: list[Comparison] = []
    amounts: list[Amount] = []
    bounds: list[Bound] = []
    with _served(plan) as served:
        if not only or "pages" in only:
            places = _places(plan, served)
            with visitor(plan.clicks) as person:
                arrivals = {place.title: person.arrive(place) for place in places}
                times = _visits(person, places, rounds)
            amounts = list(_amounts(arrivals))
            pages = list(_pages(times, arrivals))
        if not only or "sessions" in only:
            loads = list(_loads(plan, served, rounds))
        if not only or "replay" in only:
            bounds = list(_replays(plan, served, rounds))
    page = report.render(pages, loads, amounts, bounds, rounds)
    click.echo(page)
    if not quick and not only:
        report.RESULTS.write_text(page)


@contextmanager
def _served(plan: Plan) -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="bench-ui-") as name:
        directory = Path(name)
        small, large = (f"sqlite:///{directory / kind}.db" for kind in ("small", "large"))
        filling.fill(small, directory, events=plan.small)
        _tell(f"importing {plan.large:,} events, a minute for a million …")
        filling.fill(large, directory, events=plan.large, long=plan.long)
        filling.watch(large)
        with (
            serving.empty_page() as empty,
            serving.dashboard(small) as first,
            serving.dashboard(large) as second,
        ):
            yield Served(empty, first, second)


def _places(plan: Plan, served: Served) -> Sequence[Place]:
    def timeline(address: str, aggregate: str, events: int) -> Place:
        title = f"Timeline of {events:,} events"
        return Place(title, "timeline", f"{address}/timeline?aggregate={aggregate}")

    def replay(address: str, aggregate: str, events: int) -> Place:
        title = f"Replay of {events:,} events"
        return Place(title, "replay", f"{address}/replay?aggregate={aggregate}")

    return [
        Place(EMPTY, "empty", served.empty),
        timeline(served.small, filling.SHORT, filling.HISTORY),
        timeline(served.large, filling.LONG, plan.long),
        replay(served.small, filling.SHORT, filling.HISTORY),
        replay(served.large, filling.LONG, plan.long),
        Place(f"store of {plan.small:,} events", "store", f"{served.small}/timeline"),
        Place(f"store of {plan.large:,} events", "store", f"{served.large}/timeline"),
        Place("Monitoring, a day of 4 processes", "monitoring", f"{served.large}/monitoring"),
    ]


def _visits(person: Visitor, places: Sequence[Place], rounds: int) -> Mapping[str, list[Times]]:
    _tell(f"{rounds} rounds of {len(places)} pages …")
    return interleave({place.title: partial(person.visit, place) for place in places}, rounds)


def _pages(
    visits: Mapping[str, list[Times]], arrivals: Mapping[str, Arrival]
) -> Iterator[Comparison]:
    empty = visits[EMPTY]
    for place, mine in visits.items():
        if place == EMPTY:
            continue
        for title in mine[0]:
            baseline, target = (OPENED, OPEN_TARGET) if title == OPENED else (CLICKED, CLICK_TARGET)
            yield _told(
                place,
                title,
                [times[title] for times in mine],
                [times[baseline] for times in empty],
                target,
            )
        first = [arrivals[place].milliseconds]
        other = [arrivals[EMPTY].milliseconds]
        yield _told(place, "open for the first time, once", first, other, None)


def _amounts(arrivals: Mapping[str, Arrival]) -> Iterator[Amount]:
    empty = arrivals[EMPTY]
    for place, arrival in arrivals.items():
        if place == EMPTY:
            continue
        beyond = max(arrival.websocket_bytes - empty.websocket_bytes, 0)
        yield Amount(place, "bytes of our own data", arrival.bytes + beyond, MOST_BYTES)
        if arrival.marks:
            yield Amount(place, "marks", arrival.marks, MOST_MARKS)


def _loads(plan: Plan, served: Served, rounds: int) -> Iterator[Comparison]:
    seconds = rounds * 2 * plan.turns * sessions.THINK
    _tell(f"one session beside {SESSIONS}, {seconds / 60:.0f} minutes …")
    load = partial(sessions.load, served.large, filling.LONG, versions=plan.long, turns=plan.turns)
    found = interleave(
        {"one": partial(load, sessions=1), "many": partial(load, sessions=SESSIONS)}, rounds
    )
    place = f"Timeline of {plan.long:,} events"
    for title, name in (("rerun", "rerun"), ("event and what it changed", "documents")):
        yield _told(
            place,
            f"{title}, p95",
            [getattr(each, name) for each in found["many"]],
            [getattr(each, name) for each in found["one"]],
            LOAD_TARGET,
        )


def _replays(plan: Plan, served: Served, rounds: int) -> Iterator[Bound]:
    histories = {
        filling.HISTORY: f"{served.small}/replay?aggregate={filling.SHORT}",
        plan.long: f"{served.large}/replay?aggregate={filling.LONG}",
    }
    _tell(f"{rounds} rounds of stepping through {len(histories)} histories …")
    with opened_browser() as context:
        found = interleave(
            {
                str(versions): partial(scrubbing.scrub, context, address, versions)
                for versions, address in histories.items()
            },
            rounds,
        )
    for versions in histories:
        for bound in _bounds(f"Replay of {versions:,} events", found[str(versions)]):
            _tell(report.told(bound))
            yield bound


def _bounds(place: str, found: Sequence[Scrubbed]) -> Iterator[Bound]:
    beyond = [each.painted - each.floor for each in found]
    yield Bound(place, "key → paint, ms", [each.painted for each in found], None)
    yield Bound(place, "the same of an empty handler, ms", [each.floor for each in found], None)
    yield Bound(place, "beyond that, ms", beyond, MOST_BEYOND_THE_FLOOR)
    yield Bound(place, "main thread a step, ms", [each.work for each in found], MOST_WORK)
    yield Bound(place, "paints a frame, the most", [each.paints for each in found], 1)
    yield Bound(place, "jump anywhere, ms", [each.jump for each in found], LONGEST_JUMP)


def _told(
    place: str, title: str, ours: Sequence[float], other: Sequence[float], target: float | None
) -> Comparison:
    found = compared(place, title, ours, other, target)
    _tell(report.summary(found))
    return found


def _tell(text: str) -> None:
    click.echo(text, err=True)


if __name__ == "__main__":
    main()
