"""`hindsight append`."""

from datetime import datetime
from typing import Any
from uuid import UUID

import click

from store.application import Hindsight
from store.cli.columns import shown
from store.cli.parameters import Expected, Json, Moment, Name
from store.cli.program import store_option
from store.identifiers import new_event_id
from store.records import Context, NewEvent
from store.versions import ExpectedVersion


@click.command()
@click.argument("aggregate_type", metavar="TYPE", type=Name())
@click.argument("aggregate_id", metavar="ID", type=Name())
@click.argument("event_type", metavar="EVENT_TYPE", type=Name())
@click.option("--data", type=Json(), default="{}", help="Of the event; {} when left out.")
@click.option("--metadata", type=Json(), default="{}", help="An object.")
@click.option(
    "--expected",
    type=Expected(),
    default="any",
    show_default=True,
    help="The version the aggregate is at now; none: it is new.",
)
@click.option("--actor", type=Name())
@click.option("--correlation-id", type=Name())
@click.option("--event-id", type=click.UUID, help="Stored once, however often it is appended.")
@click.option("--occurred-at", type=Moment(), help="Now when left out.")
@click.option("--schema-version", type=click.IntRange(1, 2**31 - 1), default=1, show_default=True)
@store_option()
def append(
    *,
    url: str,
    aggregate_type: str,
    aggregate_id: str,
    event_type: str,
    data: Any,
    metadata: Any,
    expected: ExpectedVersion,
    actor: str | None,
    correlation_id: str | None,
    event_id: UUID | None,
    occurred_at: datetime | None,
    schema_version: int,
) -> None:
    """Append one event.

    \b
    Examples:
      hindsight append user user-1 UserCreated --data '{"name": "Ada"}' --expected none
      hindsight append user user-1 UserRenamed --data @renamed.json --expected 1 --actor ops
      jq .user event.json | hindsight append user user-1 UserImported --data -
    """
    if not isinstance(metadata, dict):
        raise click.BadParameter("not a JSON object", param_hint="'--metadata'")
    event = NewEvent(
        event_type,
        data,
        event_id=event_id or new_event_id(),
        schema_version=schema_version,
        metadata=metadata,
        occurred_at=occurred_at,
    )
    context = Context(actor=actor, correlation_id=correlation_id)
    with Hindsight(url) as store:
        appended = store.append(
            aggregate_type, aggregate_id, [event], expected=expected, context=context
        )
    known = " (stored before)" if appended.duplicate else ""
    click.echo(
        f"{shown(aggregate_id)} version {appended.version}, position {appended.position}{known}"
    )
