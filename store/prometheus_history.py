"""Metrics over time as a Prometheus server keeps them."""

import json
import re
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import msgspec
from msgspec import Struct

from store.errors import InvalidSetting, MetricsUnavailable
from store.metric_history import OURS, Alerts, Firing, Labels, Newest, Window, ranked

TIME_LIMIT = 5.0
"""Seconds that an answer may take."""
T = TypeVar("T")
_LABEL = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")


class _Series(Struct):
    metric: dict[str, str]
    value: tuple[float, str] = (0.0, "0")
    values: list[tuple[float, str]] = []


class _Result(Struct):
    result: list[_Series]


class _Answer(Struct):
    data: _Result


class _Alert(Struct):
    state: str
    labels: dict[str, str]
    annotations: dict[str, str]
    active_at: datetime = msgspec.field(name="activeAt")


class _Rule(Struct):
    name: str
    alerts: list[_Alert] = []


class _Group(Struct):
    rules: list[_Rule]


class _Groups(Struct):
    groups: list[_Group]


class _Rules(Struct):
    data: _Groups


class PrometheusHistory:
    """The `MetricHistory` of a Prometheus server. Safe to share between threads.

    `url` is its address; parameters in it are labels that the series must have, as in
    `http://prometheus:9090?job=users`. Increases are PromQL's: estimated between two scrapes.

    Raises:
        InvalidSetting: the URL is none of a server.
    """

    kind: Literal["prometheus"] = "prometheus"
    # Four of Prometheus' usual scrapes: an increase takes two, and one may be missed.
    finest = timedelta(seconds=60)

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        labels = parse_qsl(parts.query)
        try:
            port = parts.port
        except ValueError:
            port = -1
        proper = parts.scheme in {"http", "https"} and parts.hostname and port != -1
        if not proper or not all(_LABEL.fullmatch(name) for name, _ in labels):
            shown = "this" if "@" in url else repr(url)  # what stands before an @ may be a password
            raise InvalidSetting(
                f"EVENT_STORE_PROMETHEUS_URL: {shown} is no address such as http://prometheus:9090"
            )
        host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else f"{parts.hostname}"
        self.name = host if port is None else f"{host}:{port}"
        self._labels = dict(labels)
        self._matchers = ",".join(f"{name}={json.dumps(value)}" for name, value in labels)
        self._api = f"{parts.scheme}://{self.name}{parts.path.rstrip('/')}/api/v1"
        self._headers = {}
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {b64encode(secret.encode()).decode()}"

    def increases(
        self, metric: str, window: Window, *, by: Sequence[str] = ()
    ) -> Mapping[Labels, Sequence[float]]:
        """See `MetricHistory.increases`."""
        seconds = round(window.step.total_seconds())
        query = f"sum by ({','.join(by)}) (increase({self._series(metric)}[{seconds}s]))"
        return {
            tuple(labels.get(name, "") for name in by): [value or 0.0 for value in values]
            for labels, values in self._range(query, window)
        }

    def levels(self, gauge: str, window: Window) -> Sequence[float | None]:
        """See `MetricHistory.levels`."""
        seconds = round(window.step.total_seconds())
        query = f"max(last_over_time({self._series(gauge)}[{seconds}s]))"
        found = self._range(query, window)
        return found[0][1] if found else [None] * window.steps

    def newest(self) -> Newest | None:
        """See `MetricHistory.newest`; the process is what Prometheus calls an instance."""
        query = f"topk(1, timestamp({self._series('event_store_build_info')}))"
        found = self._ask("query", {"query": query})
        if not found:
            return None
        at = datetime.fromtimestamp(float(found[0].value[1]), UTC)
        return Newest(at=at, process=found[0].metric.get("instance", ""))

    def alerts(self) -> Alerts | None:
        """See `MetricHistory.alerts`: of the stores that the labels of the URL leave."""
        groups = self._answer("rules?type=alert", None, _Rules).data.groups
        rules = [rule for group in groups for rule in group.rules if rule.name.startswith(OURS)]
        if not rules:
            return None
        of_rules = ((rule, alert) for rule in rules for alert in rule.alerts)
        ours = [_firing(rule, alert) for rule, alert in of_rules if self._is_ours(alert)]
        return ranked(len(rules), ours)

    def _is_ours(self, alert: _Alert) -> bool:
        # Alerts add up series: what they do not tell apart they have no label for.
        labels = alert.labels
        ours = all(labels.get(name, value) == value for name, value in self._labels.items())
        return ours and alert.state == "firing"

    def _series(self, metric: str) -> str:
        return f"{metric}{{{self._matchers}}}"

    def _range(
        self, query: str, window: Window
    ) -> Sequence[tuple[dict[str, str], list[float | None]]]:
        """The series a query gives, each with a value for every step, told at the step's end."""
        first, width = (window.start + window.step).timestamp(), window.step.total_seconds()
        found = self._ask(
            "query_range",
            {"query": query, "start": first, "end": window.end.timestamp(), "step": width},
        )
        answer = []
        for series in found:
            values: list[float | None] = [None] * window.steps
            for moment, value in series.values:
                values[round((moment - first) / width)] = float(value)
            answer.append((series.metric, values))
        return answer

    def _ask(self, path: str, parameters: Mapping[str, Any]) -> Sequence[_Series]:
        return self._answer(path, urlencode(parameters).encode(), _Answer).data.result

    def _answer(self, path: str, form: bytes | None, kind: type[T]) -> T:
        request = urllib.request.Request(  # noqa: S310 (checked: http or https)
            f"{self._api}/{path}", data=form, headers=self._headers
        )
        try:
            with urllib.request.urlopen(request, timeout=TIME_LIMIT) as answer:  # noqa: S310
                return msgspec.json.decode(answer.read(), type=kind)
        except (OSError, HTTPException, msgspec.MsgspecError) as error:
            raise MetricsUnavailable(
                f"no metrics from Prometheus at {self.name}: {_why(error)}"
            ) from error


def _firing(rule: _Rule, alert: _Alert) -> Firing:
    critical = alert.labels.get("severity") == "critical"
    return Firing(
        name=rule.name,
        severity="critical" if critical else "warning",
        summary=alert.annotations.get("summary", ""),
        since=alert.active_at,
    )


def _why(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        error.close()  # it is an answer, too
        return f"it answers {error.code}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    if isinstance(error, TimeoutError):
        return f"no answer within {TIME_LIMIT:.0f} s"
    if isinstance(error, msgspec.MsgspecError):
        return "its answer is none of Prometheus"
    return str(error) or type(error).__name__
