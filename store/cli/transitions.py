"""`hindsight transitions`."""

import sys

import click
import msgspec

from store.analysis.transitions import Transition, outline, outlines
from store.analysis.transitions import transitions as transitions_of
from store.application import open_source
from store.cli.columns import Columns
from store.cli.parameters import Name
from store.cli.program import store_option
from store.sources import EventSource


@click.command()
@click.argument("aggregate_id", metavar="[ID]", required=False, type=Name())
@click.option("--type", "aggregate_type", metavar="TYPE", type=Name(), help="All of this type.")
@click.option("--rare", is_flag=True, help="Only what follows in one of a hundred cases or fewer.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@store_option(files=True)
def transitions(
    *, url: str, aggregate_id: str | None, aggregate_type: str | None, rare: bool, as_json: bool
) -> None:
    """Which event type follows which, and how often, in one aggregate or in all of a type.

    \b
    Examples:
      hindsight transitions --type user
      hindsight transitions --type package --rare
      hindsight transitions user-1
    """
    if (aggregate_id is None) == (aggregate_type is None):
        raise click.UsageError("give either an ID or --type")
    with open_source(url) as source:
        if aggregate_id is not None:
            source.aggregate(aggregate_id)
            found = transitions_of([(aggregate_id, outline(source, aggregate_id))])
        else:
            found = _of_type(source, str(aggregate_type))
    found = [each for each in found if each.is_rare or not rare]
    if as_json:
        click.echo(msgspec.json.encode({"transitions": found}))
        return
    columns = Columns("after", "comes", ">times", ">share", "for example")
    for line in columns.lines(map(_row, found)):
        click.echo(line)


def _of_type(source: EventSource, aggregate_type: str) -> list[Transition]:
    known = source.counts().aggregates_by_type
    if aggregate_type not in known:
        there = ", ".join(sorted(known)) or "none"
        raise click.ClickException(f"no aggregate of type {aggregate_type!r}; there are: {there}")
    with click.progressbar(
        length=known[aggregate_type],
        label="aggregates",
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
    ) as bar:
        return transitions_of(outlines(source, aggregate_type, progress=bar.update))


def _row(each: Transition) -> tuple[str, ...]:
    examples = [f"{example.aggregate_id} at {example.version}" for example in each.examples]
    return (
        each.before or "(the beginning)",
        each.after,
        f"{each.count:,}",
        f"{each.share:.1%}",
        ", ".join(examples),
    )
