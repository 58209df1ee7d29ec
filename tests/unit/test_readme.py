"""What the README shows works as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from store.cli import hindsight
from store.interchange import parse_line

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize(
    "code", blocks("python"), ids=["first steps", "commands", "own transaction"]
)
def test_the_code_runs_and_prints_what_its_comments_say(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for printed in re.findall(r"print\(\w+\)  # (.*)", code):
        assert printed in done.stdout.splitlines()


def test_the_event_line_is_one() -> None:
    [line] = blocks("json")
    assert parse_line(line.encode(), position=1).event_type == "OrderOpened"


def test_every_command_shown_exists_with_its_options() -> None:
    shown = re.findall(r"^hindsight (\w+)(.*?)(?:#|$)", "".join(blocks("sh")), re.MULTILINE)
    assert len(shown) == 11
    for name, rest in shown:
        options = re.findall(r"--[a-z-]+", rest)
        help_text = CliRunner().invoke(hindsight, [name, "--help"]).output
        assert [option for option in options if option not in help_text] == []
        assert "Usage" in help_text


def test_the_make_targets_shown_exist() -> None:
    targets = re.findall(r"^make (\w+)", "".join(blocks("sh")), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    assert targets == ["demo", "test"]
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
