"""`hindsight replay`."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import click
import msgspec

from store.application import open_repository
from store.cli.columns import Columns, shown, utc_text
from store.cli.parameters import WHOLE, Moment, Name
from store.cli.program import FOUND, domain_option, store_option
from store.domain import Domains
from store.errors import ApplyFailed, InvalidDomain
from store.folding import Step, changed_fields
from store.records import Loaded

ALIGNED = 100
"""How many rows are looked at for the columns' widths before they are printed."""


@click.command()
@click.argument("aggregate_id", metavar="ID", type=Name())
@click.option("--version", type=WHOLE, metavar="N", help="The state after event N.")
@click.option("--as-of", type=Moment(), help="The state of the events until then, included.")
@click.option(
    "--axis",
    type=click.Choice(["occurred", "recorded"]),
    default="occurred",
    show_default=True,
    help="The time that --as-of speaks of.",
)
@click.option("--no-snapshot", is_flag=True, help="Fold every event, whatever snapshots there are.")
@click.option("--json", "as_json", is_flag=True, help="The state alone, as one JSON document.")
@domain_option
@store_option(files=True)
@click.pass_context
def replay(
    context: click.Context,
    /,
    *,
    url: str,
    domains: Domains,
    aggregate_id: str,
    as_json: bool,
    no_snapshot: bool,
    **wanted: Any,
) -> None:
    """Fold an aggregate's events into its state, by the domain's code.

    What each event changed is listed above the state. Without domain code the events' data is
    merged, and the answer says so. Exit code 1: an event cannot be folded; the state before it is
    shown.

    \b
    Examples:
      hindsight replay user-1
      hindsight replay user-1 --version 12 --domain users:domain
      hindsight replay user-1 --as-of 2026-11-22T02:00:00Z --axis recorded --json
      hindsight replay user-1 --no-snapshot --json | jq .folded
      hindsight replay order-7 --url events.ndjson.gz
    """
    failed: ApplyFailed | None = None
    snapshots = False if no_snapshot else None
    with open_repository(url, domains, snapshots=snapshots) as repository:
        try:
            loaded = repository.load(aggregate_id, **wanted)
        except ApplyFailed as error:
            loaded, failed = error.reached, error
        shown_state = _encoded(loaded if as_json else loaded.state)
        if as_json:
            click.echo(shown_state)
        else:
            # What is appended meanwhile does not stand above a state without it.
            newest = {} if failed or wanted["as_of"] else {"version": loaded.version}
            _print_steps(repository.replay(aggregate_id, **wanted | newest))
            _print_state(loaded, shown_state)
    if failed is not None:
        click.echo(f"error: {' '.join(str(failed).split())}", err=True)
        context.exit(FOUND)


def _print_steps(steps: Iterator[Step]) -> None:
    columns = Columns(">version", "occurred at (UTC)", "type", "changed")
    rows = map(_row, _until_failure(steps))
    while batch := list(islice(rows, ALIGNED)):
        for line in columns.lines(batch):
            click.echo(line)


def _until_failure(steps: Iterator[Step]) -> Iterator[Step]:
    try:
        yield from steps
    except ApplyFailed:  # told at the end, beside the state that was reached
        return


def _row(step: Step) -> tuple[str, ...]:
    return (
        str(step.event.version),
        utc_text(step.event.occurred_at),
        step.event.event_type,
        ", ".join(changed_fields(step.before, step.after)) or "nothing",
    )


def _encoded(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError) as error:
        raise InvalidDomain(f"the state cannot be shown as JSON: {error}") from error


def _print_state(loaded: Loaded[Any], state: bytes) -> None:
    notes = ["the events' data merged: there is no domain code"] if loaded.generic else []
    if loaded.left_out:
        notes.append(f"{loaded.left_out:,} earlier versions left out: they occurred later")
    said = "".join(f" ({note})" for note in notes)
    kind = _with_article(loaded.aggregate_type)
    click.echo()
    click.echo(shown(f"{loaded.aggregate_id}, {kind}, after version {loaded.version}{said}"))
    click.echo(msgspec.json.format(state, indent=2))


def _with_article(noun: str) -> str:
    # By letters, as far as that goes: a user, an order.
    return f"an {noun}" if noun[:1].lower() in {"a", "e", "i", "o"} else f"a {noun}"
