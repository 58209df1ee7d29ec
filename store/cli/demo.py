"""`hindsight demo`."""

import sys
from datetime import UTC, datetime

import click

from store.application import Hindsight, migrate
from store.cli.program import store_option
from store.sampling import EVENTS, PROCESSES, Order, check_sample, play
from store.settings import Settings


@click.command()
@click.option(
    "--events", type=click.IntRange(1), default=EVENTS, show_default=True, help="About so many."
)
@click.option("--processes", type=click.IntRange(1, 64), default=PROCESSES, show_default=True)
@click.option("--domain", metavar="MODULE:NAME", help="Whose sample; else EVENT_STORE_DOMAIN.")
@store_option()
def demo(*, url: str, events: int, processes: int, domain: str | None) -> None:
    """Fill an empty store with a domain's sample, made where there is none.

    Its commands run as a service would run them, in several processes at once, so there are
    conflicts between them.

    \b
    Examples:
      hindsight demo --domain users:domain
      hindsight demo --domain users:domain --events 100000 --url postgresql://app@db/demo
    """
    domains = domain or Settings.from_environment().domain or ""
    order = Order(url=url, domains=domains, events=events, until=datetime.now(UTC))
    check_sample(domains)
    migrate(url)
    with click.progressbar(
        length=events, label="playing", file=sys.stderr, hidden=not sys.stderr.isatty()
    ) as bar:
        played = play(order, processes=processes, progress=lambda done: bar.update(done - bar.pos))
    with Hindsight(url, read_only=True) as store:
        counts = store.counts()
    click.echo(
        f"{counts.events:,} events of {counts.aggregates:,} aggregates by {processes} processes;"
        f" {played.rejected:,} commands rejected, {played.absorbed:,} conflicts absorbed,"
        f" {played.escaped:,} escaped"
    )
