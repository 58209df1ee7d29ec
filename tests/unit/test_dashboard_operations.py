"""The Operations page's document, and what may be ordered there."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from dashboard import resources, routes
from store import Hindsight, NewEvent, any_
from store.domain import Domains
from store.outbox import ATTEMPTS, Relay
from store.sources.ndjson import NdjsonSource
from tests.archiving import keeping
from tests.published import Recording

Open = Callable[..., TestClient]


@pytest.fixture
def opened(store_url: str) -> Iterator[Open]:
    """A dashboard over the store, which is read-only but for who operates it."""
    with ExitStack() as stack:

        def open_dashboard(*, operate: bool = True) -> TestClient:
            store = stack.enter_context(Hindsight(store_url, read_only=True, metrics=False))
            operator = stack.enter_context(Hindsight(store_url)) if operate else None
            stack.enter_context(
                resources.shared(store.log, Domains(), store=store, operator=operator)
            )
            return TestClient(Starlette(routes=routes.routes()))

        yield open_dashboard


@pytest.fixture
def stuck(store_url: str) -> None:
    """Two events of `a` behind a dead letter, and one of `b` that is due."""
    with Hindsight(store_url) as store:
        for _ in range(3):
            store.append("thing", "a", [NewEvent("Made", {})], expected=any_())
        relay = Relay(store.database, Recording(lambda _: True))
        for _ in range(ATTEMPTS):
            with store.database.transaction() as connection:
                connection.exec_driver_sql("UPDATE outbox SET next_attempt_at = NULL")
            relay.once()
        store.append("thing", "b", [NewEvent("Made", {})], expected=any_())


def document(client: TestClient) -> Any:
    answer = client.get("/documents/operations")
    assert answer.status_code == 200, answer.text
    return answer.json()


def order(client: TestClient, headers: Any = None, **order: Any) -> Any:
    return client.post("/documents/operate", json=order, headers=headers)


@pytest.mark.usefixtures("stuck")
def test_it_tells_what_waits_for_what(opened: Open) -> None:
    found = document(opened())
    status = found["status"]
    assert (status["pending"], status["due"], status["failed"], status["held"]) == (3, 1, 1, "a")
    [letter] = found["dead"]
    assert (letter["aggregate_id"], letter["version"], letter["event_type"]) == ("a", 1, "Made")
    assert (letter["attempts"], letter["waiting"]) == (ATTEMPTS, 2)
    assert letter["why"] == "tests.published.Refused: no Made today"
    heads = [(each["aggregate_id"], each["state"], each["waiting"]) for each in found["heads"]]
    assert heads == [("a", "failed", 2), ("b", "due", 0)]
    assert found["acts"] == []
    assert found["can_operate"]


def test_an_empty_outbox_is_none_of_it(opened: Open) -> None:
    found = document(opened())
    assert (found["dead"], found["heads"], found["acts"]) == ([], [], [])
    assert found["status"]["oldest"] is None


@pytest.mark.usefixtures("stuck")
@pytest.mark.parametrize(
    ("action", "states"),
    [("redrive", [("a", "due", 2), ("b", "due", 0)]), ("skip", [("a", "due", 1), ("b", "due", 0)])],
)
def test_what_is_ordered_is_done_and_kept_with_who_and_why(
    opened: Open, action: str, states: list[tuple[str, str, int]]
) -> None:
    client = opened()
    answer = order(client, action=action, aggregate="a", version=1, reason=" the sink is back ")
    assert answer.status_code == 200, answer.text
    found = document(client)
    assert [(e["aggregate_id"], e["state"], e["waiting"]) for e in found["heads"]] == states
    [act] = found["acts"]
    assert (act["action"], act["aggregate_id"], act["version"]) == (action, "a", 1)
    assert act["reason"] == "the sink is back"
    assert act["actor"].endswith(" (dashboard)")


@pytest.mark.usefixtures("stuck")
@pytest.mark.parametrize(
    ("wanted", "status", "told"),
    [
        ({"reason": " "}, 400, "reason: say why, in up to 500 characters"),
        ({"reason": "x" * 501}, 400, "reason: say why, in up to 500 characters"),
        ({"action": "delete"}, 400, "no order: Invalid enum value 'delete'"),
        ({"version": "1"}, 400, "no order: Expected `int`"),
        ({"more": 1}, 400, "no order: Object contains unknown field `more`"),
        ({"version": 9}, 404, "the outbox has no record of 'a' version 9"),
        ({"aggregate": "\0"}, 404, "the outbox has no record of "),
    ],
)
def test_what_cannot_be_done_says_why(
    opened: Open, wanted: dict[str, Any], status: int, told: str
) -> None:
    usual = {"action": "redrive", "aggregate": "a", "version": 1, "reason": "because"}
    answer = order(opened(), **usual | wanted)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"].startswith(told)


@pytest.mark.usefixtures("stuck")
def test_nobody_operates_a_dashboard_that_only_shows(opened: Open) -> None:
    client = opened(operate=False)
    assert not document(client)["can_operate"]
    answer = order(client, action="redrive", aggregate="a", version=1, reason="because")
    assert answer.status_code == 403
    assert answer.json()["error"].startswith("this dashboard only shows; open it with --operate")


@pytest.mark.usefixtures("stuck")
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://elsewhere.example"},
        {"origin": "null"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
    ],
)
def test_no_other_site_orders_anything(opened: Open, headers: dict[str, str]) -> None:
    client = opened()
    usual = {"action": "redrive", "aggregate": "a", "version": 1, "reason": "because"}
    assert order(client, headers=headers, **usual).status_code == 403
    assert client.get("/documents/operate").status_code == 405
    assert document(client)["acts"] == []
    ours = {"origin": "http://testserver"}
    assert order(client, headers=ours, **usual).status_code == 200


def test_an_event_file_has_no_outbox(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(b"")
    with NdjsonSource(str(path)) as source, resources.shared(source, Domains()):
        client = TestClient(Starlette(routes=routes.routes()))
        answer = client.get("/documents/operations")
    assert (answer.status_code, answer.json()["kind"]) == (404, "NothingToOperate")


def archived(url: str, *, newest: int = 2, restored: str | None = None) -> None:
    """Ten events of `a` and `b` of early 2023, of which all but the newest are archived."""
    with Hindsight(url, clock=lambda: datetime(2023, 1, 31, tzinfo=UTC)) as store:
        for _ in range(5):
            for name in "ab":
                store.append("thing", name, [NewEvent("Made", {})], expected=any_())
        list(store.archive.run(keeping(newest)))
        if restored is not None:
            store.archive.restore(restored)


def test_nothing_may_be_archived(opened: Open) -> None:
    found = document(opened())["archive"]
    assert (found["events"], found["earliest"], found["ran_at"], found["held"]) == (
        *(0, None, None),
        [],
    )
    assert (found["older_than"], found["keep_active"]) == (730 * 86_400_000_000, 10_000_000)
    assert (found["is_enabled"], found["is_behind"]) == (True, False)


def test_it_tells_how_much_of_what_is_archived(opened: Open, store_url: str) -> None:
    archived(store_url, restored="b")
    found = document(opened())["archive"]
    moment = 1_675_123_200_000_000
    assert (found["events"], found["active"]) == (4, 6)
    assert [found[name] for name in ("earliest", "latest", "oldest_active")] == [moment] * 3
    assert found["bytes"] > 0
    assert (found["size"] is None) == store_url.startswith("sqlite")
    [held] = found["held"]
    assert held["aggregate_id"] == "b"
    assert moment < held["restored_at"] <= document(opened())["now"]
    assert (found["missing"], found["default"]) == ([], 0)


def test_only_so_many_that_are_held_are_listed(
    opened: Open, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived(store_url)
    with Hindsight(store_url) as store:
        assert len(list(store.archive.restore_all())) == 2
    monkeypatch.setattr("dashboard.documents.operations.SHOWN", 1)
    [held] = document(opened())["archive"]["held"]
    assert held["aggregate_id"] == "a"


def ran(url: str, at: datetime | None) -> None:
    """As if all had been archived then, and the last batch long before."""
    with Hindsight(url) as store, store.database.transaction() as connection:
        tables = store.database.tables.tables
        connection.execute(tables["archive"].update().values(ran_at=at))
        moved = datetime(2023, 2, 1, tzinfo=UTC)
        connection.execute(tables["archive_batches"].update().values(archived_at=moved))


@pytest.mark.parametrize(("days", "is_behind"), [(0, False), (1, False), (3, True), (None, True)])
def test_it_tells_that_nobody_archives(
    opened: Open,
    store_url: str,
    days: int | None,
    is_behind: bool,  # noqa: FBT001 (what is expected)
) -> None:
    archived(store_url)
    ran(store_url, None if days is None else datetime.now(UTC) - timedelta(days=days))
    assert document(opened())["archive"]["is_behind"] is is_behind


@pytest.mark.parametrize(
    ("name", "value"), [("EVENT_STORE_ARCHIVE", "off"), ("EVENT_STORE_ARCHIVE_AFTER", "36500d")]
)
def test_who_is_to_archive_nothing_is_not_behind(
    opened: Open, store_url: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    archived(store_url)
    ran(store_url, None)
    monkeypatch.setenv(name, value)
    assert not document(opened())["archive"]["is_behind"]


def test_who_is_still_at_it_is_not_behind(opened: Open, store_url: str) -> None:
    archived(store_url)
    with Hindsight(store_url) as store, store.database.transaction() as connection:
        connection.execute(store.database.tables.tables["archive"].update().values(ran_at=None))
    assert not document(opened())["archive"]["is_behind"]
