"""Whether a large store is as fast as a small one: `python -m benchmarks.scale`."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import click

from benchmarks import results
from benchmarks.scale import filling, measures, opening, plot, report, touching
from benchmarks.scale.filling import Sized, tell
from benchmarks.scale.report import Flatness
from benchmarks.stores import PostgreSQLStores, SQLiteStores, stores

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
LARGEST_SQLITE = 1_000_000
ROUNDS = 7


class Sizes(click.ParamType[tuple[int, ...]]):
    """Numbers of events, separated by commas."""

    name = "N,N,…"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            sizes = sorted({int(text) for text in str(value).split(",")})
        except ValueError:
            self.fail(f"{value!r} are no numbers such as 10000,100000", param, ctx)
        if sizes[0] < 10_000:
            self.fail("a store of under 10,000 events has too few aggregates", param, ctx)
        return tuple(sizes)


@click.command()
@click.option("--sizes", type=Sizes(), default=SIZES, help="Events.  [default: 10⁴ to 10⁷]")
@click.option("--database", type=click.Choice(["postgresql", "sqlite"]), help="Just this one.")
@click.option("--rounds", type=click.IntRange(1), default=ROUNDS, show_default=True)
@click.option("--only", multiple=True, help="Just the measures with this text in their names.")
@click.option("--explain", is_flag=True, help="Print how PostgreSQL goes about it, at the largest.")
def main(
    *,
    sizes: tuple[int, ...],
    database: str | None,
    rounds: int,
    only: tuple[str, ...],
    explain: bool,
) -> None:
    """Measure the same calls and pages on stores of several sizes; print the table.

    SQLite goes up to 1,000,000 events. A full run takes about a quarter of an hour on a quiet
    machine, and 12 GB of disk; it also writes its part of benchmarks/RESULTS.md, and the plot.
    """
    found: list[Flatness] = []
    with stores() as places:
        for place in places:
            if database in {None, place.name.lower()}:
                for one in _measured(place, sizes, rounds, only, explain=explain):
                    tell(report.summary(one))
                    found.append(one)
    page = report.render(found, rounds)
    click.echo(page)
    if sizes == SIZES and not only and database is None:
        results.write(page)
        report.PLOT.write_text(plot.svg(found))


def _measured(
    place: PostgreSQLStores | SQLiteStores,
    sizes: Sequence[int],
    rounds: int,
    only: Sequence[str],
    *,
    explain: bool,
) -> Iterator[Flatness]:
    if isinstance(place, SQLiteStores):
        sizes = [events for events in sizes if events <= LARGEST_SQLITE]
    urls = {events: filling.fill(place, events) for events in sizes}
    with ExitStack() as opened:
        filled = [
            filling.look(opened.enter_context(filling.opened(url)), url, events)
            for events, url in urls.items()
        ]
        if isinstance(place, PostgreSQLStores) and explain:
            _explain(place, filled[-1], only)
        yield from _calls(place, filled, rounds, only)
        if isinstance(place, PostgreSQLStores) and _is_wanted(touching.TITLE, only):
            taken = touching.blocks_of_loads(place, filled)
            yield Flatness(touching.TITLE, place.name, taken, "blocks")
        if any(_is_wanted(title, only) for title in opening.TITLES):
            for title, taken in opening.opened_pages(filled, rounds).items():
                yield Flatness(title, place.name, taken)


def _calls(
    place: PostgreSQLStores | SQLiteStores,
    filled: Sequence[Sized],
    rounds: int,
    only: Sequence[str],
) -> Iterator[Flatness]:
    for title, make in measures.MEASURES.items():
        if _is_wanted(title, only):
            yield Flatness(title, place.name, measures.measure(make, filled, rounds))


def _is_wanted(title: str, only: Sequence[str]) -> bool:
    return not only or any(text in title for text in only)


def _explain(place: PostgreSQLStores, sized: Sized, only: Sequence[str]) -> None:
    for title, plans in touching.explained(place, sized).items():
        if _is_wanted(title, only):
            tell(f"\n{title}, {sized.events:,} events")
            for plan in plans:
                tell(f"{' '.join(plan.sql.split())}\n{plan.text}\n{plan.blocks} blocks")


if __name__ == "__main__":
    main()
