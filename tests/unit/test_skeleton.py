"""What a fresh clone relies on: make's targets, the pins, the refusals."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from tests import chromium

ROOT = Path(__file__).parents[2]
TARGETS = ["help", "demo", "test", "check", "soak", "lint", "bench"]
PIN = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; .+)?")


def _pins(name: str) -> list[str]:
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if line and not line.lstrip().startswith("#")]


@pytest.mark.parametrize("target", TARGETS)
def test_make_help_tells_what_a_target_does(target: str) -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert re.search(rf"^  make {target} +\w", listed.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_requirements_are_exact_versions_and_nothing_else(name: str) -> None:
    assert [line for line in _pins(name) if not PIN.fullmatch(line)] == []


def test_tests_run_on_the_versions_that_users_get() -> None:
    assert set(_pins("requirements.txt")) <= set(_pins("requirements-dev.txt"))


def test_the_installed_version_is_the_one_in_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert version(project["name"]) == project["version"]


def test_an_old_python_is_refused_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit\nexit 1\n')
    old.chmod(0o755)
    refused = subprocess.run(
        [ROOT / "scripts" / "environment", "requirements.txt"],
        env={"PYTHON": str(old), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert re.fullmatch(r".*Python 3\.9\.2.*3\.11 or later.*\n", refused.stderr)
    assert not (tmp_path / ".venv").exists()


def test_ci_runs_make_test_and_allows_no_skip() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert {"set -euo pipefail", "export CI=true", "exec make test"} <= set(
        script.read_text().splitlines()
    )


@pytest.mark.parametrize(("ci", "outcome"), [("true", "1 failed"), ("", "1 skipped")])
@pytest.mark.slow
def test_a_skipped_test_fails_in_ci(tmp_path: Path, ci: str, outcome: str) -> None:
    (tmp_path / "test_it.py").write_text("import pytest\ndef test_it(): pytest.skip('away')\n")
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-rs",
            "-p",
            "tests.conftest",
            "--rootdir",
            tmp_path,
            tmp_path,
        ],
        env={**os.environ, "CI": ci, "PYTEST_ADDOPTS": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in run.stdout
    assert "away" in run.stdout


def test_the_systems_chromium_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "chromium"
    own.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chromium.find() == str(own)
