"""The results as Markdown."""

import os
import platform
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version

from benchmarks.plan import Cost, Outcome
from benchmarks.publishing import Latency
from benchmarks.rounds import Ratio
from benchmarks.sizes import Size
from benchmarks.stores import PostgreSQLStores, file_system

_PACKAGES = ("psycopg", "SQLAlchemy", "msgspec", "eventsourcing")
_INTRODUCTION = """
Ratios of speeds: contenders take turns round by round, each ratio compares one round's neighbours,
the table tells the median and (lowest–highest). **bare** is hand-written code on psycopg or sqlite3
that writes the same tables, indexes, triggers and digests. **eventsourcing** is the PyPI package on
the same server as its tutorial uses it: an application saves aggregates, which stay in memory;
**fast** is its event store without aggregates, inserting by its database function, with JSON by
msgspec; in replays its events are folded by hand, which is that package tuned as far as it goes.
Neither writes heads, digests or event ids. An import is compared with a COPY, on SQLite an
executemany, of lines decoded beforehand. A read model by hand is a loop over the same batches that
looks rows up, folds them as lists and writes them back as arrays, on SQLite by executemany. Loads
share one core with their server: what waking an idle core takes is the hypervisor's, and several
times what is measured. Speeds per second are this machine's and drift; the ratios are what counts.
"""


def render(
    stores: PostgreSQLStores,
    outcomes: Sequence[Outcome],
    costs: Sequence[Cost],
    sizes: Sequence[Size],
    *,
    memory: Mapping[str, float],
    latencies: Mapping[str, Latency],
    lags: Mapping[str, Latency],
    rounds: int,
) -> str:
    """The whole page."""
    parts = ["# Results of `make bench`", _INTRODUCTION.strip(), _outcomes(outcomes)]
    if costs:
        parts += ["## The cost of the fence to a tailing reader (PostgreSQL)", _costs(costs)]
    if sizes:
        parts += ["## Bytes per event", _sizes(sizes)]
    if memory:
        rows = ([title, f"{taken:.1f}"] for title, taken in memory.items())
        table = _table(["L1 is full of states and of", "MB of Python objects"], rows)
        parts += ["## Memory of a full cache", table]
    if latencies:
        parts += ["## From the call of an append to a consumer of Redis Streams", _times(latencies)]
    if lags:
        title = "## From the call of an append until a read model is waited for"
        parts += [title, _lags(lags)]
    return "\n\n".join([*parts, "## Measured with", _environment(stores, rounds)]) + "\n"


def summary(found: Outcome | Cost) -> str:
    """One line for whoever waits."""
    if isinstance(found, Cost):
        return f"{_ratio(found.ratio)} of {found.beside}"
    if found.other is not None:
        return _ratio(found.other)
    return f"bare {_ratio(found.bare)}, peer {_ratio(found.peer)}, fast {_ratio(found.fast_peer)}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _outcomes(outcomes: Sequence[Outcome]) -> str:
    head = [
        "measure",
        "database",
        "ours / bare",
        "target",
        "ours / eventsourcing",
        "target",
        "ours / eventsourcing, fast",
        "ours / what is named",
        "target",
        "ours, events/s",
    ]
    return _table(
        head,
        (
            [
                outcome.title,
                outcome.database,
                _ratio(outcome.bare),
                _target(outcome.bare, outcome.bare_target),
                _ratio(outcome.peer),
                _target(outcome.peer, outcome.peer_target),
                _ratio(outcome.fast_peer),
                _ratio(outcome.other),
                _target(outcome.other, outcome.other_target),
                f"{outcome.speed:,.0f}" if outcome.speed else "–",
            ]
            for outcome in outcomes
        ),
    )


def _times(latencies: Mapping[str, Latency]) -> str:
    return _table(
        ["database", "p50, ms", "target", "p99, ms"],
        (
            [name, f"{found.median:.1f}", _at_most(found.median, 5.0), f"{found.p99:.1f}"]
            for name, found in latencies.items()
        ),
    )


def _lags(lags: Mapping[str, Latency]) -> str:
    return _table(
        ["database", "p50, ms", "p99, ms"],
        ([name, f"{found.median:.1f}", f"{found.p99:.1f}"] for name, found in lags.items()),
    )


def _at_most(found: float, target: float) -> str:
    return f"≤ {target:.0f} {'met' if found <= target else '**missed**'}"


def _costs(costs: Sequence[Cost]) -> str:
    return _table(
        ["what", "beside", "ratio of speeds", "per second"],
        ([cost.title, cost.beside, _ratio(cost.ratio), f"{cost.speed:,.0f}"] for cost in costs),
    )


def _sizes(sizes: Sequence[Size]) -> str:
    totals = {size.database: 0.0 for size in sizes}
    for size in sizes:
        totals[size.database] += size.bytes_per_event
    rows = [[size.database, size.name, f"{size.bytes_per_event:.1f}"] for size in sizes]
    rows += [[database, "**together**", f"{total:.1f}"] for database, total in totals.items()]
    return _table(["database", "table or index", "bytes"], rows)


def _environment(stores: PostgreSQLStores, rounds: int) -> str:
    [(server,)] = stores.server.execute("SHOW server_version")
    [(fsync,)] = stores.server.execute("SHOW fsync")
    place = file_system(stores.server.directory)
    revision = version("hindsight-event-store")
    facts = [
        f"`make bench`, {rounds} rounds, {datetime.now(UTC):%Y-%m-%d}",
        f"{os.cpu_count()} cores, {platform.system()}, files on {place}",
        f"hindsight {revision}, Python {platform.python_version()}",
        f"PostgreSQL {server} over a Unix socket, fsync {fsync}",
        f"SQLite {sqlite3.sqlite_version}, WAL, synchronous FULL",
        ", ".join(f"{package} {version(package)}" for package in _PACKAGES),
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return "–"
    return f"{ratio.median:.2f} ({ratio.lowest:.2f}–{ratio.highest:.2f})"


def _target(ratio: Ratio | None, target: float | None) -> str:
    if ratio is None or target is None:
        return "–"
    return f"≥ {target:.2f} {'met' if ratio.median >= target else '**missed**'}"
