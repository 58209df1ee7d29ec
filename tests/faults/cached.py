"""One of several processes that write and read through their caches, and check what they get.

Prints, as JSON, how often it checked what, and what was wrong. The table `restores` counts how
often the database was put back to an earlier point; what was read while that happened is not
judged, for it may be of either side.
"""

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry
from sqlalchemy import text

from store import Hindsight, Metrics
from store.cache import shared
from store.errors import (
    DatabaseBusy,
    NotFound,
    StoreUnavailable,
    VersionConflict,
)
from tests.totals import Add, numbers, put

AGGREGATES = 6
AGE = 0.2


class Process:
    """A store with a cache, and one without that tells what is right."""

    def __init__(self, cached: Hindsight, bare: Hindsight, name: str) -> None:
        self.cached = cached
        self.bare = bare
        self.chosen = random.Random(name)
        self.checks = Counter[str]()
        self.wrong: list[str] = []
        self._restores = 0
        self._restored_at = 0.0
        self._seen: dict[str, list[tuple[float, int]]] = {}
        self._wrote: dict[str, int] = {}

    def step(self) -> None:
        """Do one thing to one aggregate."""
        actions: list[Callable[[str], None]] = [self.write, self.load, self.load, self.history]
        action = self.chosen.choice([*actions, self.load_of_some_age])
        try:
            action(f"a{self.chosen.randrange(AGGREGATES)}")
        except (StoreUnavailable, DatabaseBusy):
            self.checks["unavailable"] += 1
        except (VersionConflict, NotFound):
            self.checks["nothing there, or somebody else first"] += 1

    def write(self, name: str) -> None:
        before = self._has_restored()
        if self.chosen.random() < 0.5:
            version = self.cached.execute(name, Add(self.chosen.randint(1, 9))).version
        else:
            put(self.cached, *[self.chosen.randint(1, 9)] * 3, aggregate_id=name)
            version = 0
        loaded = self.cached.load(name, max_age=60)
        if self._has_restored() == before:
            self._judge("own write", name, loaded.version >= version, loaded, version)

    def load(self, name: str) -> None:
        before, least = self._has_restored(), self._head(name)
        loaded = self.cached.load(name)
        most = self._head(name)
        self._compare("load", name, before, loaded, least <= loaded.version <= most)

    def load_of_some_age(self, name: str) -> None:
        before, started = self._has_restored(), time.monotonic()
        loaded = self.cached.load(name, max_age=AGE)
        if started - self._restored_at < AGE + 0.3:
            return
        seen = [version for at, version in self._seen.get(name, []) if at <= started - AGE]
        least = seen[-1] if seen else 0
        self._compare("load of some age", name, before, loaded, loaded.version >= least)

    def history(self, name: str) -> None:
        before, least = self._has_restored(), self._head(name)
        events = list(self.cached.events(name))
        most = self._head(name)
        right = list(self.bare.events(name, to_version=len(events)))
        if self._has_restored() == before:
            fits = least <= len(events) <= most and events == right
            self._judge("history", name, fits, len(events), least, most)

    def _compare(self, what: str, name: str, before: int, loaded: Any, fits: bool) -> None:  # noqa: FBT001
        fits = fits and loaded.state == self.bare.load(name, version=loaded.version).state
        if self._has_restored() == before:
            self._judge(what, name, fits, loaded)

    def _judge(self, what: str, name: str, fits: bool, *facts: object) -> None:  # noqa: FBT001
        self.checks[what] += 1
        if not fits:
            self.wrong.append(f"{what} of {name}: {facts}")

    def _head(self, name: str) -> int:
        version = self.bare.aggregate(name).version
        self._seen.setdefault(name, []).append((time.monotonic(), version))
        return version

    def _has_restored(self) -> int:
        """How often the database was put back."""
        with self.bare.database.connect() as connection:
            restores: int = connection.execute(text("SELECT n FROM restores")).scalar_one()
        if restores != self._restores:
            self._restores, self._restored_at = restores, time.monotonic()
            self._seen.clear()
        return restores


def main() -> None:
    url, redis_url, name, seconds = sys.argv[1:]
    deadline = time.monotonic() + float(seconds)
    shared.REST = 0.2  # so that Redis is asked between two faults
    metrics = Metrics(CollectorRegistry())
    with (
        Hindsight(url, domain=numbers(), redis_url=redis_url, metrics=metrics) as cached,
        Hindsight(url, domain=numbers(), cache=False, metrics=False) as bare,
    ):
        process = Process(cached, bare, name)
        while time.monotonic() < deadline and not process.wrong:
            process.step()
    process.checks.update(looked_up(metrics))
    sys.stdout.write(json.dumps({"checks": process.checks, "wrong": process.wrong}) + "\n")


def looked_up(metrics: Metrics) -> dict[str, int]:
    """How often each level had what."""
    return {
        f"{labels['level']} {labels['result']}": int(value)
        for (name, pairs), value in metrics.values().items()
        if name == "event_store_cache_lookups_total"
        if (labels := dict(pairs))["kind"] == "state"
    }


if __name__ == "__main__":
    main()
