"""No hot query reads a whole table: what the store sends, as the databases plan it."""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from store import Hindsight, NewEvent, exact
from store.domain import Domains
from store.errors import VersionConflict
from store.generation import generate, kinds_of
from store.listings import FEW
from store.records import AggregateOrder
from store.work import roll_up
from tests import plans
from tests.plans import Plan, Statement
from tests.servers import PostgresServer
from users import domain

EVENTS = 20_000
PAGE = 50
SHORT = "user-12"
FAILED = {"at": "2026-11-28T00:00:00Z", "ip_address": "198.51.100.7", "reason": "wrong password"}
_NAME = "planned"
_WRITES = re.compile(r"\b(INSERT|UPDATE)\b")


class Planned(Struct, frozen=True):
    """A store with events, and how its database goes about what it is sent."""

    store: Hindsight
    server: PostgresServer | None
    path: Path
    long: str
    """An aggregate of 200 events."""

    def plans(self, action: Callable[[Hindsight], object]) -> Sequence[Plan]:
        """Those of the statements of `action`."""
        sent = plans.statements(self.store, lambda: action(self.store), server=self.server)
        assert sent
        return [plan for each in sent for plan in self._plans(each)]

    def _plans(self, statement: Statement) -> Iterator[Plan]:
        if self.server is None:
            yield plans.on_sqlite(str(self.path), statement.sql)
            return
        # What is prepared may be planned without its values, once it was run five times.
        yield plans.on_postgresql(self.server, _NAME, statement.prepared)
        if not _WRITES.search(statement.sql):
            yield plans.run_on_postgresql(self.server, _NAME, statement.sql)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def planned(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Planned]:
    path = tmp_path_factory.mktemp(_NAME) / "store.db"
    server: PostgresServer | None = None
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("_sqlite_template"), path)
        url = f"sqlite:///{path}"
    else:
        server = request.getfixturevalue("postgres_server")
        assert server is not None
        template = request.getfixturevalue("_postgres_template")
        server.execute(f"CREATE DATABASE {_NAME} TEMPLATE {template}")
        url = server.url(_NAME)
    domains = Domains([domain])
    with Hindsight(plans.telling(url), domain=domains, cache=False, metrics=False) as store:
        until = datetime(2026, 11, 28, tzinfo=UTC)
        generate(store.log, kinds_of(domains), events=EVENTS, until=until, seed=1)
        roll_up(store, store.watermark().position)
        if server is not None:  # as autovacuum would
            server.execute("VACUUM (ANALYZE)", database=_NAME)
        [longest] = store.aggregates(order="longest", limit=1).items
        assert longest.version == 200
        yield Planned(store, server, path, longest.aggregate_id)
    if server is not None:
        server.execute(f"DROP DATABASE {_NAME} WITH (FORCE)")


def check(found: Sequence[Plan], *, rows: int) -> None:
    """No whole table of events or heads is read, and of all tables no more than so many rows."""
    for plan in found:
        told = f"{plan.sql}\n{plan.text}"
        whole = {scan.table for scan in plan.scans if scan.whole}
        assert whole.isdisjoint({"events", "aggregates", "e", "a"}), told
        assert sum(scan.rows or 0 for scan in plan.scans) <= rows, told


def test_a_load_reads_its_own_events(planned: Planned) -> None:
    check(planned.plans(lambda store: store.load(SHORT)), rows=20)


def test_a_load_from_a_snapshot_reads_what_is_behind_it(planned: Planned) -> None:
    planned.store.snapshot(planned.long)
    found = planned.plans(lambda store: store.load(planned.long))
    check(found, rows=2)
    assert any("snapshots" in plan.sql for plan in found)


def test_a_load_at_a_version_reads_up_to_it(planned: Planned) -> None:
    check(planned.plans(lambda store: store.load(planned.long, version=20)), rows=25)


def test_a_page_of_events_reads_the_page(planned: Planned) -> None:
    def page(store: Hindsight) -> object:
        return list(
            store.events(planned.long, from_version=100, to_version=100 + PAGE, backward=True)
        )

    check(planned.plans(page), rows=PAGE + 1)


@pytest.mark.parametrize(
    "place",
    [{"backward": True}, {"after": EVENTS // 2}, {"before": EVENTS // 2, "backward": True}],
    ids=["newest", "middle", "middle backward"],
)
def test_a_page_of_the_feed_reads_the_page(planned: Planned, place: dict[str, Any]) -> None:
    def page(store: Hindsight) -> object:
        return list(store.feed(limit=PAGE, **place))

    check(planned.plans(page), rows=PAGE)


# Of the most recent, where each ends and twice its head; and where the rollups end.
ROWS = {"id": PAGE + 1, "recent": 3 * (PAGE + 1) + 1, "longest": PAGE + 1}
ORDERS = ["id", "recent", "longest"]


@pytest.mark.parametrize("order", ORDERS)
def test_the_first_page_of_aggregates_reads_the_page(
    planned: Planned, order: AggregateOrder
) -> None:
    check(planned.plans(lambda store: store.aggregates(order=order, limit=PAGE)), rows=ROWS[order])


@pytest.mark.parametrize("order", ORDERS)
def test_a_later_page_of_aggregates_reads_the_page(planned: Planned, order: AggregateOrder) -> None:
    after = planned.store.aggregates(order=order, limit=20 * PAGE).next
    assert after is not None

    def page(store: Hindsight) -> object:
        return store.aggregates(order=order, after=after, limit=PAGE)

    check(planned.plans(page), rows=ROWS[order])


@pytest.mark.parametrize("order", ["id", "recent", "longest"])
def test_a_search_by_prefix_reads_what_begins_with_it(
    planned: Planned, order: AggregateOrder
) -> None:
    matching = len(planned.store.aggregates(prefix=SHORT, limit=1_000).items)
    assert matching == 111

    def page(store: Hindsight) -> object:
        return store.aggregates(prefix=SHORT, order=order, limit=PAGE)

    check(planned.plans(page), rows=2 * matching)


@pytest.mark.parametrize("where", [{"prefix": "user-"}, {"aggregate_type": "user"}])
@pytest.mark.parametrize("order", ORDERS)
def test_a_search_that_many_match_reads_the_page(
    planned: Planned, order: AggregateOrder, where: dict[str, str]
) -> None:
    def page(store: Hindsight) -> object:
        return store.aggregates(order=order, limit=PAGE, **where)

    check(planned.plans(page), rows=max(ROWS[order], FEW + 1))


@pytest.mark.parametrize("bounds", [{}, {"after": EVENTS // 4}, {"before": EVENTS // 4 * 3}])
def test_a_histogram_of_days_reads_the_days(planned: Planned, bounds: dict[str, Any]) -> None:
    """And of those that a bound cuts the hours, of which there are as many as events, nearly."""
    kept = "SELECT count(*) FROM event_counts WHERE hours = 24 AND axis = 'occurred'"
    [(days,)] = planned.store.database.rows(kept, {})

    def tally(store: Hindsight) -> object:
        return store.tally(width=timedelta(days=1), **bounds)

    found = planned.plans(tally)
    check(found, rows=days + 500)
    if planned.server is None:
        assert all(
            "(axis=? AND hours=?" in step
            for plan in found
            for step in plan.text.splitlines()
            if "event_counts" in step
        )


def test_an_append_touches_its_own_rows(planned: Planned) -> None:
    version = planned.store.aggregate(SHORT).version

    def append(store: Hindsight) -> object:
        return store.append(
            "user", SHORT, [NewEvent("LoginFailed", FAILED)], expected=exact(version)
        )

    check(planned.plans(append), rows=0)


def test_the_first_append_of_an_aggregate_touches_its_own_rows(planned: Planned) -> None:
    events = [NewEvent("LoginFailed", FAILED), NewEvent("LoginFailed", FAILED)]

    def append(store: Hindsight) -> object:
        return store.append("user", "user-new", events, expected=exact(0))

    check(planned.plans(append), rows=0)


def test_a_refused_append_looks_up_its_own_ids(planned: Planned) -> None:
    def append(store: Hindsight) -> None:
        with pytest.raises(VersionConflict):
            store.append("user", planned.long, [NewEvent("LoginFailed", FAILED)], expected=exact(1))

    check(planned.plans(append), rows=3)
