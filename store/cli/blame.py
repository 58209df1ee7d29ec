"""`hindsight blame`."""

from typing import Any

import click
import msgspec

from store.analysis.blame import Blame, Entry, FieldBlame, Origin
from store.analysis.document import ABSENT, parts_of
from store.analysis.stepping import Stepper
from store.application import open_repository
from store.cli.changes import value_text
from store.cli.columns import Columns, shown, utc_text
from store.cli.parameters import WHOLE, Name
from store.cli.program import domain_option, store_option
from store.domain import Domains
from store.errors import VersionNotFound


class Pointer(click.ParamType[str]):
    """A place in a state."""

    name = "POINTER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parts_of(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


@click.command()
@click.argument("aggregate_id", metavar="ID", type=Name())
@click.option("--version", type=WHOLE, metavar="N", help="Of the state after event N.")
@click.option("--path", type=Pointer(), help="One field, as a JSON pointer, with its history.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@domain_option
@store_option(files=True)
def blame(
    *,
    url: str,
    domains: Domains,
    aggregate_id: str,
    version: int | None,
    path: str | None,
    as_json: bool,
) -> None:
    """Which event set each field of an aggregate's state, when and by whom.

    All events are replayed, whatever snapshots there are. With --path it is one field, with all
    its changes, even if it is gone.

    \b
    Examples:
      hindsight blame user-1 --domain users:domain
      hindsight blame user-1 --path /email
      hindsight blame user-1 --version 12 --json
    """
    with open_repository(url, domains) as repository:
        stepper = Stepper(repository, aggregate_id)
        if version is not None and version > stepper.aggregate.version:
            raise VersionNotFound(aggregate_id, version, newest=stepper.aggregate.version)
        found = Blame(stepper.initial)
        for step in stepper.steps(last=version):
            found.add(step)
    if path is not None:
        _print_field(found, path, as_json=as_json)
    elif as_json:
        fields = [_as_json(each) for each in found.fields()]
        click.echo(msgspec.json.encode({"version": found.version, "fields": fields}))
    else:
        columns = Columns("field", "value", *_ORIGIN, ">changes")
        for line in columns.lines([_row(each) for each in found.fields()]):
            click.echo(line)


_ORIGIN = (">version", "occurred at (UTC)", "type", "actor", "correlation")


def _print_field(found: Blame, path: str, *, as_json: bool) -> None:
    field = found.field(path)
    if field is None:
        raise click.ClickException(
            f"{path}: the state never had such a field, or it was of an item that left its list"
        )
    if as_json:
        history = [_entry(each) for each in field.history]
        click.echo(msgspec.json.encode(_as_json(field) | {"history": history}))
        return
    click.echo(shown(f"{path or 'the whole'}  {value_text(field.value)}"))
    if field.written_again is not None:
        click.echo(f"the same value was written again by version {field.written_again}")
    if field.changes > len(field.history):
        click.echo(f"the last {len(field.history):,} of {field.changes:,} changes:")
    columns = Columns(*_ORIGIN, "place", "before", "after")
    rows = [
        (
            *_origin(each.origin),
            each.change.path or "the whole",
            value_text(each.change.before, 40),
            value_text(each.change.after, 40),
        )
        for each in field.history
    ]
    for line in columns.lines(rows):
        click.echo(line)


def _row(each: FieldBlame) -> tuple[str, ...]:
    number = each.written_again
    again = "" if number is None else f" (written again by {number})"
    value = f"{value_text(each.value, 40)}{again}"
    return each.path or "the whole", value, *_origin(each.origin), f"{each.changes:,}"


def _origin(origin: Origin | None) -> tuple[str, ...]:
    if origin is None:
        return "–", "–", "the initial state", "–", "–"
    return (
        str(origin.version),
        utc_text(origin.occurred_at),
        origin.event_type,
        origin.actor or "–",
        origin.correlation_id or "–",
    )


def _as_json(each: FieldBlame) -> dict[str, Any]:
    """A value that is gone is left out."""
    return {
        "path": each.path,
        **({} if each.value is ABSENT else {"value": each.value}),
        "origin": each.origin,
        "changes": each.changes,
        "written_again": each.written_again,
    }


def _entry(each: Entry) -> dict[str, Any]:
    before = {} if each.change.before is ABSENT else {"before": each.change.before}
    return {"origin": each.origin, "change": each.change.as_patch(), **before}
