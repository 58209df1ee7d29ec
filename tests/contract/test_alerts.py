"""The alert rules: each fires, stays quiet and resolves, and says what to do."""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from store.cli import hindsight
from tests import prometheus

ROOT = Path(__file__).parents[2]
DEPLOYED = ROOT / "deploy" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
TESTS = ("alerts_test.yml", "alerts_days_test.yml")
_COMMAND = re.compile(r"`hindsight ([^`]+)`")
_METRIC = re.compile(r"\bevent_(?:store|replay|handler)_\w+")
_SUFFIX = re.compile(r"_(?:bucket|count|sum)$")


def parsed(name: str) -> Any:
    return yaml.safe_load((DEPLOYED / name).read_text())


def alerts() -> Mapping[str, Any]:
    groups = parsed("alerts.yml")["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def promtool(*arguments: str) -> str:
    """What it says of files that are good."""
    program = prometheus.find("promtool")
    assert program is not None, "no promtool found; run: make prometheus"
    done = subprocess.run(
        [program, *arguments], cwd=DEPLOYED, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_prometheus_takes_the_configuration() -> None:
    assert f"SUCCESS: {len(alerts())} rules found" in promtool("check", "config", "prometheus.yml")


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTS)
def test_rules_do_what_their_tests_say(name: str) -> None:
    assert "SUCCESS" in promtool("test", "rules", name)


def minutes(text: str) -> float:
    """Of 8d1h30m."""
    units = {"d": 1440.0, "h": 60.0, "m": 1.0}
    return sum(int(count) * units[unit] for count, unit in re.findall(r"(\d+)([dhm])", text))


@pytest.mark.parametrize("alert", alerts())
def test_an_alert_is_seen_to_fire_stay_quiet_and_resolve(alert: str) -> None:
    expectations = [
        [
            (minutes(at["eval_time"]), bool(at["exp_alerts"]))
            for at in case["alert_rule_test"]
            if at["alertname"] == alert
        ]
        for name in TESTS
        for case in parsed(name)["tests"]
    ]
    assert any(
        [fires for _, fires in sorted(found)] == [False, True, False] for found in expectations
    )


def test_an_alert_says_how_bad_it_is_and_leads_to_its_runbook() -> None:
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in {"critical", "warning"}, name
        assert rule["annotations"]["summary"], name
        assert rule["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
    assert {path.stem for path in RUNBOOKS.iterdir()} == set(alerts())


@pytest.mark.parametrize("alert", alerts())
def test_a_runbook_says_what_it_means_where_to_look_and_what_to_do(alert: str) -> None:
    text = (RUNBOOKS / f"{alert}.md").read_text()
    assert re.findall(r"^#+ .*$", text, re.MULTILINE) == [
        f"# {alert}",
        "## What it means",
        "## Look at",
        "## Do",
    ]
    for line in _COMMAND.findall(" ".join(text.split())):
        check_command(line.split())
    for link in re.findall(r"\]\(([^)#]+)", text):
        assert (RUNBOOKS / link).exists(), link


def check_command(words: Sequence[str]) -> None:
    """There is such a command, and it has those options."""
    command: click.Command = hindsight
    rest = list(words)
    while rest and isinstance(command, click.Group):
        name = rest.pop(0)
        assert name in command.commands, " ".join(words)
        command = command.commands[name]
    known = {option for each in command.params for option in each.opts}
    assert {word for word in rest if word.startswith("--")} <= known, " ".join(words)


def asked_for() -> Iterator[str]:
    """The names of metrics in rules and panels."""
    files = [DEPLOYED / "alerts.yml", DEPLOYED / "recording.yml"]
    files += (ROOT / "deploy" / "grafana" / "dashboards").glob("*.json")
    for file in files:
        text = re.sub(r"store:\w+:\w+", "", file.read_text())  # what is recorded
        yield from (_SUFFIX.sub("", name) for name in _METRIC.findall(text))


def test_rules_and_panels_ask_for_metrics_that_there_are() -> None:
    page = (ROOT / "docs" / "howto" / "metrics.md").read_text()
    told = set(re.findall(r"`(event_\w+)`", page))
    labels = {"event_type"}
    asked = set(asked_for()) - labels
    assert asked <= told
    assert len(asked) > 40


def test_every_failure_has_its_alert() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    for row in rows:
        named = re.findall(r"EventStore\w+", row)
        assert named, row
        assert set(named) <= set(alerts()), row


def test_every_alert_is_told_on_the_page() -> None:
    page = (ROOT / "docs" / "howto" / "alerts.md").read_text()
    assert set(re.findall(r"EventStore\w+", page)) == set(alerts())
