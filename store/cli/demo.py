"""`hindsight demo`."""

import sys
from datetime import UTC, datetime
from typing import Any

import click

from store.application import Hindsight, migrate
from store.cli.program import store_option
from store.domain import Domains, load_domains
from store.generation import generate, kinds_of
from store.sampling import EVENTS, PROCESSES, SEED, Order, check_sample, play
from store.settings import Settings

PLAYED = 100_000
"""So many events are played in a minute or two."""


@click.command()
@click.option(
    "--events",
    type=click.IntRange(1),
    default=EVENTS,
    show_default=True,
    help="About so many; exactly, where they are generated.",
)
@click.option(
    "--play/--generate",
    "played",
    default=None,
    help=f"How they are made.  [default: more than {PLAYED:,} are generated]",
)
@click.option("--processes", type=click.IntRange(1, 64), default=PROCESSES, show_default=True)
@click.option("--seed", type=int, default=SEED, help="Another one makes other events.")
@click.option("--domain", metavar="MODULE:NAME", help="Whose sample; else EVENT_STORE_DOMAIN.")
@store_option()
def demo(
    *,
    url: str,
    events: int,
    played: bool | None,
    processes: int,
    seed: int,
    domain: str | None,
) -> None:
    """Fill an empty store with a domain's sample, made where there is none.

    Its commands are played as a service would run them, in several processes at once, so there are
    conflicts between them. A large store is generated instead: histories of 2 to 100,000 events
    over two years, as the domain makes them up, without a domain those of orders. They are copied
    as an import is, 10,000,000 events in minutes on PostgreSQL, and nothing is published.

    \b
    Examples:
      hindsight demo --domain users:domain
      hindsight demo --domain users:domain --events 10000000 --url postgresql://app@db/demo
      hindsight demo --generate --events 20000 --url sqlite:///orders.db
    """
    domains = domain or Settings.from_environment().domain or ""
    until = datetime.now(UTC)
    if played or (played is None and events <= PLAYED):
        order = Order(url=url, domains=domains, events=events, seed=seed, until=until)
        _play(order, processes)
    else:
        _generate(url, domains, events=events, seed=seed, until=until)


def _play(order: Order, processes: int) -> None:
    check_sample(order.domains)
    migrate(order.url)
    with _bar("playing", order.events) as bar:
        played = play(order, processes=processes, progress=lambda done: bar.update(done - bar.pos))
    with Hindsight(order.url, read_only=True) as store:
        counts = store.counts()
    click.echo(
        f"{counts.events:,} events of {counts.aggregates:,} aggregates by {processes} processes;"
        f" {played.rejected:,} commands rejected, {played.absorbed:,} conflicts absorbed,"
        f" {played.escaped:,} escaped"
    )


def _generate(url: str, domains: str, **options: Any) -> None:
    kinds = kinds_of(load_domains(domains) if domains else Domains())
    migrate(url)
    with Hindsight(url) as store, _bar("generating", options["events"]) as bar:
        made = generate(
            store.log, kinds, progress=lambda done: bar.update(done - bar.pos), **options
        )
    click.echo(f"{made.events:,} events of {made.aggregates:,} aggregates generated")


def _bar(label: str, length: int) -> Any:
    hidden = not sys.stderr.isatty()
    return click.progressbar(length=length, label=label, file=sys.stderr, hidden=hidden)
