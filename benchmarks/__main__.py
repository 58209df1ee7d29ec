"""Speed beside bare drivers and a peer: `python -m benchmarks`."""

from collections.abc import Iterator, Mapping

import click

from benchmarks import caching, plan, projecting, publishing, report, results, sizes
from benchmarks.measures import opened
from benchmarks.ours import Ours
from benchmarks.plan import Cost, Outcome, Plan, Stores
from benchmarks.publishing import Latency
from benchmarks.sizes import Size
from benchmarks.stores import OURS, PostgreSQLStores, SQLiteStores, stores
from store.verification import verify


class Findings:
    """What a run has found so far, told as it is found."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.costs: list[Cost] = []
        self.sizes: list[Size] = []
        self.memory: Mapping[str, float] = {}
        self.latencies: dict[str, Latency] = {}
        self.lags: dict[str, Latency] = {}

    def add(self, found: Outcome | Cost) -> None:
        """Keep it and say it."""
        if isinstance(found, Outcome):
            self.outcomes.append(found)
            click.echo(f"{found.database}, {found.title}: {report.summary(found)}", err=True)
        else:
            self.costs.append(found)
            click.echo(f"{found.title}: {report.summary(found)}", err=True)


@click.command()
@click.option("--quick", is_flag=True, help="Few and small rounds, nothing written.")
@click.option(
    "--only", multiple=True, type=click.Choice(plan.NAMES), help="Just this; may be repeated."
)
@click.option("--rounds", type=click.IntRange(1), help="Rounds of each measure.  [default: 11]")
def main(*, quick: bool, only: tuple[str, ...], rounds: int | None) -> None:
    """Compare the store with hand-written code and with `eventsourcing`; print the tables.

    A full run, about ten minutes on a quiet machine, also writes benchmarks/RESULTS.md.
    """
    chosen = Plan(rounds or (3 if quick else 11), quick, frozenset(only))
    findings = Findings()
    with stores() as (postgresql, sqlite):
        for place in (postgresql, sqlite):
            _measure(chosen, place, findings)
        page = report.render(
            postgresql,
            findings.outcomes,
            findings.costs,
            findings.sizes,
            memory=findings.memory,
            latencies=findings.latencies,
            lags=findings.lags,
            rounds=chosen.rounds,
        )
    click.echo(page)
    if not quick and not only:
        results.write(page)


def _measure(chosen: Plan, place: Stores, findings: Findings) -> None:
    url = place.new()
    for outcome in plan.writing(chosen, place, url):
        findings.add(outcome)
    for outcome in _loads(chosen, place, url):
        findings.add(outcome)
    if chosen.has("cache") and isinstance(place, SQLiteStores):
        findings.memory = caching.memory(place.new())
    _measure_publishing(chosen, place, url, findings)
    _measure_projecting(chosen, place, findings)
    if isinstance(place, PostgreSQLStores) and chosen.has("fence"):
        for cost in plan.fence(chosen, url):
            findings.add(cost)
    _check(url)
    if chosen.has(plan.SCAN.name, "sizes"):
        _measure_loaded(chosen, place, findings)
    if chosen.has("import"):
        for outcome in plan.importing_logs(chosen, place):
            findings.add(outcome)


def _measure_publishing(chosen: Plan, place: Stores, url: str, findings: Findings) -> None:
    if not chosen.has("outbox"):
        return
    for outcome in plan.publishing_events(chosen, place, url):
        findings.add(outcome)
    appends = 100 if chosen.quick else 1_000
    findings.latencies[place.name] = publishing.latency(place.new(), appends)


def _measure_projecting(chosen: Plan, place: Stores, findings: Findings) -> None:
    if not chosen.has("projections"):
        return
    url = place.new()
    for outcome in plan.keeping_read_models(chosen, place, url):
        findings.add(outcome)
    appends = 100 if chosen.quick else 1_000
    findings.lags[place.name] = projecting.lag(url, appends)
    _check(url)


def _loads(chosen: Plan, place: Stores, url: str) -> Iterator[Outcome]:
    if chosen.has("replay"):
        yield from plan.replaying_histories(chosen, place, url)
    if chosen.has("load"):
        yield from plan.loading_aggregates(chosen, place, url)
    if chosen.has("upcast"):
        yield plan.upcasting(chosen, place, url)
    if chosen.has("metrics"):
        yield from plan.measuring(chosen, place, url)
    if chosen.has("execute"):
        yield plan.executing(chosen, place, url)
    if chosen.has("cache"):
        yield from plan.caching_aggregates(chosen, place, url)


def _measure_loaded(chosen: Plan, place: Stores, findings: Findings) -> None:
    url = place.new()
    openers = place.openers(url)
    plan.fill(chosen, openers)
    place.settle(url)
    _check(url)
    if chosen.has("sizes"):
        findings.sizes += sizes.measure(place, url, chosen.size(plan.SCAN))
    if chosen.has(plan.SCAN.name):
        findings.add(plan.scanning(chosen, place, openers))


def _check(url: str) -> None:
    """All contenders on the store's tables must have left what the store calls sound."""
    with opened({OURS: lambda: Ours(url)}) as contenders:
        ours = contenders[OURS]
        assert isinstance(ours, Ours)
        found = verify(ours.store.log)
    if found.findings:
        raise SystemExit(f"a contender wrote something unsound: {found.findings[0]}")


if __name__ == "__main__":
    main()
