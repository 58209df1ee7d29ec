"""`hindsight archive`."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from msgspec import Struct

from store.application import Hindsight
from store.archive import ArchivePlan, ArchiveStanding, Moved, Policy
from store.cli.columns import Columns, bytes_text, shown, span_text, utc_text
from store.cli.parameters import Name, Span
from store.cli.program import FOUND, INTERRUPTED, domain_option, store_option
from store.domain import Domains
from store.errors import AccessDenied, DatabaseBusy

F = TypeVar("F", bound=Callable[..., Any])

SHOWN = 20


class Planned(Struct, frozen=True, kw_only=True):
    """What archiving a store by a policy would do."""

    store: str
    policy: Policy
    plan: ArchivePlan


class Status(Struct, frozen=True, kw_only=True):
    """How the archive of a store stands, and what an event takes in it and out of it, in bytes.

    `ratio` is the first of the two to the other; None where one of them is not known.
    """

    store: str
    standing: ArchiveStanding
    is_behind: bool
    bytes_per_archived_event: float | None
    bytes_per_active_event: float | None
    ratio: float | None


@click.group()
def archive() -> None:
    """Old events, moved out of the table that is written to, and read all the same.

    `hindsight work` archives once a day, unless EVENT_STORE_ARCHIVE=off.

    \b
    Examples:
      hindsight archive plan --older-than 365d
      hindsight archive run
      hindsight archive status
    """


def policy_options(command: F) -> F:
    """Gives a command what differs from the policy that the environment sets."""
    older_than = click.option(
        "--older-than",
        type=Span(),
        help="Recorded longer ago, as 90d; else EVENT_STORE_ARCHIVE_AFTER (730d).",
    )
    keep_active = click.option(
        "--keep-active",
        type=click.IntRange(0, 2**63 - 1),
        metavar="N",
        help="Beyond the newest N; else EVENT_STORE_KEEP_ACTIVE (10000000).",
    )
    return older_than(keep_active(command))


@archive.command("plan")
@policy_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@store_option()
def plan_(
    *, url: str, older_than: timedelta | None, keep_active: int | None, as_json: bool
) -> None:
    """What would move, and what that would save; nothing does.

    An event moves when it was recorded long ago, and so was every one before it, or when there are
    enough newer ones. Each that would move is looked at.

    \b
    Examples:
      hindsight archive plan
      hindsight archive plan --older-than 365d --json | jq .plan.events
    """
    with Hindsight(url, metrics=False) as store:
        planned = _planned(store, _policy(store, older_than, keep_active))
    _show_plan(planned, as_json=as_json)


@archive.command()
@click.option("--dry-run", is_flag=True, help="Only tell what would move, as `plan` does.")
@policy_options
@domain_option
@store_option()
@click.pass_context
def run(
    context: click.Context,
    /,
    *,
    url: str,
    domains: Domains,
    dry_run: bool,
    older_than: timedelta | None,
    keep_active: int | None,
) -> None:
    """Move old events to the archive, while others read and write.

    A batch of 2,000 is a transaction, and then as long a pause. With the domain's code, aggregates
    that go on get a snapshot first, so that loading them needs nothing of what is archived. Ctrl-C
    ends it after the batch; the next run goes on there. On PostgreSQL it takes a role that `migrate
    --archiver-role` has let in.

    \b
    Examples:
      hindsight archive run --dry-run
      hindsight archive run --domain users:domain
      hindsight archive run --older-than 90d --keep-active 1000000
    """
    with Hindsight(url, domain=domains, metrics=False) as store:
        policy = _policy(store, older_than, keep_active)
        if dry_run:
            _show_plan(_planned(store, policy), as_json=False)
            return
        with _stopping() as stop:
            _run(store, policy, stop)
    context.exit(INTERRUPTED if stop.is_set() else 0)


@archive.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@store_option()
@click.pass_context
def status(context: click.Context, /, *, url: str, as_json: bool) -> None:
    """How much is archived, what it takes, and who was taken back from it.

    Exit code 1: on PostgreSQL a partition is missing, or events are in the default one for that.

    \b
    Examples:
      hindsight archive status
      hindsight archive status --json | jq .ratio
    """
    with Hindsight(url, read_only=True, metrics=False) as store:
        found = _status(store)
        policy = store.archive.policy
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        for line in _told(found, policy):
            click.echo(shown(line))
    context.exit(FOUND if found.standing.missing or found.standing.default else 0)


@archive.command()
@click.argument("aggregate_id", metavar="[ID]", required=False, type=Name())
@click.option("--all", "everything", is_flag=True, help="Of all aggregates.")
@store_option()
def restore(*, url: str, aggregate_id: str | None, everything: bool) -> None:
    """Take events back from the archive: of an aggregate, or of all.

    It is held from then on: none of its events is archived until it is given back.

    \b
    Examples:
      hindsight archive restore user-1
      hindsight archive restore --all
    """
    _check_choice(aggregate_id, everything=everything)
    with Hindsight(url, metrics=False) as store, _archiving():
        if aggregate_id is None:
            length = store.archive.standing(at_once=True).events
            _tell_each("restored", length, store.archive.restore_all())
            return
        restored = store.archive.restore(aggregate_id)
    click.echo(shown(f"{aggregate_id}: {_events(restored)} restored; held until it is given back"))


@archive.command("give-back")
@click.argument("aggregate_id", metavar="[ID]", required=False, type=Name())
@click.option("--all", "everything", is_flag=True, help="All that are held.")
@store_option()
def give_back(*, url: str, aggregate_id: str | None, everything: bool) -> None:
    """Archive again what was restored, and hold it no longer.

    \b
    Examples:
      hindsight archive give-back user-1
      hindsight archive give-back --all
    """
    _check_choice(aggregate_id, everything=everything)
    with Hindsight(url, metrics=False) as store, _archiving():
        if aggregate_id is None:
            held = [each.aggregate_id for each in store.archive.restored()]
            _tell_each(
                "archived again", None, ((id_, store.archive.give_back(id_)) for id_ in held)
            )
            return
        given = store.archive.give_back(aggregate_id)
    click.echo(shown(f"{aggregate_id}: {_events(given)} archived again; no longer held"))


@archive.command()
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@store_option()
def export(*, url: str, folder: Path) -> None:
    """Copy what is archived to files, one a month.

    They are as `import --restore` takes them, with their digests in SHA256SUMS; the same events
    give the same files.

    \b
    Examples:
      hindsight archive export /backup/events
      cd /backup/events && sha256sum -c SHA256SUMS
    """
    exported = []
    with (
        Hindsight(url, read_only=True, metrics=False) as store,
        _bar("exporting", store.archive.standing(at_once=True).events) as bar,
    ):
        for each in store.archive.export(folder):
            exported.append(each)
            bar.update(each.events)
    for each in exported:
        click.echo(shown(f"{each.path}  {_events(each.events)}"))
    click.echo(f"{_events(sum(each.events for each in exported))} exported")


def _policy(store: Hindsight, older_than: timedelta | None, keep_active: int | None) -> Policy:
    usual = store.archive.policy
    return Policy(
        older_than=usual.older_than if older_than is None else older_than,
        keep_active=usual.keep_active if keep_active is None else keep_active,
    )


def _planned(store: Hindsight, policy: Policy) -> Planned:
    return Planned(store=store.info.name, policy=policy, plan=store.archive.plan(policy))


class _Tally:
    """What was moved."""

    def __init__(self) -> None:
        self.events = self.batches = self._bytes = self._position = 0

    def note(self, moved: Moved) -> None:
        self.events += moved.events
        self.batches += 1
        self._bytes += moved.bytes
        self._position = moved.last_position

    def line(self) -> str:
        batches = "1 batch" if self.batches == 1 else f"{self.batches:,} batches"
        told = f"{_events(self.events)} archived in {batches}, up to position {self._position}"
        return f"{told}: {bytes_text(self._bytes)} packed"


def _run(store: Hindsight, policy: Policy, stop: threading.Event) -> None:
    tally = _Tally()
    length = store.archive.plan(policy).events if sys.stderr.isatty() else 0
    try:
        with _archiving(), _bar("archiving", length) as bar:
            for moved in store.archive.run(policy, stop=stop):
                tally.note(moved)
                bar.update(moved.events)
    finally:
        if tally.batches:
            click.echo(tally.line())
    if not tally.batches:
        click.echo(f"nothing to archive; the policy: {_policy_text(policy)}")
    elif stop.is_set():
        click.echo("stopped; the next run goes on there", err=True)


@contextmanager
def _archiving() -> Iterator[None]:
    """Says what to do about it where nothing can be moved."""
    try:
        yield
    except AccessDenied as error:
        told = "it takes a role that was let in by: hindsight migrate --archiver-role"
        raise AccessDenied(f"{error}; {told}") from error
    except DatabaseBusy as error:
        told = "somebody writes to what is to be moved, and does not end"
        raise DatabaseBusy(f"{told}; try again later ({error})") from error


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Set when the process is told to stop; told a second time, it does so at once."""
    stop = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def note(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in numbers:
        signal.signal(number, note)
    try:
        yield stop
    finally:
        for number in numbers:
            signal.signal(number, before[number])


def _bar(label: str, length: int | None) -> Any:
    hidden = not length or not sys.stderr.isatty()
    return click.progressbar(length=length or 0, label=label, file=sys.stderr, hidden=hidden)


def _check_choice(aggregate_id: str | None, *, everything: bool) -> None:
    if (aggregate_id is None) != everything:
        raise click.UsageError("give an ID or --all")


def _tell_each(done: str, length: int | None, moved: Iterator[tuple[str, int]]) -> None:
    aggregates = events = 0
    try:
        with _bar(done, length) as bar:
            for _, count in moved:
                aggregates += 1
                events += count
                bar.update(count)
    finally:
        if aggregates:
            counted = "1 aggregate" if aggregates == 1 else f"{aggregates:,} aggregates"
            click.echo(f"{_events(events)} of {counted} {done}")
    if not aggregates:
        click.echo(f"nothing to be {done}")


def _show_plan(planned: Planned, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(planned))
        return
    for line in _plan_told(planned):
        click.echo(shown(line))


def _plan_told(planned: Planned) -> Iterator[str]:
    plan = planned.plan
    yield f"store        {planned.store}"
    yield f"policy       {_policy_text(planned.policy)}"
    if not plan.events:
        yield "moves        nothing"
    else:
        until = "" if plan.latest is None else f", recorded until {_time(plan.latest)} UTC"
        yield f"moves        {_events(plan.events)}, up to position {plan.through_position}{until}"
        yield f"takes        {_saving(plan)}"
        yield from _read_there(plan)
    if plan.held:
        yield f"held         {_events(plan.held)} of aggregates that were restored stay"
    if plan.behind:
        yield f"behind       {_events(plan.behind)} stay, though old, behind younger ones"


def _read_there(plan: ArchivePlan) -> Iterator[str]:
    if plan.projections:
        yield f"projections  {', '.join(plan.projections)} would read on in the archive"
    if plan.unpublished:
        records = "1 record" if plan.unpublished == 1 else f"{plan.unpublished:,} records"
        yield f"outbox       {records} would be published from the archive"


def _saving(plan: ArchivePlan) -> str:
    if plan.archived_bytes is None:
        return "not known"
    archived = f"{bytes_text(plan.archived_bytes)} in the archive"
    if not plan.active_bytes:
        return archived
    saved = plan.active_bytes - plan.archived_bytes
    share = f"{saved / plan.active_bytes:.0%}"
    return f"{bytes_text(plan.active_bytes)} now, {archived}: saves {share}"


def _status(store: Hindsight) -> Status:
    standing = store.archive.standing()
    archived = _each(standing.size, standing.events)
    active = _each(standing.active_size, standing.active_events)
    return Status(
        store=store.info.name,
        standing=standing,
        is_behind=store.archive.is_behind(standing),
        bytes_per_archived_event=archived,
        bytes_per_active_event=active,
        ratio=archived / active if archived and active else None,
    )


def _each(size: int | None, events: int) -> float | None:
    return size / events if size is not None and events else None


def _told(found: Status, policy: Policy) -> Iterator[str]:
    standing = found.standing
    yield f"store     {found.store}"
    yield f"archived  {_archived(standing)}"
    if standing.earliest is not None and standing.latest is not None:
        yield f"recorded  {_time(standing.earliest)} to {_time(standing.latest)} UTC"
        yield f"takes     {_taken(found)}"
    oldest = standing.oldest_active
    since = "" if oldest is None else f", the oldest recorded {_time(oldest)} UTC"
    yield f"active    about {_events(standing.active_events)}{since}"
    ran = "never" if standing.ran_at is None else f"{_time(standing.ran_at)} UTC"
    yield f"last run  {ran}"
    yield f"policy    {_policy_text(policy)}"
    yield from _faults(found)
    if standing.restored:
        yield ""
        columns = Columns("restored, and held", "since (UTC)", "by")
        yield from columns.lines(
            (each.aggregate_id, _time(each.restored_at), each.restored_by)
            for each in standing.restored[:SHOWN]
        )
        if len(standing.restored) > SHOWN:
            yield f"… and {len(standing.restored) - SHOWN:,} more"


def _archived(standing: ArchiveStanding) -> str:
    if not standing.events:
        return "nothing"
    packs = "1 pack" if standing.packs == 1 else f"{standing.packs:,} packs"
    place = f"up to position {standing.through_position}"
    return f"{_events(standing.events)} in {packs}, {place}"


def _taken(found: Status) -> str:
    standing = found.standing
    taken = f"{bytes_text(standing.bytes)} packed"
    if standing.size is not None:
        taken = f"{bytes_text(standing.size)}, {taken}"
    if found.ratio is not None:
        taken += f"; an event {found.ratio:.2f} of what an active one takes"
    return taken


def _faults(found: Status) -> Iterator[str]:
    standing = found.standing
    if found.is_behind:
        yield "behind    nobody has archived since yesterday, and there are events that are too old"
    if standing.missing:
        months = ", ".join(f"{month:%Y-%m}" for month in standing.missing)
        yield f"missing   partitions of {months}; run: hindsight archive run"
    if standing.default:
        packs = "1 pack" if standing.default == 1 else f"{standing.default:,} packs"
        todo = "restore their aggregates, and give them back"
        yield f"default   {packs} in the default partition; {todo}"


def _policy_text(policy: Policy) -> str:
    older = span_text(policy.older_than.total_seconds())
    return f"older than {older}, or beyond the newest {policy.keep_active:,}"


def _events(count: int) -> str:
    return "1 event" if count == 1 else f"{count:,} events"


def _time(moment: datetime) -> str:
    return utc_text(moment, "seconds")
