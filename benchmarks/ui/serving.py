"""The servers that are compared, each a process of its own."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2
import msgspec

ROOT = Path(__file__).parents[2]
_COUNTED_WITHIN = 300.0


class Counted(msgspec.Struct):
    """Whether a served store has been counted, as `/documents/store` tells it."""

    complete: bool


@contextmanager
def empty_page() -> Iterator[str]:
    """The address of the empty page."""
    with _served(["benchmarks.ui.empty_server"]) as address:
        yield address


@contextmanager
def dashboard(source: str, *, domain: str = "", directory: Path = ROOT) -> Iterator[str]:
    """The address of the dashboard over `source`, once it has counted its events.

    It is started in `directory`, as `source` may be a relative path.
    """
    command = ["dashboard", "--source", source, "--port", "0"]
    with _served(command, domain=domain, directory=directory) as address:
        deadline = time.monotonic() + _COUNTED_WITHIN
        while not _is_counted(address):
            if time.monotonic() > deadline:
                raise SystemExit(f"the dashboard has not counted {source} in {_COUNTED_WITHIN} s")
            time.sleep(0.2)
        yield address


def _is_counted(address: str) -> bool:
    answer = httpx2.get(f"{address}/documents/store", timeout=_COUNTED_WITHIN)
    return msgspec.json.decode(answer.raise_for_status().content, type=Counted).complete


@contextmanager
def _served(module: Sequence[str], *, domain: str = "", directory: Path = ROOT) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", *module],
        cwd=directory,
        env={**os.environ, "EVENT_STORE_DOMAIN": domain, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        greeting = process.stdout.readline()
        found = re.search(r"http://\S+", greeting)
        if not found:
            raise SystemExit(f"{module[0]} did not say where it listens: {greeting!r}")
        yield found.group()
    finally:
        process.terminate()
        process.wait(20)
