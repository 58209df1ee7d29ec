"""A real Prometheus and its promtool: the system's, else Debian's package unpacked beside us."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_UNPACKED = Path(__file__).parents[1] / ".venv" / "prometheus"


def find(name: str = "prometheus") -> str | None:
    """The path of the program `prometheus` or `promtool`, or None."""
    if path := shutil.which(name):
        return path
    unpacked = _UNPACKED / "usr" / "bin" / name
    return str(unpacked) if unpacked.exists() else None


def install() -> str | None:
    """Unpack Debian's package; nothing on the system changes but its package lists."""
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        return None
    _UNPACKED.mkdir(parents=True, exist_ok=True)
    for prepare in ([], ["apt-get", "update"]):
        if prepare and os.geteuid() == 0:
            subprocess.run(prepare, check=False, stdout=sys.stderr)
        download = ["apt-get", "download", "prometheus"]
        subprocess.run(download, check=False, stdout=sys.stderr, cwd=_UNPACKED)
        for package in _UNPACKED.glob("prometheus_*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(_UNPACKED)], check=True)
            package.unlink()
        if path := find():
            return path
    return None


def complaints(exposition: bytes) -> str:
    """What promtool has to say against metrics in the text format."""
    promtool = find("promtool")
    assert promtool is not None, "no promtool found; run: make prometheus"
    command = [promtool, "check", "metrics"]
    done = subprocess.run(command, input=exposition, capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode()
    assert said or done.returncode == 0
    return said


@contextmanager
def scraping(target: str, folder: Path) -> Iterator[str]:
    """The address of a Prometheus that asks `target`, a host and port, each second."""
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: users, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    with running(config, folder) as url:
        yield url


@contextmanager
def running(config: Path, folder: Path) -> Iterator[str]:
    """The address of a Prometheus with a configuration, whose data is in a folder."""
    program = find()
    assert program is not None, "no Prometheus found; run: make prometheus"
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = [
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *options], stdout=log, stderr=log)
    try:
        _wait_until_ready(f"http://{address}/-/ready", folder / "log")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_ready(url: str, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()  # noqa: S310 (our own)
        except OSError:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        else:
            return


if __name__ == "__main__":
    if not (find() or install()):
        sys.exit("no Prometheus: put prometheus and promtool on the PATH and run again")
