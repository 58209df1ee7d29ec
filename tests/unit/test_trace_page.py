"""A trace's HTML: one script of many modules, and strangers' text that stays text."""

import re
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.errors import InvalidSource
from store.sources.ndjson import NdjsonSource
from store.trace import Header, History, page
from store.trace.page import script_of

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "a\u2028b\r\nc",
    "]]>",
    "&lt;",
    "\0",
]
EVENT = {
    "event_id": "00000000-0000-7000-8000-000000000001",
    "aggregate_id": "a",
    "aggregate_type": "thing",
    "version": 1,
    "event_type": "Set",
    "data": {},
    "occurred_at": "2026-01-01T00:00:00Z",
}


class Parts(HTMLParser):
    """What a browser makes of the page: its tags, and what is in its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script":
            self.scripts[-1] += data


def header(text: str) -> Header:
    return Header(
        aggregate_id=text,
        aggregate_type=text,
        store=text,
        made_at=datetime(2026, 1, 1, tzinfo=UTC),
        first=1,
        cut=False,
        newest=1,
        generic=True,
        masked=[text],
        gap=text,
    )


def made(text: str, *, line: bytes | None = None) -> str:
    event = msgspec.json.encode(EVENT | {"data": {text: text}}) if line is None else line
    history = History(
        before=msgspec.json.encode({text: text}),
        events=[event + b"\n"],
        steps=[msgspec.json.encode({"patch": [], "error": text})],
        gap=text,
    )
    return b"".join(page(header(text), history)).decode()


@pytest.mark.parametrize("text", HOSTILE)
def test_strangers_text_is_no_markup(text: str) -> None:
    found = Parts(made(text))
    assert found.tags == Parts(made("a")).tags
    events, trace, script = found.scripts
    assert msgspec.json.decode(events)["data"] == {text: text}
    assert msgspec.json.decode(trace)["header"]["aggregate_id"] == text
    assert script == Parts(made("a")).scripts[2]


@given(st.text())
def test_no_text_whatever_is_markup(text: str) -> None:
    found = Parts(made(text))
    assert len(found.scripts) == 3
    assert msgspec.json.decode(found.scripts[1])["before"] == {text: text}


def test_the_policy_allows_this_script_and_this_style_alone() -> None:
    text = made("a")
    found = re.search(r'Content-Security-Policy" content="(.*?)"', text)
    assert found
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)
    assert style
    hashes = [
        b64encode(sha256(part.encode()).digest()).decode()
        for part in (Parts(text).scripts[2], style[1])
    ]
    assert found[1] == (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}';"
        " base-uri 'none'; form-action 'none'"
    )


def test_the_script_has_each_module_once_behind_what_it_needs() -> None:
    script = script_of("trace.js")
    assert not re.search(r"^\s*(import|export)\b", script, re.MULTILINE)
    names = re.findall(r'^modules\["([\w-]+\.js)"\] = ', script, re.MULTILINE)
    assert names[-1] == "trace.js"
    assert len(names) == len(set(names)) > 5
    for name in re.findall(r'\} = modules\["([\w-]+\.js)"\];', script):
        assert name in names
    assert "documents.js" not in names, "it would ask a server"
    assert "</script" not in script.lower()
    assert "<!--" not in script
    assert "fetch(" not in script


@pytest.mark.parametrize("space", [b"\r", b"\r\n", b"\n"])
def test_a_line_of_an_event_stays_one(tmp_path: Path, space: bytes) -> None:
    line = msgspec.json.encode(EVENT).replace(b'"data":{}', b'"data":{ ' + space + b'"a":1}')
    path = tmp_path / "t.html"
    path.write_text(made("a", line=line.replace(b"\n", b" ")), newline="")
    with NdjsonSource(path) as source:
        assert [event.data for event in source.events("a")] == [{"a": 1}]
    assert b"\r" not in path.read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!doctype html>\n<p>hello", "an HTML file, but no trace"),
        ("<!DOCTYPE html>\n", "an HTML file, but no trace"),
        (made("a").partition("</script>")[0], "the trace ends early"),
    ],
)
def test_what_is_no_whole_trace_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.html"
    path.write_text(text)
    with pytest.raises(InvalidSource, match=f"t.html: {message}"):
        NdjsonSource(path)
