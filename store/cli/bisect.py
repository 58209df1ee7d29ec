"""`hindsight bisect` and `hindsight watch`."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import click
import msgspec

from store.analysis import Bisection, Expression, Found, Interval, Stepper, bisect_type
from store.analysis import bisect as bisected
from store.analysis import watch as watched
from store.analysis.evaluation import SECONDS
from store.application import open_repository
from store.cli.columns import Columns, shortened, shown, utc_text
from store.cli.parameters import Name
from store.cli.program import FOUND, domain_option, store_option
from store.domain import Domains
from store.folding import GENERIC
from store.identifiers import check_text
from store.records import Event
from store.repository import Repository

ALIGNED = 100
"""How many rows are looked at for the columns' widths before they are printed."""
VALUE_WIDTH = 80
MERGED = " (the events' data merged: there is no domain code)"

time_limit = click.option(
    "--time-limit",
    "seconds",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    default=SECONDS,
    show_default=True,
    help="How long the expression may take over an aggregate.",
)


@click.command()
@click.argument("words", metavar="[ID] EXPRESSION", nargs=-1, required=True)
@click.option("--type", "aggregate_type", type=Name(), help="Every aggregate of it, without an ID.")
@time_limit
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@domain_option
@store_option(files=True)
@click.pass_context
def bisect(
    context: click.Context,
    /,
    *,
    url: str,
    domains: Domains,
    words: Sequence[str],
    aggregate_type: str | None,
    seconds: float,
    as_json: bool,
) -> None:
    """From which version to which something holds of an aggregate's state, and what flipped it.

    The EXPRESSION is in CEL, and true or false; the state's fields are its variables, `state` is
    all of it. Where a field that it needs is not there, it is undefined. With --type, in which
    aggregates it ever holds. Exit code 1: an event cannot be folded; the state stayed as it was.

    \b
    Examples:
      hindsight bisect user-1 'locked'
      hindsight bisect order-7 'status == "paid" && size(items) > 3' --url events.ndjson.gz
      hindsight bisect --type user 'failed_logins >= 3' --json | jq '.aggregates[].aggregate_id'
    """
    if len(words) != (2 if aggregate_type is None else 1):
        raise click.UsageError("give an ID and an expression, or --type and an expression")
    expression = Expression(words[-1])
    with open_repository(url, domains) as repository:
        if aggregate_type is None:
            stepper = Stepper(repository, check_text("ID", words[0]))
            found = bisected(stepper.steps(), expression, seconds=seconds)
            _show(stepper, expression, found, as_json=as_json)
            unapplied, gaps = found.unapplied, 0
        else:
            every = _over_type(repository, aggregate_type, expression, seconds)
            generic = repository.fold_of(aggregate_type) is GENERIC
            _show_type(aggregate_type, expression, every, generic=generic, as_json=as_json)
            unapplied = sum(each.bisection.unapplied for each in every)
            gaps = _told_gaps(every)
    context.exit(FOUND if _told_unapplied(unapplied) or gaps else 0)


@click.command()
@click.argument("aggregate_id", metavar="ID", type=Name())
@click.argument("text", metavar="EXPRESSION")
@time_limit
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@domain_option
@store_option(files=True)
@click.pass_context
def watch(
    context: click.Context,
    /,
    *,
    url: str,
    domains: Domains,
    aggregate_id: str,
    text: str,
    seconds: float,
    as_json: bool,
) -> None:
    """What a value in an aggregate's state was, from which version to which.

    The EXPRESSION is in CEL, as for bisect, and may be of any type. Exit code 1: an event cannot
    be folded; the state stayed as it was.

    \b
    Examples:
      hindsight watch user-1 email
      hindsight watch order-7 'size(items)'
      hindsight watch order-7 'items.map(item, item.price)' --json | jq -c '.intervals[].value'
    """
    expression = Expression(text)
    unapplied = 0

    def counted(intervals: Iterable[Interval]) -> Iterator[Interval]:
        nonlocal unapplied
        for interval in intervals:
            unapplied += interval.unapplied
            yield interval

    with open_repository(url, domains) as repository:
        stepper = Stepper(repository, aggregate_id)
        intervals = counted(watched(stepper.steps(), expression, seconds=seconds))
        if as_json:
            told = [_document(each) for each in intervals]
            click.echo(msgspec.json.encode(_head(stepper, expression) | {"intervals": told}))
        else:
            _print_intervals(intervals)
            if stepper.generic:
                click.echo(MERGED.strip())
    context.exit(FOUND if _told_unapplied(unapplied) else 0)


def _show(stepper: Stepper, expression: Expression, found: Bisection, *, as_json: bool) -> None:
    if not as_json:
        _print_intervals(iter(found.intervals))
        click.echo(_summary(found) + (MERGED if stepper.generic else ""))
        return
    flips = [interval.first for interval in found.flips]
    told = {
        "seen": found.seen,
        "held": found.held,
        "first_flip": flips[0] if flips else None,
        "last_flip": flips[-1] if flips else None,
        "unapplied": found.unapplied,
        "intervals": [_document(each) for each in found.intervals],
    }
    click.echo(msgspec.json.encode(_head(stepper, expression) | told))


def _head(stepper: Stepper, expression: Expression) -> dict[str, Any]:
    return {
        "aggregate_id": stepper.aggregate.aggregate_id,
        "aggregate_type": stepper.aggregate.aggregate_type,
        "expression": expression.text,
        "generic": stepper.generic,
    }


def _document(interval: Interval) -> dict[str, Any]:
    event = interval.event
    answer = interval.answer
    return {
        "first": interval.first,
        "last": interval.last,
        "kind": answer.kind,
        "value": answer.value,
        "error": answer.error,
        "event": {
            "version": event.version,
            "event_type": event.event_type,
            "occurred_at": event.occurred_at,
            "actor": event.actor,
        },
    }


def _print_intervals(intervals: Iterator[Interval]) -> None:
    columns = Columns(">from", ">to", "occurred at (UTC)", "type", "actor", "value")
    while batch := list(islice(intervals, ALIGNED)):
        for line in columns.lines([_row(each) for each in batch]):
            click.echo(line)


def _row(interval: Interval) -> tuple[str, ...]:
    event: Event = interval.event
    return (
        str(interval.first),
        str(interval.last),
        utc_text(event.occurred_at),
        event.event_type,
        event.actor or "–",
        shortened(_value(interval), VALUE_WIDTH),
    )


def _value(interval: Interval) -> str:
    answer = interval.answer
    match answer.kind:
        case "value":
            return msgspec.json.encode(answer.value).decode()
        case "error":
            return f"error: {answer.error}"
    return answer.kind


def _summary(found: Bisection) -> str:
    holds = f"holds at {found.held:,} of {_number(found.seen, 'version')}"
    flips = [interval.first for interval in found.flips]
    if not flips:
        return f"{holds}, never flips"
    if len(flips) == 1:
        return f"{holds}, flips once, at {flips[0]}"
    return f"{holds}, flips {len(flips):,} times, first at {flips[0]}, last at {flips[-1]}"


def _over_type(
    repository: Repository, aggregate_type: str, expression: Expression, seconds: float
) -> list[Found]:
    known = repository.source.counts().aggregates_by_type
    if aggregate_type not in known:
        types = ", ".join(sorted(known)) or "none"
        raise click.ClickException(f"no aggregate of type {aggregate_type!r}; there are: {types}")
    with click.progressbar(
        length=known[aggregate_type],
        label="bisecting",
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
    ) as bar:
        return list(
            bisect_type(
                repository, aggregate_type, expression, seconds=seconds, progress=bar.update
            )
        )


def _show_type(
    aggregate_type: str,
    expression: Expression,
    every: Sequence[Found],
    *,
    generic: bool,
    as_json: bool,
) -> None:
    holding = [each for each in every if each.bisection.holding]
    if as_json:
        told = {
            "aggregate_type": aggregate_type,
            "expression": expression.text,
            "generic": generic,
            "seen": len(every),
            "aggregates": [_found(each) for each in holding],
            "gaps": [str(each.gap) for each in every if each.gap],
        }
        click.echo(msgspec.json.encode(told))
        return
    columns = Columns(">from", ">to", ">held", ">of", "aggregate")
    rows = [tuple(map(str, _found(each).values())) for each in holding]
    for line in columns.lines(row[1:] + row[:1] for row in rows):
        click.echo(line)
    note = MERGED if generic else ""
    click.echo(f"holds in {len(holding):,} of {_number(len(every), 'aggregate')}{note}")


def _found(each: Found) -> dict[str, Any]:
    """Where it first came to hold, and until when it last did."""
    bisection = each.bisection
    return {
        "aggregate_id": each.aggregate.aggregate_id,
        "first": bisection.holding[0].first,
        "last": bisection.holding[-1].last,
        "held": bisection.held,
        "seen": bisection.seen,
    }


def _told_gaps(every: Sequence[Found]) -> int:
    gaps = [each.gap for each in every if each.gap]
    for gap in gaps:
        click.echo(shown(f"error: {gap}; what came after is not in it"), err=True)
    return len(gaps)


def _told_unapplied(unapplied: int) -> int:
    if unapplied:
        events = _number(unapplied, "event")
        click.echo(f"error: {events} cannot be applied; the state stayed as it was", err=True)
    return unapplied


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
