"""`hindsight work`."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import click
from prometheus_client import start_http_server

from store.application import Hindsight
from store.archive import Moved
from store.cli.columns import shown
from store.cli.parameters import Address
from store.cli.program import domain_option, store_option
from store.cli.projections import tell_left_out
from store.domain import Domains
from store.errors import AccessDenied, ArchiveBusy, ProjectionError
from store.outbox import Relayed
from store.outbox.records import last_line
from store.projections import Projector
from store.settings import Settings
from store.work import (
    Done,
    archive_due,
    archiving,
    beside,
    project_due,
    projecting,
    publish_due,
    publishing,
    work_once,
)
from store.work import work as keep_working


@click.command()
@click.option("--once", is_flag=True, help="Do what there is to do, and end.")
@click.option(
    "--metrics", "metrics_at", type=Address(), help="Answer Prometheus there, under /metrics."
)
@domain_option
@store_option()
def work(*, url: str, domains: Domains, once: bool, metrics_at: tuple[str, int] | None) -> None:
    """Do the work that no request waits for, until told to stop.

    What was appended is brought to the handlers of the domain, and to Redis Streams where
    EVENT_STORE_TOPIC names a topic; EVENT_STORE_RELAY=off leaves that to others. The domain's read
    models follow what was appended, unless EVENT_STORE_PROJECTIONS=off. Snapshots that are due are
    taken: commands take their own, this is for other appends and imports. Those of folds that no
    process has had for 7 days are removed, and those taken last are compared with full replays,
    each hour; what was published longer ago than EVENT_STORE_OUTBOX_RETENTION (7d) is trimmed.
    Events are counted by type and hour, for `stats` and histograms. Once a day, at 00:00 UTC, one
    of the workers archives what was recorded longer ago than EVENT_STORE_ARCHIVE_AFTER (730d), and
    what is beyond the newest EVENT_STORE_KEEP_ACTIVE (10000000) events, unless
    EVENT_STORE_ARCHIVE=off. Any number of workers may run.

    \b
    Examples:
      hindsight work --domain users:domain
      hindsight work --domain users:domain --metrics 0.0.0.0:9101
      hindsight work --once
    """
    if not (domains.domains or Settings.from_environment().topic):
        raise click.UsageError("no domain named; give --domain MODULE:NAME or EVENT_STORE_DOMAIN")
    with Hindsight(url, domain=domains) as store, ExitStack() as stack:
        relay, projectors = store.own_relay(), store.own_projectors()
        if once:
            if relay is not None:
                publish_due(relay, _report_dead)
            for projector in projectors:
                _project(projector)
            _report(work_once(store))
            _archive(store)
            return
        if metrics_at is not None:
            stack.enter_context(_answering(store, *metrics_at))
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        told = "publishing nothing" if relay is None else f"publishing to {relay.publisher}"
        if projectors:
            told += f", projecting {', '.join(each.projection.name for each in projectors)}"
        click.echo(shown(f"working on {store.info.name}, {told} (Ctrl-C stops it)"))
        tasks = [
            *publishing(relay, stop, _report_dead),
            *projecting(projectors, stop, tell_left_out),
            *archiving(store, stop),
        ]
        with beside(stop, tasks):
            keep_working(store, stop=stop, report=_report)


@contextmanager
def _answering(store: Hindsight, host: str, port: int) -> Iterator[None]:
    """Tell Prometheus the metrics of this process, until the block ends."""
    try:
        server, thread = start_http_server(port, host, store.metrics.registry)
    except OSError as error:
        where = click.Option(["--metrics"])
        raise click.BadParameter(f"{host}:{port}: {error.strerror}", param=where) from None
    shown_host = f"[{host}]" if ":" in host else host
    click.echo(f"metrics on http://{shown_host}:{server.server_port}/metrics")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _archive(store: Hindsight) -> None:
    moved: list[Moved] = []
    try:
        archive_due(store, threading.Event(), moved.append)
    except (AccessDenied, ArchiveBusy) as error:
        click.echo(shown(f"nothing archived: {error}"))
    if moved:
        click.echo(f"{sum(each.events for each in moved):,} events archived")


def _project(projector: Projector) -> None:
    try:
        project_due(projector, tell_left_out)
    except ProjectionError as error:
        click.echo(shown(f"error: {error}"), err=True)


def _report_dead(relayed: Relayed) -> None:
    for dead in relayed.dead:
        place = f"{dead.aggregate_id} version {dead.version}"
        told = f"error: dead letter: {place}: {last_line(dead.error or '')}"
        click.echo(shown(told), err=True)


def _report(done: Done) -> None:
    for failure in done.snapshots.failures:
        click.echo(f"error: {' '.join(failure.split())}", err=True)
    for finding in done.drift:
        place = f"{finding.aggregate_id} version {finding.version}"
        click.echo(shown(f"error: drift: {place}: {finding.explanation}"), err=True)
    taken = done.snapshots.taken
    counted = "1 snapshot" if taken == 1 else f"{taken:,} snapshots"
    trimmed = f", {done.trimmed:,} published records trimmed" if done.trimmed else ""
    click.echo(f"{counted} taken, {done.pruned:,} pruned{trimmed}")
