"""A trace as one HTML file: the dashboard's own modules in one script, and the history as data.

The modules are read as files. None of them is imported, and the dashboard need not be able to run.
"""

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from html import escape
from importlib.resources import files

import msgspec
from msgspec import Struct

from store.sources import traces
from store.trace.history import History

SCRIPT = "trace.js"
STYLES = ("timeline.css", "replay.css", "trace.css")

_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./([\w-]+\.js)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:const|class|function\*?|async function) (\w+))", re.MULTILINE)


class Header(Struct, frozen=True, kw_only=True):
    """What a trace is of, and how it was made.

    `cut` says that versions before the `first` are left out, `newest` is the aggregate's version
    then, `generic` whether there was no domain code. `masked` are the fields that are masked; None:
    all is as it is stored, as somebody wanted.
    """

    aggregate_id: str
    aggregate_type: str
    store: str
    made_at: datetime
    first: int
    cut: bool
    newest: int
    generic: bool
    masked: Sequence[str] | None
    gap: str | None = None


def page(header: Header, history: History) -> Iterator[bytes]:
    """The file, a part after the other."""
    script, style = script_of(SCRIPT), "".join(map(_static, STYLES))
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)};"
        " base-uri 'none'; form-action 'none'"
    )
    title = escape(f"{header.aggregate_id} · Hindsight trace")
    yield (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="color-scheme" content="light dark">\n<title>{title}</title>\n'
        f"<style>{style}</style>\n</head>\n<body>\n"
        "<noscript>This trace is drawn by the script inside of it.</noscript>\n"
    ).encode()
    yield traces.CUT_EVENTS if header.cut else traces.EVENTS
    for line in history.events:
        yield _as_data(line)
    yield traces.END
    yield b'<script type="application/json" id="trace">{"header":'
    yield _as_data(msgspec.json.encode(header))
    yield b',"before":' + _as_data(history.before) + b',"steps":[\n'
    yield b",\n".join(map(_as_data, history.steps))
    yield b"]}</script>\n"
    yield f"<script>{script}</script>\n</body>\n</html>\n".encode()


def script_of(name: str) -> str:
    """A module of the dashboard and all that it imports, as one script without modules."""
    parts: dict[str, str] = {}
    _bundle(name, parts)
    return '"use strict";\nconst modules = {};\n' + "".join(parts.values())


def _bundle(name: str, parts: dict[str, str]) -> None:
    """Add a module behind those that it imports."""
    source = _static(name)
    for _, imported in _IMPORT.findall(source):
        if imported not in parts:
            _bundle(imported, parts)
    exported = ", ".join(_EXPORT.findall(source))
    body = _EXPORT.sub("", _IMPORT.sub(_taken, source))
    parts[name] = f'modules["{name}"] = (() => {{\n{body}\nreturn {{ {exported} }};\n}})();\n'


def _taken(found: re.Match[str]) -> str:
    names, module = found.groups()
    return f'const {names.replace(" as ", ": ")} = modules["{module}"];'


def _static(name: str) -> str:
    return (files("dashboard") / "static" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _as_data(encoded: bytes) -> bytes:
    """JSON that nobody takes for markup: there is a `<` in texts only, where `\\u003c` is the same.

    A line stays one, for HTML takes a carriage return for the end of a line.
    """
    return encoded.replace(b"<", b"\\u003c").replace(b"\r", b" ")
