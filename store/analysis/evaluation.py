"""Evaluating an expression over many states, in a process of its own."""

import selectors
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from store.analysis import evaluator
from store.analysis.expression import Answer, Expression
from store.errors import ExpressionTooCostly, InvalidDomain

SECONDS = 10.0
"""How long a pass may wait for answers."""
MEGABYTES = 512
"""How large the process may be. It begins with 35."""
BATCH = 500
BATCH_BYTES = 1_000_000

Key = TypeVar("Key")
_answers = msgspec.json.Decoder(list[Answer])


class Evaluation:
    """A process that evaluates one expression; it starts with the first state it is asked about.

    `seconds` is how long each pass may wait for it, reading and folding events not counted, and
    `megabytes` how large it may grow. For one thread at a time; `close` it, or use `with`.
    """

    def __init__(
        self, expression: Expression, *, seconds: float = SECONDS, megabytes: int = MEGABYTES
    ) -> None:
        self.expression = expression
        self._seconds = seconds
        self._megabytes = megabytes
        self._process: subprocess.Popen[bytes] | None = None

    def answers(self, documents: Iterable[tuple[Key, Any]]) -> Iterator[tuple[Key, Answer]]:
        """One pass: what the expression is at each document, given and returned with its key.

        Where all that it refers to is as in the document before, so is the answer.

        Raises:
            ExpressionTooCostly: it took too long, or too much memory.
            InvalidDomain: a document is no JSON.
        """
        left = self._seconds
        last = Answer("undefined")
        for keys, parts in _batches(self.expression, documents):
            fresh: Iterator[Answer] = iter(())
            if parts:
                started = perf_counter()
                fresh = iter(self._asked(parts, left))
                left -= perf_counter() - started
            for key, is_fresh in keys:
                last = next(fresh) if is_fresh else last
                yield key, last

    def _asked(self, parts: list[bytes], seconds: float) -> list[Answer]:
        process = self._process = self._process or self._started()
        reply = _exchanged(process, b"[" + b",".join(parts) + b"]\n", seconds)
        if reply is not None and reply.endswith(b"\n"):
            return _answers.decode(reply)
        reason = self._overrun if reply is None else self._reason(process.wait())
        self.close()
        raise ExpressionTooCostly(self.expression.text, reason)

    def _started(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 (this Python, and a file of ours)
            # Neither the folder of that file nor the caller's is where its imports come from.
            [sys.executable, "-P", str(Path(evaluator.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a Ctrl-C is for the parent, which ends it
        )
        task = {
            "text": self.expression.text,
            "names": sorted(self.expression.names),
            "checked": self.expression.checked,
            "seconds": self._seconds,
            "megabytes": self._megabytes,
        }
        assert process.stdin is not None, "a pipe"  # noqa: S101
        process.stdin.write(msgspec.json.encode(task) + b"\n")
        return process

    @property
    def _overrun(self) -> str:
        return f"it takes longer than {self._seconds:g} s"

    def _reason(self, status: int) -> str:
        """Why the process ended by itself."""
        if status == -signal.SIGXCPU:
            return self._overrun
        if status == evaluator.TOO_LARGE:
            return f"its values take more than {evaluator.LONGEST_REPLY:,} bytes"
        if status == evaluator.OUT_OF_MEMORY or status < 0:
            return f"it takes more than {self._megabytes:,} MB of memory"
        return f"its process ended with status {status}"

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _exchanged(process: subprocess.Popen[bytes], line: bytes, seconds: float) -> bytes | None:
    """The reply to a line, without its end where the process died; None if it took too long."""
    assert process.stdin is not None and process.stdout is not None, "pipes"  # noqa: S101, PT018
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except BrokenPipeError:
        return b""
    # It replies once all is evaluated, and at once then.
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        return process.stdout.readline() if selector.select(max(seconds, 0)) else None


def _batches(
    expression: Expression, documents: Iterable[tuple[Key, Any]]
) -> Iterator[tuple[list[tuple[Key, bool]], list[bytes]]]:
    """Keys, each with whether its part is another than the one before, and those other parts."""
    keys: list[tuple[Key, bool]] = []
    parts: list[bytes] = []
    size, last = 0, b""
    for key, value in documents:
        part = _encoded(expression.part(value))
        keys.append((key, part != last))
        if part != last:
            parts.append(part)
            size, last = size + len(part), part
        if len(keys) >= BATCH or size >= BATCH_BYTES:
            yield keys, parts
            keys, parts, size = [], [], 0
    if keys:
        yield keys, parts


def _encoded(part: Any) -> bytes:
    try:
        return msgspec.json.encode(part)
    except (TypeError, ValueError) as error:
        raise InvalidDomain(f"the state is no JSON: {error}") from error
