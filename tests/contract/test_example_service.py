"""The example service as it is run: uvicorn, two workers, one store, many clients at once."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

import users
from store import CONTENT_TYPE, Hindsight, NewEvent, migrate, none
from store.work import working
from tests import prometheus
from tests.servers import PostgresServer

ROOT = Path(__file__).parents[2]
PASSWORD = "correct horse battery"  # noqa: S105
ADA = {
    "username": "ada",
    "email": "ada@a.example",
    "full_name": "Ada Lovelace",
    "password": PASSWORD,
}

pytestmark = pytest.mark.slow


class Service:
    """The running service: an HTTP client, and what it has logged so far."""

    def __init__(self, process: subprocess.Popen[bytes], client: httpx2.Client, log: Path) -> None:
        self.process = process
        self.client = client
        self._log = log

    @property
    def log(self) -> str:
        """Both workers' lines."""
        return self._log.read_text()

    def create(self, **changed: Any) -> str:
        """The id of a new user."""
        answer = self.client.post("/users", json=ADA | changed)
        assert answer.status_code == 201, answer.text
        created: str = answer.json()["id"]
        assert answer.headers["location"] == f"/users/{created}"
        return created

    def user(self, user_id: str, **at: Any) -> dict[str, Any]:
        answer = self.client.get(f"/users/{user_id}", params=at)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def log_in(self, user_id: str, password: str = PASSWORD) -> httpx2.Response:
        return self.client.post(f"/users/{user_id}/logins", json={"password": password})


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of each kind for all tests here: each makes users of its own."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('service')}/users.db"
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        server.execute("CREATE DATABASE example_service")
        url = server.url("example_service")
    migrate(url)
    return url


@pytest.fixture(scope="module")
def service(store_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    metrics_folder = tmp_path_factory.mktemp("metrics")
    log = tmp_path_factory.mktemp("service") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "examples.service:app"),
                *("--workers", "2", "--port", "0", "--no-access-log"),
            ],
            cwd=ROOT,
            env=os.environ
            | {"EVENT_STORE_URL": store_url, "PROMETHEUS_MULTIPROC_DIR": str(metrics_folder)},
            stdout=output,
            stderr=output,
        )
    try:
        _wait_for(lambda: log.read_text().count("startup complete") == 2, log)
        [url] = re.findall(r"running on (http://\S+)", log.read_text())
        with httpx2.Client(base_url=url, timeout=60) as client:
            yield Service(process, client, log)
    finally:
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
        _, alive = psutil.wait_procs(workers, timeout=10)
        for worker in alive:
            worker.kill()
    assert (alive, code) in (([], 0), ([], -signal.SIGTERM)), log.read_text()
    assert "Traceback" not in log.read_text()


def _wait_for(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def _problem(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == answer.status_code
    return answer.status_code, body["detail"]


def test_a_user_s_life(service: Service, store_url: str) -> None:
    user_id = service.create()
    assert service.log_in(user_id).status_code == 204
    moved = service.client.put(f"/users/{user_id}/email", json={"email": "ada@b.example"})
    assert (moved.json()["version"], moved.json()["state"]["email"]) == (3, "ada@b.example")
    assert service.user(user_id, version=1)["state"]["email"] == "ada@a.example"

    history = service.client.get(f"/users/{user_id}/history").json()
    assert [(event["version"], event["event_type"]) for event in history] == [
        (1, "UserCreated"),
        (2, "LoginInfoUpdated"),
        (3, "EmailChanged"),
    ]
    then = history[1]["occurred_at"]
    assert service.user(user_id, as_of=then)["version"] == 2
    rest = service.client.get(f"/users/{user_id}/history", params={"after": 1, "limit": 1}).json()
    assert rest == history[1:2]


def test_users_are_listed_without_a_replay_and_who_wrote_reads_it(
    service: Service, store_url: str
) -> None:
    assert _problem(service.client.get("/users"))[0] == 503  # nobody has made the table yet
    with (
        Hindsight(store_url, domain=users.domain) as store,
        working(store, relay=None, projectors=store.own_projectors()),
    ):
        ids = [service.create() for _ in range(3)]
        why = {"reason": "asked for"}
        locked = service.client.post(f"/users/{ids[0]}/lock", json=why).json()
        wanted = {"locked": True, "since": locked["position"]}
        listed = service.client.get("/users", params=wanted).json()
        assert ids[0] in {user["user_id"] for user in listed["users"]}
        assert all(user["account_locked"] for user in listed["users"])
        unlocked = service.client.post(f"/users/{ids[0]}/unlock", json=why).json()
        wanted["since"] = unlocked["position"]
        listed = service.client.get("/users", params=wanted).json()
        assert ids[0] not in {user["user_id"] for user in listed["users"]}
        found: list[str] = []
        page: dict[str, Any] = {"next": None}
        while not found or page["next"]:
            params = {"limit": 2} | ({"after": page["next"]} if page["next"] else {})
            page = service.client.get("/users", params=params).json()
            found += [user["user_id"] for user in page["users"]]
        assert found == sorted(set(found))
        assert set(ids) <= set(found)
        assert "password_hash" not in service.client.get("/users").text
        assert _problem(service.client.get("/users", params={"after": "?"}))[0] == 400
        far = unlocked["position"] + 1_000
        assert _problem(service.client.get("/users", params={"since": far}))[0] == 503


def test_five_wrong_passwords_lock_until_somebody_unlocks(service: Service) -> None:
    user_id = service.create()
    for _ in range(5):
        assert _problem(service.log_in(user_id, "wrong")) == (401, "the password is wrong")
    assert _problem(service.log_in(user_id)) == (409, "the account is locked")
    assert _problem(service.log_in(user_id, "wrong")) == (409, "the account is locked")
    why = {"reason": "it was me"}
    assert service.client.post(f"/users/{user_id}/unlock", json=why).status_code == 200
    assert service.log_in(user_id).status_code == 204
    assert service.client.post(f"/users/{user_id}/lock", json=why).status_code == 200
    again = service.client.post(f"/users/{user_id}/lock", json=why)
    assert _problem(again) == (409, "the account is locked already")
    state = service.user(user_id)["state"]
    assert (state["account_locked"], state["lock_reason"], state["total_logins"]) == (
        *(True, "it was me"),
        1,
    )


def test_many_at_one_user_all_get_through(service: Service, store_url: str) -> None:
    user_id = service.create()
    addresses = [f"ada@{number}.example" for number in range(80)]

    def move(address: str) -> int:
        """Tries again when told to, as clients of such services do."""
        while True:
            answer = service.client.put(f"/users/{user_id}/email", json={"email": address})
            if answer.status_code != 503:
                return answer.status_code
            assert answer.headers["retry-after"] == "1"

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(move, addresses)) == {200}
        logins = [pool.submit(service.log_in, user_id, word) for word in [PASSWORD] * 4]
        assert [login.result().status_code for login in logins] == [204] * 4

    found = service.user(user_id)
    assert (found["version"], found["state"]["total_logins"]) == (85, 4)
    with Hindsight(store_url, domain="users:domain") as store:
        events = list(store.events(user_id))
        assert store.load(user_id).state.email == found["state"]["email"]
    assert [event.version for event in events] == list(range(1, 86))
    moved = [event.data["email"] for event in events if event.event_type == "EmailChanged"]
    assert sorted(moved) == sorted(addresses)
    assert "absorbed conflict: ChangeEmail" in service.log


def test_both_workers_live(service: Service) -> None:
    ids = re.findall(r"Started server process \[(\d+)\]", service.log)
    assert len(set(ids)) == 2
    assert all(psutil.Process(int(each)).is_running() for each in ids)


def test_passwords_and_hashes_stay_inside(service: Service, store_url: str) -> None:
    answers: list[httpx2.Response] = []
    service.client.event_hooks["response"].append(answers.append)
    user_id = service.create()
    service.log_in(user_id)
    service.log_in(user_id, "a wrong horse")
    service.user(user_id)
    service.client.get(f"/users/{user_id}/history")
    incomplete = {name: value for name, value in ADA.items() if name != "email"}
    assert _problem(service.client.post("/users", json=incomplete)) == (
        *(422,),
        "body.email: Field required",
    )
    assert service.client.post("/users", json={"password": [PASSWORD]}).status_code == 422
    broken = service.client.post("/users", content=f'{{"password": "{PASSWORD}"'.encode())
    assert broken.status_code == 422

    with Hindsight(store_url) as store:
        events = list(store.events(user_id))
    password_hash = events[0].data["password_hash"]
    service.client.event_hooks["response"].clear()
    assert len(answers) == 8
    secrets = [PASSWORD, "horse", password_hash, *password_hash.split("$")[1:], "password_hash"]
    for secret in secrets:
        assert not any(secret in answer.text for answer in answers)
        assert not any(secret.encode() in event.raw_metadata for event in events)
        assert secret not in service.log
    assert not any(b"horse" in event.raw_data for event in events)
    assert [event.metadata["command"]["name"] for event in events] == [
        "CreateUser",
        "RecordLogin",
        "RecordFailedLogin",
    ]


def test_who_asked_is_kept(service: Service) -> None:
    user_id = service.create()
    asked = {"X-Actor": "support", "X-Correlation-ID": "call-7"}
    why = {"reason": "lost telephone"}
    answer = service.client.post(f"/users/{user_id}/lock", json=why, headers=asked)
    assert answer.headers["x-correlation-id"] == "call-7"
    [created, locked] = service.client.get(f"/users/{user_id}/history").json()
    assert (locked["actor"], locked["correlation_id"]) == ("support", "call-7")
    assert created["actor"] is None
    assert created["correlation_id"]


def test_what_is_not_there_or_not_right_is_told(service: Service, store_url: str) -> None:
    with Hindsight(store_url) as store:
        store.append("order", "order-1", [NewEvent("Opened", {})], expected=none())
    user_id = service.create()
    get = service.client.get
    for path in ("/users/nobody", "/users/order-1", "/users/order-1/history", "/users/%00"):
        assert _problem(get(path))[0] == 404
    assert _problem(get(f"/users/{user_id}?version=9"))[0] == 404
    assert _problem(get(f"/users/{user_id}?as_of=2020-01-01T00:00:00Z"))[0] == 404
    assert _problem(get(f"/users/{user_id}?as_of=2020-01-01T00:00:00"))[0] == 400
    assert _problem(get(f"/users/{user_id}?version=0"))[0] == 400
    put = service.client.put
    assert _problem(put("/users/order-1/email", json={"email": "a@b.c"}))[0] == 404
    assert _problem(put("/users/nobody/email", json={"email": "a@b.c"})) == (
        *(409,),
        "the user does not exist",
    )
    assert _problem(put(f"/users/{user_id}/email", json={"email": "a"}))[0] == 409
    headers = {"X-Actor": "x" * 600}
    assert (
        _problem(put(f"/users/{user_id}/email", json={"email": "a@b"}, headers=headers))[0] == 400
    )
    assert _problem(service.log_in("nobody"))[0] == 404
    assert service.user(user_id)["version"] == 1


def test_any_worker_tells_the_metrics_of_both(service: Service, store_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda _: service.create(), range(12)))
        for user_id in ids[:3]:
            list(pool.map(lambda _, name=user_id: _lock_and_unlock(service, name), range(4)))
    time.sleep(1.5)  # each worker counts what it did once a second
    answers = [service.client.get("/metrics") for _ in range(8)]
    assert {answer.headers["content-type"] for answer in answers} == {CONTENT_TYPE}
    counted = [_samples(answer.text) for answer in answers]
    with Hindsight(store_url) as store:
        stored = store.counts().events_by_type
    for found in counted:
        assert found['event_store_events_total{event_type="UserCreated"}'] == stored["UserCreated"]
        assert (
            found['event_store_events_total{event_type="AccountLocked"}']
            == (stored["AccountLocked"])
        )
        assert found["event_store_conflicts_total"] == sum(
            value
            for name, value in found.items()
            if name.startswith("event_store_conflict_outcomes_total")
        )
        assert found["event_store_size_bytes"] > 0
    assert prometheus.complaints(answers[0].content) == ""


def _lock_and_unlock(service: Service, user_id: str) -> None:
    for action in ("lock", "unlock"):
        service.client.post(f"/users/{user_id}/{action}", json={"reason": "test"})


def _samples(text: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}
