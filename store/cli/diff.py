"""`hindsight diff`."""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import click
import msgspec

from store.analysis.changes import Change, as_patch, diff
from store.analysis.forms import Form, forms
from store.analysis.sides import Point, Side, side, snapshot_and_replay
from store.analysis.stepping import Step, Stepper
from store.application import Hindsight, open_repository
from store.cli.changes import lines_of, value_text
from store.cli.columns import Columns, shown, utc_text
from store.cli.parameters import WHOLE, Moment, Name
from store.cli.program import FOUND, domain_option, store_option
from store.cli.replay import ALIGNED
from store.domain import Domains
from store.errors import VersionNotFound
from store.repository import Repository


class State(click.ParamType[int | datetime]):
    """Which state of an aggregate: after a version, or as of a time."""

    name = "N|TIME"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | datetime:
        if isinstance(value, int | datetime):
            return value
        if value.isascii() and value.isdecimal() and len(value) < 19:
            return int(value)
        try:
            return Moment().convert(value, param, ctx)
        except click.UsageError:
            self.fail(f"{value!r} is neither a version nor a time with its zone", param, ctx)


@click.command("diff")
@click.argument("aggregate_id", metavar="ID", type=Name())
@click.argument("one", metavar="[A]", required=False, type=State())
@click.argument("other", metavar="[B]", required=False, type=State())
@click.option("--with", "other_id", metavar="ID", type=Name(), help="B is of this aggregate.")
@click.option("--snapshot", is_flag=True, help="The newest snapshot, and the replay up to it.")
@click.option(
    "--event",
    "event_version",
    type=WHOLE,
    metavar="N",
    help="Event N as it was stored, and as each upcaster made it.",
)
@click.option(
    "--axis",
    type=click.Choice(["occurred", "recorded"]),
    default="occurred",
    show_default=True,
    help="The time that A and B speak of.",
)
@click.option("--patch", is_flag=True, help="The changes as JSON Patch (RFC 6902).")
@click.option("--json", "as_json", is_flag=True, help="Both sides and the changes, as JSON.")
@domain_option
@store_option(files=True)
@click.pass_context
def diff_states(
    context: click.Context, /, *, url: str, domains: Domains, aggregate_id: str, **wanted: Any
) -> None:
    """What differs between two states, and which events made the difference.

    A and B are versions or times: without B it is the newest state, without both it is compared
    with the one before its last event. Items of lists are matched by their id, key or name, where
    they have one.

    Exit code 1: the snapshot is not what the events lead to, or an event cannot be folded.

    \b
    Examples:
      hindsight diff user-1 3 7
      hindsight diff user-1 2026-11-22T02:00:00Z --domain users:domain
      hindsight diff user-1 --with user-2
      hindsight diff user-1 --snapshot
      hindsight diff user-1 --event 1
      hindsight diff order-7 1 9 --patch --url events.ndjson.gz
    """
    _check(wanted)
    if wanted["snapshot"]:
        with Hindsight(url, domain=domains, read_only=True) as store:
            sides = snapshot_and_replay(store.repository, store.snapshots, aggregate_id)
        names = ("the snapshot", "the replay")
        context.exit(FOUND if _print(names, sides, wanted) else 0)
    with open_repository(url, domains) as repository:
        if wanted["event_version"] is not None:
            _print_forms(repository, aggregate_id, wanted)
            return
        sides = _sides(repository, aggregate_id, wanted)
        _print(("", ""), sides, wanted)
        if not (wanted["patch"] or wanted["as_json"]):
            _print_between(repository, *sides)
    stopped = [each.stopped for each in sides if each.stopped]
    for message in dict.fromkeys(stopped):
        click.echo(f"error: {message}", err=True)
    context.exit(FOUND if stopped else 0)


def _check(wanted: dict[str, Any]) -> None:
    alone = wanted["snapshot"] + (wanted["event_version"] is not None)
    beside = [wanted[name] for name in ("one", "other", "other_id") if wanted[name] is not None]
    if alone > 1 or (alone and beside):
        raise click.UsageError("--snapshot and --event stand alone, without A, B and --with")
    if wanted["patch"] and wanted["as_json"]:
        raise click.UsageError("give either --patch or --json")


def _sides(repository: Repository, aggregate_id: str, wanted: dict[str, Any]) -> tuple[Side, Side]:
    other_id = wanted["other_id"] or aggregate_id
    second = side(repository, other_id, wanted["other"], axis=wanted["axis"])
    point: Point = wanted["one"]
    if point is None and other_id == aggregate_id:
        point = max(second.version, repository.source.info.first_version) - 1
    return side(repository, aggregate_id, point, axis=wanted["axis"]), second


def _print(names: Sequence[str], sides: Sequence[Side], wanted: dict[str, Any]) -> list[Change]:
    """Both sides and their changes, as wanted; the changes."""
    changes = diff(sides[0].state, sides[1].state)
    if wanted["patch"]:
        click.echo(msgspec.json.encode(as_patch(changes)))
    elif wanted["as_json"]:
        found = {"one": sides[0], "other": sides[1], "changes": as_patch(changes)}
        click.echo(msgspec.json.encode(found))
    else:
        click.echo(shown(_headline(names, sides)))
        for change in changes:
            for line in lines_of(change):
                click.echo(f"  {line}")
        if not changes:
            click.echo("  nothing differs")
    return changes


def _headline(names: Sequence[str], sides: Sequence[Side]) -> str:
    one, other = map(_named, names, sides)
    if sides[0].aggregate_id != sides[1].aggregate_id:
        other = f"{sides[1].aggregate_id}, {other}"
    merged = any(each.generic for each in sides)
    note = " (the events' data merged: there is no domain code)" if merged else ""
    return f"{sides[0].aggregate_id}, {one} → {other}{note}"


def _named(name: str, each: Side) -> str:
    version = f"version {each.version}"
    moment = f", as of {utc_text(each.as_of)} UTC" if each.as_of else ""
    return f"{name} at {version}" if name else f"{version}{moment}"


def _print_between(repository: Repository, one: Side, other: Side) -> None:
    """The events between two states of one aggregate, and what each contributed."""
    first, last = sorted((one.version, other.version))
    if one.aggregate_id != other.aggregate_id or first == last:
        return
    click.echo()
    columns = Columns(">version", "occurred at (UTC)", "type", "actor", "changed")
    steps = Stepper(repository, one.aggregate_id).steps(first + 1, last)
    while rows := [_row(step) for step in islice(steps, ALIGNED)]:
        for line in columns.lines(rows):
            click.echo(line)


def _row(step: Step) -> tuple[str, ...]:
    event = step.event
    changed = ", ".join(change.path or "the whole" for change in step.changes) or "nothing"
    return (
        str(event.version),
        utc_text(event.occurred_at),
        event.event_type,
        event.actor or "–",
        f"cannot be folded: {step.error}" if step.error else changed,
    )


def _print_forms(repository: Repository, aggregate_id: str, wanted: dict[str, Any]) -> None:
    version = wanted["event_version"]
    summary = repository.source.aggregate(aggregate_id)
    events = repository.source.events(aggregate_id, from_version=version, to_version=version)
    event = next(events, None)
    if event is None:
        raise VersionNotFound(aggregate_id, version, newest=summary.version)
    found = forms(event, repository.domains.aggregate(summary.aggregate_type))
    if wanted["as_json"] or wanted["patch"]:
        shown_forms = [_form(each) for each in found]
        click.echo(msgspec.json.encode({"forms": shown_forms}))
        return
    for index, each in enumerate(found):
        kind = "as the code reads it" if index == len(found) - 1 else "upcasted"
        kind = "as it was stored" if index == 0 else kind
        click.echo(shown(f"{each.event_type} {each.schema_version}, {kind}"))
        if index == 0:
            click.echo(f"  {value_text(each.data, width=1_000)}")
        for change in each.changes:
            for line in lines_of(change):
                click.echo(f"  {line}")
        if each.failure:
            click.echo(shown(f"  cannot go on: {each.failure}"))


def _form(each: Form) -> dict[str, Any]:
    return {
        "event_type": each.event_type,
        "schema_version": each.schema_version,
        "data": each.data,
        "changes": as_patch(each.changes),
        "failure": each.failure,
    }
