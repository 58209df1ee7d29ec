"""The process that evaluates an expression: lines of JSON in, lines of JSON out.

It is run as a file, not imported, so that it starts without the store. Whatever the expression
does, only this process grows, stalls or dies.
"""

import math
import re
import sys
import time
from collections.abc import Iterable
from typing import Any

import msgspec
from cel_expr_python import cel

if sys.platform != "win32":  # where nothing is evaluated, but the store works
    import resource

OUT_OF_MEMORY = 3
TOO_LARGE = 4
LONGEST_REPLY = 64_000_000

_MISSING = (
    "NOT_FOUND: Key not found in map",
    "UNKNOWN: No value with name",
    "UNKNOWN: Index error: index=",
    "INVALID_ARGUMENT: Applying SELECT to non-message type",
    "INVALID_ARGUMENT: Invalid container type",
)
"""How CEL begins to tell of a variable, field, key or index that is not there.

Nothing has fields or keys but objects and lists, so in null or a text none is there.
"""


_NUL = b"\\u0000"
"""How JSON writes it; where a backslash is followed by that, nothing comes of looking closer."""
_STATUS = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")


def main() -> int:
    """Answer until nothing more is asked; the exit code."""
    task = msgspec.json.decode(sys.stdin.buffer.readline())
    _limit_memory(task["megabytes"])
    environment = cel.NewEnv(variables=dict.fromkeys(task["names"], cel.Type.DYN))
    program = environment.compile(task["text"], disable_check=not task["checked"])
    try:
        for line in sys.stdin.buffer:
            _limit_time(task["seconds"])
            reply = _reply(program, msgspec.json.decode(line), with_nul=_NUL in line)
            if reply is None:
                return TOO_LARGE
            sys.stdout.buffer.write(reply)
            sys.stdout.buffer.flush()
    except MemoryError:
        return OUT_OF_MEMORY
    return 0


def _reply(
    program: cel.Expression, parts: Iterable[dict[str, Any]], *, with_nul: bool
) -> bytes | None:
    answers: list[bytes] = []
    size = 0
    for part in parts:
        # CEL's binding takes a text up to its first NUL, and would answer for another one.
        cut = with_nul and _has_nul(part)
        answers.append(
            _encoded(_error("a text has \\u0000 in it") if cut else _answer(program, part))
        )
        size += len(answers[-1])
        if size > LONGEST_REPLY:
            return None
    return b"[" + b",".join(answers) + b"]\n"


def _has_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any("\0" in key or _has_nul(item) for key, item in value.items())
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\0" in value


def _encoded(answer: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(answer, order="deterministic", enc_hook=str)
    except (TypeError, ValueError):  # a map whose keys are numbers, say
        return msgspec.json.encode(_error("its value is no JSON"))


def _answer(program: cel.Expression, part: dict[str, Any]) -> dict[str, Any]:
    try:
        found = program.eval(data=part)
    except RuntimeError as error:  # such as its budget of iterations
        return _error(str(error))
    value = found.plain_value()
    if found.type() == cel.Type.ERROR:
        return {"kind": "undefined"} if value.startswith(_MISSING) else _error(value)
    if isinstance(value, float) and not math.isfinite(value):
        return _error(f"{value} is no JSON")
    return {"kind": "value", "value": value}


def _error(told: str) -> dict[str, Any]:
    return {"kind": "error", "error": without_status(told)}


def without_status(told: str) -> str:
    """What CEL tells of an error, without the status codes around it."""
    return " ".join(_STATUS.sub("", told).split())


def _limit_memory(megabytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (megabytes * 1_000_000,) * 2)


def _limit_time(seconds: float) -> None:
    """End it even when nobody is left to do so."""
    soft = math.ceil(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


if __name__ == "__main__":
    sys.exit(main())
