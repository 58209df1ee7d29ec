"""`hindsight snapshot`."""

import sys
import time
from collections.abc import Callable, Sequence

import click
import msgspec
from msgspec import Struct

from store.application import Hindsight
from store.cli.columns import Columns, shown, utc_text
from store.cli.parameters import Name
from store.cli.program import FOUND, domain_option, store_option
from store.domain import Domains
from store.snapshots import LoadCost, Snapshot
from store.work import take_due

ADVISED = 20
FAR = 2
"""Intervals; who folds more than so many would gain by a snapshot."""


class Load(Struct, frozen=True, kw_only=True):
    """An aggregate, how many events a load of it folds, and how long one took just now."""

    aggregate_id: str
    aggregate_type: str
    version: int
    snapshot_version: int
    events: int
    milliseconds: float


@click.command()
@click.argument("aggregate_id", metavar="[ID]", required=False, type=Name())
@click.option("--due", is_flag=True, help="Take one of every aggregate where one is due.")
@click.option("--list", "listed", is_flag=True, help="Show those of ID, or all.")
@click.option("--drop", is_flag=True, help="Remove those of ID, or all; loads replay then.")
@click.option("--advise", is_flag=True, help="The dearest loads, timed.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@domain_option
@store_option()
@click.pass_context
def snapshot(
    context: click.Context,
    /,
    *,
    url: str,
    domains: Domains,
    aggregate_id: str | None,
    as_json: bool,
    **flags: bool,
) -> None:
    """Take a snapshot of an aggregate's state, from all of its events, or look after those taken.

    Commands take them when they are due, and `hindsight work` does for other appends. Exit code 1:
    one that is due could not be taken.

    \b
    Examples:
      hindsight snapshot user-1 --domain users:domain
      hindsight snapshot --due
      hindsight snapshot --list --json | jq '.snapshots | length'
      hindsight snapshot --advise
    """
    chosen = [name for name, given in flags.items() if given]
    _check(chosen, aggregate_id)
    action = _ACTIONS[chosen[0] if chosen else "take"]
    read_only = chosen in (["listed"], ["advise"])
    with Hindsight(url, domain=domains, read_only=read_only) as store:
        complete = action(store, aggregate_id, as_json)
    context.exit(0 if complete else FOUND)


def _check(chosen: Sequence[str], aggregate_id: str | None) -> None:
    if len(chosen) > 1:
        raise click.UsageError("give one of --due, --list, --drop, --advise")
    if not chosen and aggregate_id is None:
        raise click.UsageError("give an ID, or one of --due, --list, --drop, --advise")
    if chosen and chosen[0] in {"due", "advise"} and aggregate_id is not None:
        raise click.UsageError(f"--{chosen[0]} takes no ID")


def _take(store: Hindsight, aggregate_id: str | None, as_json: bool) -> bool:  # noqa: FBT001 (an action)
    assert aggregate_id is not None  # noqa: S101
    store.snapshot(aggregate_id)
    newest = [each for each in store.snapshots.list(aggregate_id) if each.own][-1]
    if as_json:
        click.echo(msgspec.json.encode(newest))
    else:
        at = f"snapshot at version {newest.version}, {newest.bytes:,} bytes"
        click.echo(shown(f"{newest.aggregate_id}: {at}"))
    return True


def _take_due(store: Hindsight, _: str | None, as_json: bool) -> bool:  # noqa: FBT001 (an action)
    if not store.domains.domains:
        raise click.UsageError("no domain named; give --domain MODULE:NAME or EVENT_STORE_DOMAIN")
    with click.progressbar(
        length=sum(1 for _ in store.snapshots.due()),
        label="snapshots",
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
    ) as bar:
        taken = take_due(store, progress=bar.update)
    for failure in taken.failures:
        click.echo(f"error: {' '.join(failure.split())}", err=True)
    click.echo(msgspec.json.encode(taken) if as_json else f"{_counted(taken.taken)} taken")
    return not taken.failures


def _list(store: Hindsight, aggregate_id: str | None, as_json: bool) -> bool:  # noqa: FBT001 (an action)
    found = store.snapshots.list(aggregate_id)
    if as_json:
        click.echo(msgspec.json.encode({"snapshots": list(found)}))
        return True
    columns = Columns("aggregate", ">version", ">bytes", "taken at (UTC)", "fold")
    for line in columns.lines(map(_listed, found)):
        click.echo(line)
    return True


def _listed(each: Snapshot) -> tuple[str, ...]:
    return (
        each.aggregate_id,
        str(each.version),
        f"{each.bytes:,}",
        utc_text(each.taken_at, "seconds"),
        "this code's" if each.own else f"another, {each.fingerprint[:8]}",
    )


def _drop(store: Hindsight, aggregate_id: str | None, as_json: bool) -> bool:  # noqa: FBT001 (an action)
    dropped = store.snapshots.drop(aggregate_id)
    click.echo(
        msgspec.json.encode({"dropped": dropped}) if as_json else f"{_counted(dropped)} dropped"
    )
    return True


def _advise(store: Hindsight, _: str | None, as_json: bool) -> bool:  # noqa: FBT001 (an action)
    loads = [_timed(store, cost) for cost in store.snapshots.costs(ADVISED)]
    if as_json:
        click.echo(msgspec.json.encode({"loads": loads}))
        return True
    columns = Columns("aggregate", "type", ">version", ">snapshot", ">events", ">ms")
    for line in columns.lines(map(_told, loads)):
        click.echo(line)
    for line in _advice(loads, store.domains):
        click.echo(shown(line))
    return True


def _timed(store: Hindsight, cost: LoadCost) -> Load:
    started = time.perf_counter()
    store.load(cost.aggregate_id)
    elapsed = 1_000 * (time.perf_counter() - started)
    return Load(
        aggregate_id=cost.aggregate_id,
        aggregate_type=cost.aggregate_type,
        version=cost.version,
        snapshot_version=cost.snapshot_version,
        events=cost.events,
        milliseconds=round(elapsed, 3),
    )


def _told(load: Load) -> tuple[str, ...]:
    return (
        load.aggregate_id,
        load.aggregate_type,
        f"{load.version:,}",
        f"{load.snapshot_version:,}" if load.snapshot_version else "–",
        f"{load.events:,}",
        f"{load.milliseconds:,.1f}",
    )


def _advice(loads: Sequence[Load], domains: Domains) -> list[str]:
    """What to do about it, behind an empty line."""
    every = {each.aggregate_type: each.snapshot_every for each in domains.aggregates}
    far = sum(load.events > FAR * (every.get(load.aggregate_type) or load.events) for load in loads)
    said = []
    if far:
        folds = "of these loads folds" if far == 1 else "of these loads fold"
        due = "take those due: hindsight snapshot --due"
        said.append(f"{far} {folds} more than {FAR} intervals; {due}")
    unknown = sorted({load.aggregate_type for load in loads} - every.keys())
    if unknown:
        said.append(f"no domain code here for: {', '.join(unknown)}")
    return ["", *said] if said else []


def _counted(count: int) -> str:
    return "1 snapshot" if count == 1 else f"{count:,} snapshots"


_ACTIONS: dict[str, Callable[[Hindsight, str | None, bool], bool]] = {
    "take": _take,
    "due": _take_due,
    "listed": _list,
    "drop": _drop,
    "advise": _advise,
}
