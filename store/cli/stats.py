"""`hindsight stats`."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import click
import msgspec
from msgspec import Struct

from store.application import Hindsight, opened
from store.cli.columns import Columns, shown, utc_text
from store.cli.holding import by_whom
from store.cli.program import FOUND, store_option
from store.records import Counts, Watermark
from store.rollups import Checked, Difference, Progress
from store.sources import EventSource

LONGEST = 10


class Length(Struct, frozen=True, kw_only=True):
    """An aggregate and how long its history is."""

    aggregate_id: str
    aggregate_type: str
    version: int


class Stats(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much a source holds, its longest histories, and how far it may be followed.

    There are `rollups` where they were compared with the events.
    """

    store: str
    counts: Counts
    longest: tuple[Length, ...]
    watermark: Watermark
    rollups: Checked | None = None


@click.command()
@click.option("--exact", is_flag=True, help="Count every event anew, and compare.")
@click.option("--rebuild", is_flag=True, help="Count every event anew, and keep that.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@store_option(files=True)
@click.pass_context
def stats(context: click.Context, *, url: str, exact: bool, rebuild: bool, as_json: bool) -> None:
    """How much there is: events and aggregates, by type, and the longest histories.

    And who holds readers that must miss nothing, where an open transaction does. A store counts
    from rollups that workers keep, and what they have not come to from the events. With --exact
    each row of the rollups is compared with the events it is made of; exit code 1: one differs,
    which --rebuild puts right. The service may go on writing.

    \b
    Examples:
      hindsight stats
      hindsight stats --exact
      hindsight stats --url events.ndjson.gz
      hindsight stats --json | jq .counts.events
    """
    with opened(url) as found:
        if (exact or rebuild) and found.store is None:
            raise click.UsageError(f"{found.source.info.name} has no rollups; a store has")
        if rebuild:
            _rebuild(url)
        checked = _check(found.store) if exact and found.store is not None else None
        told = _stats(found.source, checked)
    if as_json:
        click.echo(msgspec.json.encode(told))
    else:
        _print(told)
    context.exit(FOUND if checked is not None and checked.differences else 0)


def _check(store: Hindsight) -> Checked:
    with _progress(store.log.rolled_up()) as progress:
        return store.rollups.check(progress)


def _rebuild(url: str) -> None:
    with Hindsight(url, metrics=False) as store:
        settled = store.watermark().position
        with _progress(settled) as progress:
            store.rollups.rebuild(settled, progress)


@contextmanager
def _progress(positions: int) -> Iterator[Progress]:
    with click.progressbar(
        length=positions, label="counting", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        yield bar.update


def _stats(source: EventSource, rollups: Checked | None) -> Stats:
    longest = source.aggregates(order="longest", limit=LONGEST).items
    return Stats(
        store=source.info.name,
        counts=source.counts(),
        longest=tuple(
            Length(
                aggregate_id=head.aggregate_id,
                aggregate_type=head.aggregate_type,
                version=head.version,
            )
            for head in longest
        ),
        watermark=source.watermark(),
        rollups=rollups,
    )


def _print(found: Stats) -> None:
    counts = found.counts
    click.echo(f"store          {shown(found.store)}")
    click.echo(f"events         {counts.events:,}")
    click.echo(f"aggregates     {counts.aggregates:,}")
    click.echo(f"last position  {counts.last_position:,}")
    if found.rollups is not None:
        _print_check(found.rollups)
    if found.watermark.holder is not None:
        held = f"readers are held at #{found.watermark.position}"
        click.echo(f"{held} {by_whom(found.watermark.holder)}")
    _print_counts("event type", counts.events_by_type)
    _print_counts("aggregate type", counts.aggregates_by_type)
    if found.longest:
        rows = [(f"{one.version:,}", one.aggregate_type, one.aggregate_id) for one in found.longest]
        _print_table(Columns(">version", "type", "longest histories"), rows)


def _print_check(checked: Checked) -> None:
    wrong = len(checked.differences)
    verdict = f"{wrong:,} wrong" if wrong else "exact"
    click.echo(f"rollups        {verdict} up to #{checked.position:,}")
    for difference in checked.differences:
        click.echo(_line(difference))


def _line(difference: Difference) -> str:
    key = " ".join(_key_part(name, part) for name, part in difference.key.items())
    kept, counted = difference.kept, difference.counted
    if kept is None:
        what = "missing"
    elif counted is None:
        what = "of no event"
    else:
        what = ", ".join(
            f"{name} {value:,}, not {counted[name]:,}"
            for name, value in kept.items()
            if value != counted[name]
        )
    return shown(f"wrong: {difference.table} {key}: {what}")


def _key_part(name: str, part: object) -> str:
    if isinstance(part, datetime):
        return utc_text(part)
    return f"{part} h" if name == "hours" else str(part)


def _print_counts(title: str, counts: dict[str, int]) -> None:
    if counts:
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        _print_table(Columns(">count", title), [(f"{count:,}", name) for name, count in ranked])


def _print_table(columns: Columns, rows: Sequence[Sequence[str]]) -> None:
    click.echo()
    for line in columns.lines(rows):
        click.echo(line)
