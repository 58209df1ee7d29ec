"""The how-tos, followed word by word in an empty folder: files copied, commands typed."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct, json
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from store import Hindsight, NewEvent, any_
from store.gauges import Archiving, Backlog, Levels, gauge_families
from store.metrics import Metrics
from store.outbox import Publisher
from tests.servers import RedisServer

ROOT = Path(__file__).parents[2]
HOWTO = ROOT / "docs" / "howto"
_FILE = re.compile(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Typed(Struct, frozen=True):
    """A command of a page, what it is said to print, and the variables exported before it."""

    line: str
    printed: str
    exported: Mapping[str, str]


def page(name: str) -> str:
    return (HOWTO / name).read_text()


def commands(text: str) -> list[Typed]:
    """What the page has its reader type, in order."""
    found, exported = [], {}
    for block in _CONSOLE.findall(text):
        for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, printed = entry.partition("\n")
            if line.startswith("export "):
                name, _, value = line.removeprefix("export ").partition("=")
                exported[name] = value
            else:
                found.append(Typed(line, printed, dict(exported)))
    return found


def named_files(text: str) -> list[tuple[str, str]]:
    """The files of the page, by name, and what is in them."""
    return _FILE.findall(text)


def run(folder: Path, *command: str, **exported: str) -> subprocess.CompletedProcess[str]:
    """What a terminal in `folder` shows, both streams as one."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "PYTHONPATH": str(ROOT), **exported},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the page about domains, and the store that its code made."""
    folder = tmp_path_factory.mktemp("shop")
    text = page("your-own-domain.md")
    files = _FILE.findall(text)
    assert len(files) == len(_PYTHON.findall(text)) > 0, "a block without a file's name"
    for name, content in files:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    done = run(folder, "python", "shop.py")
    assert done.returncode == 0, done.stdout
    (folder / "shop.db").rename(folder / "made.db")
    return folder


@pytest.mark.slow
def test_what_the_page_has_typed_prints_what_it_says(shop: Path) -> None:
    typed = commands(page("your-own-domain.md"))
    assert [each.line.split()[:3] for each in typed] == [
        ["python", "-m", "pytest"],
        ["python", "shop.py"],
        *[["hindsight", "replay", "order-1"]] * 2,
        ["hindsight", "verify", "--all"],
        ["hindsight", "demo", "--generate"],
        ["hindsight", "verify", "--all"],
        ["python", "mistakes.py"],
        *[["hindsight", "replay", "order-1"]] * 3,
    ]
    for each in typed:
        done = run(shop, *each.line.split(), **each.exported)
        if each.printed:
            assert done.stdout == each.printed
        assert done.returncode == (2 if each.printed.startswith("error: ") else 0), done.stdout


@pytest.mark.slow
def test_an_event_changes_as_the_page_says(tmp_path: Path) -> None:
    text = page("when-an-event-changes.md")
    [(name, content)] = _FILE.findall(text)
    (tmp_path / name).write_text(content)
    typed = commands(text)
    assert len(typed) == 7
    for each in typed:
        done = run(tmp_path, *shlex.split(each.line), **each.exported)
        if each.printed:
            assert done.stdout == each.printed
        assert done.returncode == (2 if each.printed.startswith("error: ") else 0), done.stdout


@pytest.mark.slow
def test_what_is_appended_comes_to_handlers_as_the_page_says(tmp_path: Path) -> None:
    text = page("outbox.md")
    [(name, content)] = _FILE.findall(text)
    (tmp_path / name).write_text(content)
    typed = commands(text)
    assert len(typed) == 4
    for each in typed:
        done = run(tmp_path, *shlex.split(each.line), **each.exported)
        assert (done.returncode, done.stdout) == (0, each.printed)
    code = _PYTHON.findall(text)[-1]
    append = ["order", "o-2", "Ordered", "--data", '{"item": "pot"}', "--expected", "none"]
    exported = dict(typed[-1].exported)
    assert run(tmp_path, "hindsight", "append", *append, **exported).returncode == 0
    assert run(tmp_path, "python", "-c", code, **exported).stdout == (
        "o-2 gets pot Order(items=('pot',))\nOrdered b'{\"item\":\"pot\"}'\n"
    )


@pytest.mark.slow
def test_read_models_follow_as_the_page_says(tmp_path: Path) -> None:
    text = page("read-models.md")
    files = _FILE.findall(text)
    assert [name for name, _ in files] == [
        *("library.py", "lend.py", "ask.py", "by_hand.py", "library2.py"),
    ]
    for name, content in files:
        (tmp_path / name).write_text(content)
    typed = commands(text)
    assert len(typed) == 14
    for each in typed:
        done = run(tmp_path, *shlex.split(each.line), **each.exported)
        assert done.stdout == each.printed
        found = each.printed.startswith(("differing", "error: projection"))
        assert done.returncode == (1 if found and "rebuild books" not in each.line else 0)
    [code] = set(_PYTHON.findall(text)) - {content for _, content in files}
    exported = dict(typed[0].exported) | {"EVENT_STORE_URL": "sqlite:///other.db"}
    run(tmp_path, "hindsight", "migrate", **exported)
    command = [sys.executable, "-m", "store", "work"]
    with subprocess.Popen(command, cwd=tmp_path, env=os.environ | exported) as worker:
        try:
            assert run(tmp_path, "python", "-c", code, **exported).stdout == "ada\n"
        finally:
            worker.terminate()


@pytest.mark.slow
def test_a_question_is_answered_as_the_page_says(tmp_path: Path) -> None:
    text = page("bisect.md")
    [(name, content)] = _FILE.findall(text)
    (tmp_path / name).write_text(content)
    typed = commands(text)
    assert len(typed) == 8
    for each in typed:
        done = run(tmp_path, *shlex.split(each.line), **each.exported)
        assert done.stdout == each.printed
        assert done.returncode == (2 if each.printed.startswith("error: ") else 0), done.stdout
    code = f"""
from store.application import open_repository
from store.domain import Domains
with open_repository("sqlite:///tanks.db", Domains()) as repository:
    exec({_PYTHON.findall(text)[-1]!r})
    print([(each.first, each.last) for each in found.holding])
"""
    assert run(tmp_path, "python", "-c", code).stdout == "[(2, 3)]\n"


@pytest.mark.slow
def test_what_is_hot_is_kept_as_the_page_says(tmp_path: Path) -> None:
    text = page("cache.md")
    [(name, content)] = _FILE.findall(text)
    (tmp_path / name).write_text(content)
    [typed] = commands(text)
    done = run(tmp_path, *shlex.split(typed.line), **typed.exported)
    assert (done.returncode, done.stdout) == (0, typed.printed)


@pytest.mark.slow
def test_conflicts_are_told_as_the_page_says(tmp_path: Path) -> None:
    text = page("metrics.md")
    files = _FILE.findall(text)
    assert [name for name, _ in files] == ["gates.py", "meet.py"]
    for name, content in files:
        (tmp_path / name).write_text(content)
    typed = commands(text)
    assert len(typed) == 2
    for each in typed:
        done = run(tmp_path, *shlex.split(each.line), **each.exported)
        assert (done.returncode, done.stdout) == (0, each.printed)


def test_every_metric_is_on_the_page() -> None:
    metrics = Metrics(CollectorRegistry())
    names = {name for family in metrics.registry.collect() for name in _told_as(family)}
    names |= {family.name for family in gauge_families(LEVELS)}
    told = set(re.findall(r"`(event_\w+)`", page("metrics.md"))) - {"event_type"}
    assert told == names | {"event_store_build_info", "event_store_levels_age_seconds"}


LEVELS = Levels(
    size=1,
    feed_lag=0,
    watermark_age=0.0,
    rollup_lag=0,
    backlog=Backlog(pending=0, failed=0, oldest=None),
    projections=(),
    archive=Archiving(events=0, bytes=0, active=0, missing=0, ran_at=datetime.now(UTC)),
)


def _told_as(family: Metric) -> list[str]:
    return [f"{family.name}_total" if family.type == "counter" else family.name]


@pytest.mark.slow
def test_snapshots_do_what_the_page_says(tmp_path: Path) -> None:
    text = page("snapshots.md")
    files = _FILE.findall(text)
    assert [name for name, _ in files] == ["tariff.py", "meters.py", "fill.py"]
    for name, content in files:
        (tmp_path / name).write_text(content)
    typed = commands(text)
    assert len(typed) == 7
    for each in typed:
        done = run(tmp_path, *shlex.split(each.line), **each.exported)
        assert done.stdout == each.printed
        assert done.returncode == (1 if each.printed.startswith("drift: ") else 0), done.stdout


# What takes how much, and when the page was written.
_VARYING = re.compile(
    r"[\d.]+ kB|saves \d+%|event \d\.\d+|(?:(?<=oldest recorded )|(?<=last run  ))[\d: -]+"
)


@pytest.mark.slow
def test_old_events_are_archived_as_the_page_says(tmp_path: Path) -> None:
    text = page("archive.md")
    [(name, content)] = _FILE.findall(text)
    (tmp_path / name).write_text(content)
    typed = commands(text)
    assert len(typed) == 9
    for each in typed:
        done = run(tmp_path, *shlex.split(each.line), **each.exported)
        assert (done.returncode, varying(done.stdout)) == (0, varying(each.printed))
    copy = {"EVENT_STORE_URL": "sqlite:///copy.db"}
    assert run(tmp_path, "hindsight", "migrate", **copy).returncode == 0
    for month in sorted(tmp_path.glob("copies/*.gz")):
        command = ("hindsight", "import", "--restore", str(month))
        assert ": 150 imported, " in run(tmp_path, *command, **copy).stdout
    checked = run(tmp_path / "copies", "sha256sum", "-c", "SHA256SUMS")
    assert checked.stdout.count(": OK") == 12


def varying(printed: str) -> str:
    return _VARYING.sub("…", printed)


def test_the_tests_of_the_page_pass_and_can_fail(shop: Path) -> None:
    done = run(shop, "python", "-m", "pytest", "-q", "test_orders.py")
    assert "6 passed" in done.stdout
    state = shop / "orders" / "state.py"
    right = state.read_text()
    state.write_text(right.replace("event.quantity * event.price", "event.price"))
    try:
        assert "1 failed, 5 passed" in run(shop, "python", "-m", "pytest", "-q").stdout
    finally:
        state.write_text(right)


def test_the_dashboard_gets_the_states_of_the_page_s_domain(shop: Path) -> None:
    code = """
from store.application import open_source
from store.domain import load_domains
from store.repository import Repository
from store.settings import Settings
import msgspec

domains = load_domains(Settings.from_environment().domain)
with open_source("sqlite:///made.db") as source:
    steps = list(Repository(source, domains).replay("order-1"))
print(msgspec.json.encode([(step.event.version, step.after) for step in steps]).decode())
"""
    done = run(shop, "python", "-c", code, EVENT_STORE_DOMAIN="orders:domain")
    assert done.returncode == 0, done.stdout
    states = json.decode(done.stdout)
    assert [(version, state["total"]) for version, state in states] == [(1, 0), (2, 900), (3, 900)]
    assert states[-1][1]["paid_at"] == "2026-01-05T12:00:00Z"


def test_no_secret_of_the_page_is_stored(shop: Path) -> None:
    stored = run(shop, "hindsight", "export", "-", "--url", "sqlite:///made.db")
    lines = [line for line in stored.stdout.splitlines() if line.startswith("{")]
    kept = [json.decode(line)["metadata"]["command"] for line in lines]
    assert [command["name"] for command in kept] == ["PlaceOrder", "AddItem", "PayOrder"]
    assert kept[2]["data"] == {"at": "2026-01-05T12:00:00+00:00"}
    assert "tok_1" not in stored.stdout


def test_the_page_about_services_quotes_the_service() -> None:
    service = (ROOT / "examples" / "service.py").read_text()
    quoted = re.findall(
        r"^```python\n(.*?)^```$", page("fastapi-service.md"), re.MULTILINE | re.DOTALL
    )
    assert quoted
    for part in quoted:
        assert part in service


@pytest.mark.slow
def test_a_trace_is_as_the_page_says(tmp_path: Path) -> None:
    text = page("trace.md")
    files = _FILE.findall(text)
    assert [name for name, _ in files] == ["guests.py", "fill.py"]
    for name, content in files:
        (tmp_path / name).write_text(content)
    typed = commands(text)
    assert len(typed) == 8
    for each in typed:
        done = run(tmp_path, *shlex.split(each.line), **each.exported)
        assert done.stdout == each.printed
    assert "Lovelace" not in (tmp_path / "incident.html").read_text()


@pytest.mark.slow
def test_events_are_consumed_as_the_page_says(tmp_path: Path, redis_server: RedisServer) -> None:
    text = page("consumers.md")
    files = _FILE.findall(text)
    assert [name for name, _ in files] == ["publish.py", "consume.py", "again.py", "to_kafka.py"]
    for name, content in files:
        (tmp_path / name).write_text(content)
    typed = commands(text)
    assert len(typed) == 4
    for each in typed:
        done = run(tmp_path, *shlex.split(each.line), EVENT_STORE_REDIS_URL=redis_server.url)
        assert (done.returncode, done.stdout) == (0, each.printed)


class Broker:
    """Takes what a Kafka producer of confluent_kafka takes; tells it when it is flushed."""

    def __init__(self, fails: set[tuple[bytes, str]]) -> None:
        self.fails = fails
        self.taken: list[tuple[bytes, str]] = []
        self._flying: list[tuple[tuple[bytes, str], Callable[..., None]]] = []

    def produce(
        self,
        topic: str,
        value: bytes,
        key: bytes,
        *,
        headers: Mapping[str, str],
        on_delivery: Callable[..., None],
    ) -> None:
        assert (topic, value) == ("orders", b"{}")
        self._flying.append(((key, headers["ce_aggregateversion"]), on_delivery))

    def flush(self) -> None:
        for place, told in self._flying:
            if place in self.fails:
                told("broker away", None)
            elif place[0] != b"silent":
                self.taken.append(place)
                told(None, None)
        self._flying.clear()


def test_kafka_gets_nothing_behind_what_it_did_not_get(sqlite_url: str) -> None:
    content = dict(_FILE.findall(page("consumers.md")))["to_kafka.py"]
    names: dict[str, Any] = {"__name__": "to_kafka"}
    exec(compile(content, "to_kafka.py", "exec"), names)  # noqa: S102 (our own page)
    with Hindsight(sqlite_url) as store:
        for name in ("a", "b", "silent"):
            store.append("order", name, [NewEvent("Placed", {})], expected=any_())
            store.append("order", name, [NewEvent("Paid", {})], expected=any_())
            store.append("order", name, [NewEvent("Sent", {})], expected=any_())
        broker = Broker({(b"b", "2")})
        publisher: Publisher = names["Kafka"](broker, "orders")
        failures = publisher.publish(list(store.feed()))
        told = {(event.aggregate_id, event.version): event.position for event in store.feed()}
        assert set(failures) == {told["b", 2], told["silent", 1]}
        assert broker.taken == [
            (b"a", "1"),
            (b"b", "1"),
            (b"a", "2"),
            (b"a", "3"),
        ]
        broker.fails.clear()
        assert store.relay(publisher).once().published == 6
