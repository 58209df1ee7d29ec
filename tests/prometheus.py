"""A real Prometheus and its promtool: the system's, else Debian's package unpacked beside us."""

import os
import shutil
import subprocess
import sys
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


if __name__ == "__main__":
    if not (find() or install()):
        sys.exit("no Prometheus: put prometheus and promtool on the PATH and run again")
