"""The Read models page's documents: how projections stand, their rows, a row beside the replay."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Text, update
from starlette.applications import Starlette
from starlette.testclient import TestClient

from dashboard import resources, routes
from store import Domain, Hindsight, NewEvent, any_
from store.domain import Domains
from store.errors import ProjectionFailed
from store.sources.ndjson import NdjsonSource
from store.work import project_due
from tests.read_models import by_number, sums
from tests.totals import Added, Total, numbers, put
from users import domain as users_domain
from users.commands import ChangeEmail, CreateUser, RecordFailedLogin
from users.read_model import user_read_model

pytestmark = pytest.mark.slow

AT = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)

Ask = Callable[..., Any]


@pytest.fixture
def asking(store_url: str) -> Iterator[Callable[[Domain], Ask]]:
    """A dashboard over the store, which is read-only; asks it for a document."""
    with ExitStack() as stack:

        def open_dashboard(domain: Domain) -> Ask:
            store = stack.enter_context(
                Hindsight(store_url, domain=domain, read_only=True, metrics=False)
            )
            stack.enter_context(resources.shared(store.log, store.domains, store=store))
            client = TestClient(Starlette(routes=routes.routes()))

            def ask(name: str, status: int = 200, **params: Any) -> Any:
                answer = client.get(f"/documents/{name}", params=params)
                assert answer.status_code == status, answer.text
                json = answer.headers["content-type"] == "application/json"
                return answer.json() if json else answer.content

            yielded.append(store)
            return ask

        yielded: list[Hindsight] = []
        yield open_dashboard
        assert [store.database.connections.in_use for store in yielded] == [0] * len(yielded)


@pytest.fixture
def people(store_url: str) -> Iterator[Hindsight]:
    """Ada, whose address changed, and Bob, who failed to log in twice; both in the table."""
    with Hindsight(store_url, domain=users_domain) as store:
        store.projections.build_missing()
        for name in ("ada", "bob"):
            store.execute(name, created(name))
        store.execute("ada", ChangeEmail(email="ada@b.example"))
        for _ in range(2):
            store.execute("bob", RecordFailedLogin(at=AT, ip_address="10.0.0.2"))
        project_due(store.projections.projector("users"))
        yield store


def created(name: str) -> CreateUser:
    return CreateUser(
        username=name,
        email=f"{name}@a.example",
        full_name=name.title(),
        password_hash="x",  # noqa: S106
    )


def projected(url: str, domain: Domain, *numbers: int) -> None:
    """Append numbers to `a` and take them into the read models, as far as that goes."""
    with Hindsight(url, domain=domain) as store:
        store.projections.build_missing()
        if numbers:
            put(store, *numbers)
        for name in store.projections.declared:
            with suppress(ProjectionFailed):
                project_due(store.projections.projector(name))


def told(field: Any) -> tuple[Any, Any, str]:
    """What the row and the state say, and whether that differs."""
    found = field["row"] if field["in_row"] else "-"
    replayed = field["state"] if field["in_state"] else "-"
    return found, replayed, "differs" if field["differs"] else "agrees"


def fields(row: Any) -> dict[str, Any]:
    return {each["name"]: each for each in row["fields"]}


def test_it_tells_how_each_projection_stands(
    people: Hindsight, asking: Callable[[Domain], Ask]
) -> None:
    found = asking(users_domain)("projections")
    [users] = found["projections"]
    assert (users["name"], users["table"], users["state"]) == (
        *("users", "user_read_model", "up to date"),
    )
    assert (users["version"], users["built"], users["position"]) == (1, 1, 5)
    assert users["lag"] == {"events": 0, "seconds": 0.0, "is_bounded": False}
    assert (users["failure"], users["skipped"], users["building"], users["checked_at"]) == (
        *(None, 0, None, None),
    )
    assert found["watermark"] == {"position": 5, "is_held": False, "pid": None, "since": None}
    assert found["now"] > users["moved_at"]
    people.execute("ada", ChangeEmail(email="ada@c.example"))
    [users] = asking(users_domain)("projections")["projections"]
    assert (users["state"], users["lag"]["events"]) == ("behind", 1)


def test_what_it_waits_at_is_told_with_the_whole_error(
    store_url: str, asking: Callable[[Domain], Ask]
) -> None:
    projected(store_url, sums(), 1, 7, 2)
    [found] = asking(sums())("projections")["projections"]
    assert found["state"] == "stopped"
    failure = found["failure"]
    assert (failure["aggregate_id"], failure["version"], failure["handler"]) == ("a", 2, "note_sum")
    assert (failure["event_type"], failure["why"]) == ("Added", "ValueError: unlucky")
    assert "Traceback" in failure["error"]


def test_what_was_left_out_is_listed_and_told_beside_its_row(
    store_url: str, asking: Callable[[Domain], Ask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENT_STORE_POISON_EVENTS", "skip")
    projected(store_url, sums(), 1, 7, 2)
    ask = asking(sums())
    [found] = ask("projections")["projections"]
    assert (found["state"], found["skipped"]) == ("up to date", 1)
    [skipped] = ask("skipped", projection="sums")["events"]
    assert (skipped["aggregate_id"], skipped["version"]) == ("a", 2)
    row = ask("row", projection="sums", row="a")
    assert row["skipped"] == [2]
    assert told(fields(row)["total"]) == ("3", "10", "differs")


@pytest.mark.usefixtures("people")
def test_code_of_another_version_is_told_with_what_to_run(
    store_url: str, asking: Callable[[Domain], Ask]
) -> None:
    projected(store_url, sums(), 1)
    ask = asking(sums(2, Column("more", Text)))
    [found] = ask("projections")["projections"]
    assert (found["state"], found["version"], found["built"]) == ("outdated", 2, 1)
    refused = ask("rows", 409, projection="sums")
    assert refused["kind"] == "ProjectionOutdated"
    assert "hindsight projections rebuild sums" in refused["error"]
    assert ask("row", 409, projection="sums", row="a")["kind"] == "ProjectionOutdated"


def test_without_a_table_it_says_so(asking: Callable[[Domain], Ask]) -> None:
    ask = asking(sums())
    [found] = ask("projections")["projections"]
    assert (found["state"], found["position"], found["built"]) == ("not built", None, None)
    assert ask("rows", 409, projection="sums")["kind"] == "ProjectionNotBuilt"


def test_rows_are_filtered_sorted_and_paged(
    people: Hindsight, asking: Callable[[Domain], Ask]
) -> None:
    ask = asking(users_domain)
    found = ask("rows", projection="users")
    assert [row["key"] for row in found["rows"]] == ["ada", "bob"]
    assert found["columns"][:2] == [
        {"name": "user_id", "kind": "text", "nullable": False, "is_key": True},
        {"name": "username", "kind": "text", "nullable": True, "is_key": False},
    ]
    assert found["rows"][0]["cells"][:6] == [
        *("ada", "ada", "ada@b.example", "Ada", "0", None),
    ]
    assert (found["next"], found["previous"], found["shown"]) == (None, None, 100)
    where = ["failed_login_attempts>=1", "email^bob", "full_name is not null"]
    assert [row["key"] for row in ask("rows", projection="users", where=where)["rows"]] == ["bob"]
    turned = ask("rows", projection="users", sort="user_id", order="desc")
    assert [row["key"] for row in turned["rows"]] == ["bob", "ada"]
    people.execute("eve", created("eve"))


def test_pages_go_on_and_back_and_end_with_the_first(
    store_url: str, asking: Callable[[Domain], Ask]
) -> None:
    with Hindsight(store_url, domain=sums()) as store:
        store.projections.build_missing()
        for number in range(250):
            put(store, 1, aggregate_id=f"n{number:03}")
        project_due(store.projections.projector("sums"))
    ask = asking(sums())
    first = ask("rows", projection="sums")
    second = ask("rows", projection="sums", after=first["next"])
    third = ask("rows", projection="sums", after=second["next"])
    assert [len(page["rows"]) for page in (first, second, third)] == [100, 100, 50]
    assert (first["previous"], third["next"]) == (None, None)
    back = ask("rows", projection="sums", before=third["previous"])
    assert back["rows"] == second["rows"]
    # What lies between a place near the beginning and the beginning is less than a page.
    near = ask("rows", projection="sums", after=first["next"], where=["id>=n050"])
    assert ask("rows", projection="sums", before=near["previous"], where=["id>=n095"]) == ask(
        "rows", projection="sums", where=["id>=n095"]
    )


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("name", "params", "status", "told"),
    [
        ("rows", {"projection": "nothing"}, 404, "no projection 'nothing'; there are users"),
        ("rows", {}, 400, "projection: missing"),
        ("rows", {"where": "colour=red"}, 400, "no column 'colour'; there are user_id"),
        ("rows", {"where": "email~x"}, 400, "'email~x': write COLUMN=VALUE"),
        ("rows", {"where": "version=many"}, 400, "version: 'many' is no whole number"),
        ("rows", {"where": "email=a\0"}, 400, "email: 'a\\x00' is no text"),
        ("rows", {"sort": "colour"}, 400, "no column 'colour'"),
        ("rows", {"order": "up"}, 400, "order: 'up' is not asc or desc"),
        ("rows", {"after": "garbage!"}, 400, "after: not where a page ended"),
        ("row", {"row": "a\0"}, 400, "user_id: 'a\\x00' is no text"),
        ("cell", {"row": "ada", "column": "colour"}, 400, "no column 'colour'"),
        ("cell", {"row": "nobody", "column": "email"}, 404, "no row 'nobody'"),
    ],
)
def test_what_cannot_be_asked_is_told(
    asking: Callable[[Domain], Ask], name: str, params: dict[str, str], status: int, told: str
) -> None:
    usual = {"projection": "users"} if params else {}
    refused = asking(users_domain)(name, status, **usual | params)
    assert told in refused["error"]


def test_a_row_stands_beside_the_replay_at_its_checkpoint(
    people: Hindsight, asking: Callable[[Domain], Ask]
) -> None:
    ask = asking(users_domain)
    row = ask("row", projection="users", row="ada")
    assert (row["last"]["version"], row["newest"], row["position"]) == (2, 2, 5)
    assert row["last"]["event_type"] == "EmailChanged"
    found = fields(row)
    assert list(found)[:3] == ["user_id", "username", "email"]
    assert told(found["email"]) == ("ada@b.example", "ada@b.example", "agrees")
    assert told(found["last_login_at"]) == (None, None, "agrees")
    assert told(found["user_id"]) == ("ada", "-", "agrees")
    assert told(found["lock_reason"]) == ("-", None, "agrees")
    assert row["differing"] == 0
    # What the table has not taken yet is no difference.
    people.execute("ada", ChangeEmail(email="ada@c.example"))
    row = ask("row", projection="users", row="ada")
    assert (row["last"]["version"], row["newest"], row["differing"]) == (2, 3, 0)


def test_a_row_that_is_wrong_is_marked(people: Hindsight, asking: Callable[[Domain], Ask]) -> None:
    with people.database.transaction() as connection:
        wrong = {"failed_login_attempts": 3, "full_name": None}
        chosen = user_read_model.c.user_id == "bob"
        connection.execute(update(user_read_model).where(chosen).values(wrong))
    row = asking(users_domain)("row", projection="users", row="bob")
    assert row["differing"] == 2
    found = fields(row)
    assert told(found["failed_login_attempts"]) == ("3", "2", "differs")
    assert told(found["full_name"]) == (None, "Bob", "differs")


@pytest.mark.usefixtures("people")
def test_a_key_without_a_row_or_without_events_is_told(
    people: Hindsight, asking: Callable[[Domain], Ask]
) -> None:
    ask = asking(users_domain)
    nobody = ask("row", projection="users", row="nobody")
    assert (nobody["exists"], nobody["last"], nobody["fields"]) == (False, None, [])
    with people.database.transaction() as connection:
        ghost = dict(people.read_model("users").get("ada") or {}) | {"user_id": "ghost"}
        connection.execute(user_read_model.insert(), [ghost])
    found = ask("row", projection="users", row="ghost")
    assert (found["exists"], found["last"], found["newest"]) == (True, None, None)
    assert found["differing"] == 0


def test_a_history_that_cannot_be_folded_is_told(
    store_url: str, asking: Callable[[Domain], Ask]
) -> None:

    def apply(state: Total, event: Added) -> Total:
        raise ZeroDivisionError(f"division by zero: {state}, {event}")

    projected(store_url, sums(), 1, 2)
    [broken] = numbers(apply=apply).aggregates
    domain = Domain("sums", aggregates=[broken], projections=sums().projections)
    row = asking(domain)("row", projection="sums", row="a")
    assert "division by zero" in row["failure"]
    assert row["differing"] == 0


def test_rows_of_other_keys_have_no_aggregate_behind_them(
    store_url: str, asking: Callable[[Domain], Ask]
) -> None:
    projected(store_url, by_number(), 4, 5, 5)
    ask = asking(by_number())
    found = ask("rows", projection="numbers")
    assert [row["key"] for row in found["rows"]] == ['["4","2"]', '["5","2"]']
    row = ask("row", projection="numbers", row='["5","2"]')
    assert (row["last"], row["exists"], row["differing"]) == (None, True, 0)
    assert fields(row)["times"]["row"] == "2"
    refused = ask("row", 400, projection="numbers", row="5")
    assert refused["error"] == 'row: \'5\' is not a key such as ["number","half"]'


def test_a_long_text_is_cut_and_told_whole_when_asked_for(
    people: Hindsight, asking: Callable[[Domain], Ask]
) -> None:
    name = "ä" * 3_000
    with people.database.transaction() as connection:
        connection.execute(update(user_read_model).values(full_name=name))
    ask = asking(users_domain)
    cell = ask("rows", projection="users")["rows"][0]["cells"][3]
    assert cell == {"text": "ä" * 200, "length": 3_000}
    assert fields(ask("row", projection="users", row="ada"))["full_name"]["row"]["length"] == 3_000
    whole = ask("cell", projection="users", row="ada", column="full_name")
    assert whole.decode() == name


def test_an_event_file_has_no_read_models(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(b"")
    with NdjsonSource(path) as source, resources.shared(source, Domains()):
        client = TestClient(Starlette(routes=routes.routes()))
        answer = client.get("/documents/projections")
    assert answer.status_code == 404
    assert answer.json() == {
        "error": "These events are in no store: it has no read models.",
        "kind": "NoReadModels",
    }


def test_a_domain_without_projections_says_what_to_do(asking: Callable[[Domain], Ask]) -> None:
    refused = asking(numbers())("projections", 404)
    assert refused["kind"] == "NoReadModels"
    assert "declares a projection" in refused["error"]
    assert "EVENT_STORE_DOMAIN" in refused["error"]


def test_an_open_transaction_holds_it_and_is_told(
    postgres_url: str,
) -> None:
    with Hindsight(postgres_url, domain=sums()) as store:
        store.projections.build_missing()
        late = [NewEvent("Added", {"number": 5})]
        with store.database.transaction() as connection:
            store.append("total", "late", late, expected=any_(), connection=connection)
            put(store, 2)
            project_due(store.projections.projector("sums"))
            with resources.shared(store.log, store.domains, store=store):
                client = TestClient(Starlette(routes=routes.routes()))
                found = client.get("/documents/projections").json()
            [standing] = found["projections"]
            assert (standing["state"], standing["lag"]["events"]) == ("behind", 1)
            assert found["watermark"]["is_held"]
            assert found["watermark"]["pid"]
            assert found["watermark"]["since"] <= found["now"]
