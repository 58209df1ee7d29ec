"""The server: who may reach it, what it answers, how it says no."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from starlette.testclient import TestClient

from dashboard.app import create_app
from dashboard.server import CannotServe, is_loopback, listen, serve
from store import migrate
from store.sources.ndjson import NdjsonSource


@pytest.fixture(scope="module")  # Streamlit allows one runtime a process
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    log = tmp_path_factory.mktemp("served") / "log.ndjson"
    log.touch()
    with NdjsonSource(log) as source:
        app = create_app(source, allowed_hosts=["127.0.0.1"])
        with TestClient(app, base_url="http://127.0.0.1") as opened:
            yield opened


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_json(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"status": "ok"}


def test_metrics_are_text_that_prometheus_reads(client: TestClient) -> None:
    response = client.get("/metrics")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "# TYPE event_store_events_total counter" in response.text


def test_the_policy_lets_no_foreign_script_run(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "script-src 'self' blob:;" in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("name", ["timeline", "monitoring", "read-models"])
def test_a_page_s_scripts_start_beside_streamlit_s(client: TestClient, name: str) -> None:
    page = client.get(f"/{name}?aggregate=x")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-cache"
    [script] = re.findall(r'<script type="module" src="\.(/assets/\w+/[\w-]+\.js)">', page.text)
    assert script.endswith(f"/{name}-early.js")
    assert client.get(script).status_code == 200
    assert page.text.replace(f'<script type="module" src=".{script}"></script>', "") == (
        client.get("/").text
    )


def test_another_host_name_is_refused(client: TestClient) -> None:
    assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_is_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "host.example"])  # noqa: S104 - refused
def test_an_address_others_reach_needs_a_word_of_consent(host: str) -> None:
    with pytest.raises(CannotServe, match="--expose"):
        serve(source="unused", host=host)


@pytest.mark.slow
def test_who_is_let_in_from_elsewhere_does_not_operate(tmp_path: Path) -> None:
    with pytest.raises(CannotServe, match="would let everybody operate"):
        serve(source=f"sqlite:///{tmp_path / 'store.db'}", expose=True, operate=True)


def test_an_event_file_cannot_be_operated_on(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(b"")
    with pytest.raises(CannotServe, match="an event file cannot be operated on"):
        serve(source=str(path), operate=True, port=0)


def test_a_source_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dashboard", "--source", str(tmp_path / "no.ndjson")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "no.ndjson" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_domain_that_is_none_is_one_line(tmp_path: Path) -> None:
    log = tmp_path / "log.ndjson"
    log.touch()
    done = subprocess.run(
        [sys.executable, "-m", "dashboard", "--source", str(log), "--port", "0"],
        env={**os.environ, "EVENT_STORE_DOMAIN": "users:domian"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: users:domian: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_store_is_read_by_the_domain_that_is_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    migrate(url)
    command = [sys.executable, "-m", "dashboard", "--source", url, "--port", "0"]
    environment = os.environ | {"EVENT_STORE_DOMAIN": "tests.read_models:several"}
    with subprocess.Popen(
        [*command, "--domain", "users:domain"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found
        with urlopen(f"{found[0]}/documents/projections") as answer:  # noqa: S310 (our own)
            standings = json.load(answer)["projections"]
        process.terminate()
    assert [each["name"] for each in standings] == ["users"]


def test_no_part_of_an_answer_waits_for_an_acknowledgement() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
