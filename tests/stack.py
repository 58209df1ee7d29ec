"""The stack of docker-compose.yml, run without containers: its commands and settings as written."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import yaml

from tests import prometheus
from tests.servers import PostgresServer, RedisServer
from tests.waiting import until

ROOT = Path(__file__).parents[1]
WAIT = 60.0
_LISTENS = re.compile(r"http://[\w.]+:(\d+)")


def composed() -> Mapping[str, Any]:
    """The file, with what it repeats in place."""
    found: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


class Stack:
    """Its processes, with folders in place of volumes and free ports in place of its own."""

    def __init__(self, postgres: PostgresServer, redis: RedisServer, folder: Path) -> None:
        self.services = composed()["services"]
        self.folder = folder
        self._postgres = postgres
        self._redis = redis
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.ports: dict[str, int] = {}

    def run(self, name: str) -> str:
        """What a service prints that ends, and ends well."""
        done = subprocess.run(
            self._command(name),
            cwd=ROOT,
            env=self.environment(name),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, name: str, *, port: int = 0) -> None:
        """Have a service run, until it is healthy; 0 is any free port."""
        log = self.log(name)
        with log.open("wb") as output:
            self._running[name] = subprocess.Popen(
                self._command(name, port),
                cwd=ROOT,
                env=self.environment(name),
                stdout=output,
                stderr=output,
            )
        until(lambda: self._listens(name) is not None, WAIT)
        self.ports[name] = int(self._listens(name) or 0)
        until(lambda: self._is_healthy(name), WAIT)

    def log(self, name: str) -> Path:
        """What a service has said since it was started last."""
        return self.folder / f"{name}.log"

    def stop(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End a service that runs."""
        process = self._running.pop(name)
        process.send_signal(number)
        process.wait(30)

    def end(self) -> None:
        """End all that run."""
        for name in list(self._running):
            self.stop(name)

    def environment(self, name: str) -> dict[str, str]:
        """The environment of a service, where what it leads to is here."""
        given = self.services[name].get("environment", {})
        metrics = self.folder / f"{name}-metrics"
        metrics.mkdir(exist_ok=True)
        places = {"/metrics": str(metrics)} | self._places(name)
        return os.environ | {key: self._placed(str(value), places) for key, value in given.items()}

    def _command(self, name: str, port: int = 0) -> list[str]:
        program, *words = self.services[name]["command"]
        if program == "python":
            program = sys.executable
        else:
            program = str(Path(sys.executable).with_name(program))
        own = dict.fromkeys(("8000", "8501", "0.0.0.0:9101"), str(port))
        own["0.0.0.0"] = "127.0.0.1"  # noqa: S104 (what is written there)
        places = self._places(name)
        return [
            program,
            *(self._placed(own.get(word, word), places) for word in words if word != "--expose"),
        ]

    def _places(self, name: str) -> dict[str, str]:
        """The folder of each volume of a service by where that is mounted."""
        volumes = [each.split(":") for each in self.services[name].get("volumes", ())]
        if name == "passwords":
            for each in volumes:
                (self.folder / Path(each[1]).name).mkdir(exist_ok=True)
            return {"/run/hindsight": str(self.folder)}
        return {each[1]: str(self.folder / each[0].removesuffix("-password")) for each in volumes}

    def _placed(self, text: str, places: Mapping[str, str]) -> str:
        host = quote(str(self._postgres.directory), safe="")
        text = text.replace("@postgres/hindsight", f"@/hindsight?host={host}")
        text = text.replace("redis://redis:6379/0", self._redis.url)
        for inside, outside in places.items():
            text = text.replace(inside, outside)
        return text

    def _listens(self, name: str) -> str | None:
        process = self._running[name]
        assert process.poll() is None, self.log(name).read_text()
        found = _LISTENS.search(self.log(name).read_text())
        return found and found[1]

    def _is_healthy(self, name: str) -> bool:
        path = urlsplit(self.services[name]["healthcheck"]["test"][-1]).path
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}{path}", timeout=3):
                return True
        except OSError:
            return False


@contextmanager
def started(postgres: PostgresServer, redis: RedisServer, folder: Path) -> Iterator[Stack]:
    """The stack, migrated: the database asks every role but the superuser for its password."""
    rules = "local all postgres trust\nlocal all all scram-sha-256\n"
    stack = Stack(postgres, redis, folder)
    stack.run("passwords")
    owner = (folder / "database" / "password").read_text()
    postgres.execute(f"CREATE ROLE hindsight_owner LOGIN CREATEROLE PASSWORD '{owner}'")
    postgres.execute("CREATE DATABASE hindsight OWNER hindsight_owner")
    (postgres.directory / "data" / "pg_hba.conf").write_text(rules)
    postgres.execute("SELECT pg_reload_conf()")
    try:
        stack.run("migrate")
        for name in ("service", "worker", "dashboard"):
            stack.start(name)
        yield stack
    finally:
        stack.end()


@contextmanager
def scraped(stack: Stack) -> Iterator[str]:
    """The address of a Prometheus with the stack's configuration, each second."""
    folder = stack.folder / "prometheus"
    folder.mkdir()
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [
        str(ROOT / "deploy" / "prometheus" / name) for name in config["rule_files"]
    ]
    config["scrape_configs"] = [
        {
            "job_name": job["job_name"],
            "static_configs": [
                {
                    "targets": [f"127.0.0.1:{stack.ports[job['job_name']]}"],
                    "labels": {"store": "users"},
                }
            ],
        }
        for job in config["scrape_configs"]
    ]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    with prometheus.running(path, folder) as url:
        yield url
