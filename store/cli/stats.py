"""`hindsight stats`."""

from collections.abc import Sequence

import click
import msgspec
from msgspec import Struct

from store.application import open_source
from store.cli.columns import Columns, shown
from store.cli.holding import by_whom
from store.cli.program import store_option
from store.records import Counts, Watermark
from store.sources import EventSource

LONGEST = 10


class Length(Struct, frozen=True, kw_only=True):
    """An aggregate and how long its history is."""

    aggregate_id: str
    aggregate_type: str
    version: int


class Stats(Struct, frozen=True, kw_only=True):
    """How much a source holds, its longest histories, and how far it may be followed."""

    store: str
    counts: Counts
    longest: tuple[Length, ...]
    watermark: Watermark


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@store_option(files=True)
def stats(*, url: str, as_json: bool) -> None:
    """How much there is: events and aggregates, by type, and the longest histories.

    And who holds readers that must miss nothing, where an open transaction does.

    \b
    Examples:
      hindsight stats
      hindsight stats --url events.ndjson.gz
      hindsight stats --json | jq .counts.events
    """
    with open_source(url) as source:
        found = _stats(source)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        _print(found)


def _stats(source: EventSource) -> Stats:
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
    )


def _print(found: Stats) -> None:
    counts = found.counts
    click.echo(f"store          {shown(found.store)}")
    click.echo(f"events         {counts.events:,}")
    click.echo(f"aggregates     {counts.aggregates:,}")
    click.echo(f"last position  {counts.last_position:,}")
    if found.watermark.holder is not None:
        held = f"readers are held at #{found.watermark.position}"
        click.echo(f"{held} {by_whom(found.watermark.holder)}")
    _print_counts("event type", counts.events_by_type)
    _print_counts("aggregate type", counts.aggregates_by_type)
    if found.longest:
        rows = [(f"{one.version:,}", one.aggregate_type, one.aggregate_id) for one in found.longest]
        _print_table(Columns(">version", "type", "longest histories"), rows)


def _print_counts(title: str, counts: dict[str, int]) -> None:
    if counts:
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        _print_table(Columns(">count", title), [(f"{count:,}", name) for name, count in ranked])


def _print_table(columns: Columns, rows: Sequence[Sequence[str]]) -> None:
    click.echo()
    for line in columns.lines(rows):
        click.echo(line)
