"""docker-compose.yml and what it is made of, without Docker: by its specification and by ours."""

import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from store.cli import hindsight
from tests.contract.test_alerts import check_command
from tests.stack import ROOT, composed

SERVICES: Mapping[str, Any] = composed()["services"]
ENDING = {"passwords", "migrate"}
"""Those that do something, and end."""


def check(document: Mapping[str, Any]) -> None:
    PyCompose.from_yaml(yaml.safe_dump(document)).validate()


def test_the_file_is_as_the_specification_says() -> None:
    check(composed())


@pytest.mark.parametrize(
    ("service", "wrong"),
    [
        ("redis", {"imagee": "redis"}),
        ("redis", {"healthcheck": {"tests": ["CMD", "true"]}}),
        ("worker", {"depends_on": {"postgres": {"condition": "healthy"}}}),
        ("grafana", {"ports": {"3000": "3000"}}),
    ],
)
def test_a_file_that_is_not_is_refused(service: str, wrong: Mapping[str, Any]) -> None:
    document = composed()
    changed = document["services"][service] | wrong
    with pytest.raises(ValueError, match=rf"^services\.{service}[.:]"):
        check({**document, "services": {**document["services"], service: changed}})


def test_everything_of_the_stack_is_there() -> None:
    assert set(SERVICES) == {
        *("passwords", "postgres", "redis", "migrate", "service", "worker", "dashboard"),
        *("prometheus", "grafana"),
    }


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_begins_when_those_it_needs_are_ready(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        if needed in ENDING:
            assert how == {"condition": "service_completed_successfully"}, needed
        else:
            assert how == {"condition": "service_healthy"}, needed
            assert "healthcheck" in SERVICES[needed]


def test_nobody_waits_for_itself() -> None:
    def needed(name: str, path: tuple[str, ...] = ()) -> None:
        assert name not in path, path
        for each in SERVICES[name].get("depends_on", {}):
            needed(each, (*path, name))

    for name in SERVICES:
        needed(name)


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ENDING))
def test_what_stays_is_watched_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["healthcheck"]["retries"] > 3
    asked = service["healthcheck"]["test"][-1]
    if asked.startswith("http"):
        port = re.findall(r":(\d+)/", asked)[0]
        told = " ".join([*service.get("command", ()), *service.get("ports", ())])
        assert port in told


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_listens_beyond_this_machine(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:")


def test_any_number_of_workers_may_run() -> None:
    assert "ports" not in SERVICES["worker"]
    assert not any("container_name" in service for service in SERVICES.values())


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_one_version(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+(\.\d+)+", SERVICES[name]["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_there_is_no_secret_to_know(name: str) -> None:
    for key, value in SERVICES[name].get("environment", {}).items():
        if re.search("PASSWORD|SECRET|TOKEN", key):
            assert key.endswith("_FILE"), key
        assert not re.search(r"://[^/@\s]*:[^/@\s]+@", str(value)), key


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_is_mounted_is_there(name: str) -> None:
    volumes = composed()["volumes"]
    for mounted in SERVICES[name].get("volumes", ()):
        source = mounted.split(":")[0]
        assert source in volumes or (ROOT / source).is_dir(), mounted
        if source.startswith("."):
            assert mounted.endswith(":ro")


def test_each_sees_its_own_password_alone() -> None:
    own = {
        name: [each for each in service.get("volumes", ()) if "password" in each]
        for name, service in SERVICES.items()
        if name != "passwords"
    }
    assert {name: each for name, each in own.items() if each} == {
        "postgres": ["database-password:/run/hindsight:ro"],
        "migrate": ["owner-password:/run/hindsight:ro"],
        "service": ["app-password:/run/hindsight:ro"],
        "worker": ["worker-password:/run/hindsight:ro"],
        "dashboard": ["reader-password:/run/hindsight:ro"],
    }


@pytest.mark.parametrize("name", ["migrate", "worker"])
def test_commands_are_those_of_the_program(name: str) -> None:
    program, *words = SERVICES[name]["command"]
    assert program == hindsight.name
    check_command([word.split("=")[0] for word in words])


def test_prometheus_asks_those_that_listen() -> None:
    jobs = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    asked = {
        (job["job_name"], target)
        for job in jobs
        for each in job.get("static_configs", ())
        for target in each["targets"]
    }
    asked |= {
        (job["job_name"], f"{name}:{each['port']}")
        for job in jobs
        for each in job.get("dns_sd_configs", ())
        for name in each["names"]
    }
    assert {job for job, _ in asked} == {"service", "worker", "dashboard"}
    for job, target in asked:
        host, port = target.split(":")
        assert host == job
        assert port in " ".join(SERVICES[host]["command"])


# The image


def test_the_image_runs_as_nobody_in_particular() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users[-1] not in {"root", "0"}
    for line in lines:
        if line.startswith("FROM "):
            assert re.search(r":\d+\.\d+\.\d+", line), line


def test_the_image_has_what_it_copies_and_what_the_tests_know() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    for copied in re.findall(r"^COPY (?!--from)(\S+) ", text, re.MULTILINE):
        assert (ROOT / copied).exists()
        assert copied == "." or f"!{copied}" in sent, copied
    for name in (line[1:] for line in sent if line.startswith("!")):
        assert (ROOT / name).exists(), name
    [fastapi] = re.findall(r"fastapi==\S+", text)
    assert fastapi in (ROOT / "requirements-dev.txt").read_text().splitlines()


def test_passwords_are_made_once_and_for_their_owners_alone(tmp_path: Path) -> None:
    make = [sys.executable, str(ROOT / "deploy" / "passwords.py"), str(tmp_path)]
    for name in ("database", "owner", "app", "worker", "reader"):
        (tmp_path / name).mkdir()
    subprocess.run(make, check=True)
    made = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    subprocess.run(make, check=True)
    assert made == {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    words = {text.strip().rpartition(":")[2] for text in made.values()}
    assert len(words) == 4
    assert all(len(word) > 40 for word in words)
    for path in made:
        expected = 0o644 if path.name == "password" else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path
