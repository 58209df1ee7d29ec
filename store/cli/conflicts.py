"""`hindsight conflicts`."""

from collections.abc import Sequence
from datetime import datetime
from typing import cast

import click
import msgspec

from store.application import Hindsight
from store.cli.columns import Columns, shown, utc_text
from store.cli.parameters import Since
from store.cli.program import store_option
from store.conflict import Verdict
from store.conflict_log import Conflicts, Grouping, Logged

SHOWN = 50
WORDS: dict[Verdict, str] = {
    "same": "no: the same decision",
    "commutes": "no: the same in either order",
    "other": "yes: another decision",
    "rejected": "yes: rejected now",
    "nothing": "yes: nothing left to do",
    "order": "yes: the order matters",
    "unknown": "not known",
}
"""Had it to be? What is known of it."""
_TITLES: dict[str, tuple[str, ...]] = {
    "aggregate": ("type", "aggregate"),
    "command": ("losing",),
    "pair": ("losing", "winning"),
    "hour": ("hour (UTC)",),
}


@click.command()
@click.option("--since", type=Since(), help="From this time on, or of the last 90s, 15min, 6h, 7d.")
@click.option("--by", type=click.Choice(list(_TITLES)), help="Count them by this.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@store_option()
def conflicts(*, url: str, since: datetime | None, by: str | None, as_json: bool) -> None:
    """Who lost against whom: the newest version conflicts, or how many there are.

    Absorbed is what a command settled by deciding again; escaped is what a caller got to see.
    Needless are those that need not have been: the command decided the same again, or the events
    lead to the same state in either order. Under a storm a row stands for several alike.

    \b
    Examples:
      hindsight conflicts --since 1h
      hindsight conflicts --by pair
      hindsight conflicts --by aggregate --json | jq '.conflicts[0]'
    """
    with Hindsight(url, read_only=True, metrics=False) as store:
        if by is None:
            newest = store.conflicts.newest(since=since, limit=SHOWN)
            _show_newest(newest, as_json=as_json)
        else:
            grouping = cast("Grouping", by)
            _show_counts(by, store.conflicts.counts(grouping, since=since), as_json=as_json)


def _show_newest(newest: Sequence[Logged], *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode({"conflicts": newest}))
        return
    if not newest:
        click.echo("no conflicts")
        return
    columns = Columns(
        *("time (UTC)", "outcome", ">×", "aggregate", ">expected", ">found", "losing", "winning"),
        "had it to be",
    )
    for line in columns.lines([_told(each) for each in newest]):
        click.echo(line)


def _told(each: Logged) -> tuple[str, ...]:
    return (
        utc_text(each.occurred_at, "seconds"),
        each.outcome,
        f"{each.weight:,}",
        "several" if each.aggregate_id is None else each.aggregate_id,
        _or_dash(each.expected),
        _or_dash(each.actual),
        each.losing,
        _or_dash(each.winning),
        WORDS[each.verdict],
    )


def _show_counts(by: str, found: Sequence[Conflicts], *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode({"conflicts": [_named(by, each) for each in found]}))
        return
    if not found:
        click.echo("no conflicts")
        return
    columns = Columns(">detected", ">absorbed", ">escaped", ">needless", *_TITLES[by])
    rows = [
        (
            *(f"{n:,}" for n in (each.detected, each.absorbed, each.escaped, each.needless)),
            *("several" if by == "aggregate" and part is None else _key(part) for part in each.key),
        )
        for each in found
    ]
    for line in columns.lines(rows):
        click.echo(line)


def _named(by: str, each: Conflicts) -> dict[str, object]:
    names = [title.removesuffix(" (UTC)") for title in _TITLES[by]]
    return {
        **dict(zip(names, each.key, strict=True)),
        "detected": each.detected,
        "absorbed": each.absorbed,
        "escaped": each.escaped,
        "needless": each.needless,
        "last_at": each.last_at,
    }


def _key(part: str | datetime | None) -> str:
    return utc_text(part, "minutes") if isinstance(part, datetime) else _or_dash(part)


def _or_dash(value: object) -> str:
    return "–" if value is None else shown(str(value))
