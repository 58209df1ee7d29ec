"""`hindsight events`."""

import shutil
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

import click
from msgspec import Struct

from store.application import Hindsight, open_source, opened, parse_url
from store.cli.columns import Columns, shortened, utc_text
from store.cli.parameters import WHOLE, Moment, Name
from store.cli.program import store_option
from store.interchange import format_line
from store.records import Axis, Event, FeedFilter
from store.sources import EventSource
from store.subscription import settled_position

ALIGNED = 100
"""How many rows are looked at for the columns' widths before they are printed."""
DATA_WIDTH = 80
"""Of the data column where the output is no terminal."""


class Wanted(Struct, frozen=True, kw_only=True):
    """The events asked for."""

    aggregate_id: str | None
    from_version: int | None
    to_version: int | None
    since: datetime | None
    until: datetime | None
    axis: Axis
    event_types: tuple[str, ...]
    aggregate_type: str | None
    correlation_id: str | None
    actor: str | None
    event_id: UUID | None
    after: int | None
    limit: int | None
    backward: bool
    follow: bool

    def check(self) -> None:
        """Refuse what does not go together."""
        versions = self.from_version is not None or self.to_version is not None
        if self.aggregate_id is None and versions:
            raise click.UsageError("--from-version and --to-version need an ID")
        if self.follow and (versions or self.backward):
            raise click.UsageError("--follow goes forward, by position")
        if self.aggregate_id is not None and self.after is not None and not self.follow:
            raise click.UsageError("--after is a position; with an ID use --from-version")

    @property
    def feed_filter(self) -> FeedFilter:
        return FeedFilter(
            aggregate_type=self.aggregate_type,
            event_types=self.event_types,
            since=self.since,
            until=self.until,
            axis=self.axis,
            correlation_id=self.correlation_id,
            actor=self.actor,
            event_id=self.event_id,
        )

    def matches(self, event: Event) -> bool:
        """Whether the event is wanted by what is not asked of the source."""
        return (
            self.aggregate_id in {None, event.aggregate_id}
            and (not self.event_types or event.event_type in self.event_types)
            and self.aggregate_type in {None, event.aggregate_type}
            and self.correlation_id in {None, event.correlation_id}
            and self.actor in {None, event.actor}
            and self.event_id in {None, event.event_id}
        )


@click.command()
@click.argument("aggregate_id", metavar="[ID]", required=False, type=Name())
@click.option("--from-version", type=WHOLE, metavar="N")
@click.option("--to-version", type=WHOLE, metavar="N", help="Included.")
@click.option("--since", type=Moment(), help="Included.")
@click.option("--until", type=Moment(), help="Excluded.")
@click.option(
    "--axis",
    type=click.Choice(["occurred", "recorded"]),
    default="occurred",
    show_default=True,
    help="The time that --since and --until speak of.",
)
@click.option("--type", "event_types", type=Name(), multiple=True, help="May be repeated.")
@click.option("--aggregate-type", type=Name())
@click.option("--correlation-id", type=Name())
@click.option("--actor", type=Name())
@click.option("--event-id", type=click.UUID)
@click.option("--after", type=WHOLE, metavar="POSITION", help="Excluded.")
@click.option("--limit", type=WHOLE, metavar="N", help="No more than that many.")
@click.option("--backward", is_flag=True, help="The newest first.")
@click.option("--follow", is_flag=True, help="Wait for new events, from --after on or from now.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON an event, as exported.")
@store_option(files=True)
def events(*, url: str, as_json: bool, **options: Any) -> None:
    """Show one aggregate's events by version, or the whole store's by position.

    \b
    Examples:
      hindsight events user-1 --to-version 5
      hindsight events --since 2026-11-22T09:00:00Z --type OrderPlaced --json
      hindsight events --backward --limit 20 --url events.ndjson.gz
      hindsight events --follow --aggregate-type order
    """
    wanted = Wanted(**options)
    wanted.check()
    if not wanted.follow:
        with open_source(url) as source:
            _print(_selected(source, wanted), as_json=as_json)
        return
    parse_url(url)
    with opened(url) as found:
        if found.store is None:
            raise click.ClickException(
                f"--follow needs a store of Hindsight's own, which {found.source.info.name} is not"
            )
        _print(_followed(found.store, wanted), as_json=as_json, at_once=True)


def _selected(source: EventSource, wanted: Wanted) -> Iterator[Event]:
    if wanted.aggregate_id is None:
        return source.feed(
            after=wanted.after or 0,
            where=wanted.feed_filter,
            backward=wanted.backward,
            limit=wanted.limit,
        )
    source.aggregate(wanted.aggregate_id)
    history = source.events(
        wanted.aggregate_id,
        from_version=wanted.from_version,
        to_version=wanted.to_version,
        since=wanted.since,
        until=wanted.until,
        axis=wanted.axis,
        backward=wanted.backward,
    )
    return islice(filter(wanted.matches, history), wanted.limit)


def _followed(store: Hindsight, wanted: Wanted) -> Iterator[Event]:
    after = settled_position(store.log) if wanted.after is None else wanted.after
    following = store.follow(after=after, where=wanted.feed_filter)
    return islice(filter(wanted.matches, following), wanted.limit)


def _print(events: Iterator[Event], *, as_json: bool, at_once: bool = False) -> None:
    output = sys.stdout.buffer
    table = _table(events, 1 if at_once else ALIGNED)
    lines: Iterator[bytes] = map(format_line, events) if as_json else table
    for line in lines:
        output.write(line)
        if at_once:
            output.flush()
    output.flush()


def _table(events: Iterator[Event], batch_size: int) -> Iterator[bytes]:
    columns = Columns(">position", ">version", "aggregate", "type", "occurred at (UTC)", "data")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    while batch := list(islice(events, batch_size)):
        yield from _lines(columns, batch, width)


def _lines(columns: Columns, batch: Iterable[Event], width: int | None) -> Iterator[bytes]:
    for line in columns.lines(map(_row, batch)):
        yield (line if width is None else shortened(line, width)).encode() + b"\n"


def _row(event: Event) -> tuple[str, ...]:
    return (
        str(event.position),
        str(event.version),
        event.aggregate_id,
        event.event_type,
        utc_text(event.occurred_at),
        _short(event.raw_data),
    )


def _short(data: bytes) -> str:
    start = data[: 4 * DATA_WIDTH + 4].decode(errors="ignore")
    return shortened(" ".join(start.split()), DATA_WIDTH)
