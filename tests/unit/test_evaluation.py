"""Expressions in a process of their own: what a hostile one may not do, and what it costs."""

import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from store.analysis import Answer, Evaluation, Expression
from store.analysis.evaluation import BATCH
from store.errors import ExpressionTooCostly, InvalidDomain

# A thousandth of a second each, near the end of CEL's budget of iterations.
SLOW = "a.all(b, a.all(c, b + c + n >= 0))"


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@pytest.fixture(autouse=True)
def _no_process_is_left() -> Iterator[None]:
    before = set(children())
    yield
    assert set(children()) <= before


def values(evaluation: Evaluation, documents: Any) -> list[Any]:
    return [answer.value for _, answer in evaluation.answers(enumerate(documents))]


def test_keys_come_back_in_order_over_many_batches() -> None:
    documents = [{"n": n // 3} for n in range(3 * BATCH + 7)]
    with Evaluation(Expression("n * 2")) as evaluation:
        found = list(evaluation.answers((str(key), each) for key, each in enumerate(documents)))
        assert [key for key, _ in found] == [str(n) for n in range(len(documents))]
        assert [answer.value for _, answer in found] == [2 * each["n"] for each in documents]
        assert list(evaluation.answers([])) == []


def test_one_process_serves_every_pass_and_starts_with_the_first() -> None:
    before = set(children())
    evaluation = Evaluation(Expression("n"))
    assert set(children()) == before
    with evaluation:
        assert values(evaluation, [{"n": 1}]) == [1]
        [process] = set(children()) - before
        assert values(evaluation, [{"n": 1}, {}]) == [1, None]
        assert set(children()) - before == {process}
    evaluation.close()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many parts each batch asks about, from now on."""
    asked: list[int] = []
    original = Evaluation._asked

    def counting(self: Evaluation, parts: list[bytes], seconds: float) -> list[Answer]:
        asked.append(len(parts))
        return original(self, parts, seconds)

    monkeypatch.setattr(Evaluation, "_asked", counting)
    return asked


def test_the_same_part_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counted(monkeypatch)
    documents = [{"n": n // 600, "m": n} for n in range(3 * BATCH)]
    with Evaluation(Expression("n")) as evaluation:
        assert values(evaluation, documents) == [each["n"] for each in documents]
    assert asked == [1, 1, 1]
    # 1, 1.0 and true are three values.
    with Evaluation(Expression("n")) as evaluation:
        assert list(map(repr, values(evaluation, [{"n": 1}, {"n": 1.0}, {"n": True}]))) == [
            *("1", "1.0"),
            "True",
        ]


def test_large_documents_go_in_batches_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counted(monkeypatch)
    documents = [{"n": f"{n:0400000}"} for n in range(12)]
    with Evaluation(Expression("size(n) + int(n)")) as evaluation:
        assert values(evaluation, documents) == [400_000 + n for n in range(12)]
    assert asked == [3, 3, 3, 3]


def test_time_is_limited_a_pass() -> None:
    documents = [{"a": list(range(90)), "n": n} for n in range(100_000)]
    with Evaluation(Expression(SLOW), seconds=0.5) as evaluation:
        for _ in range(2):
            started = time.perf_counter()
            with pytest.raises(ExpressionTooCostly, match=r"it takes longer than 0.5 s$") as caught:
                values(evaluation, documents)
            assert 0.4 < time.perf_counter() - started < 2
            assert caught.value.text == SLOW
        assert values(evaluation, documents[:3]) == [True] * 3


def test_the_time_of_all_batches_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("store.analysis.evaluation.BATCH", 10)
    documents = ((n, {"a": list(range(20)), "n": n}) for n in range(100_000))
    seen = 0
    with (
        Evaluation(Expression(SLOW), seconds=0.4) as evaluation,
        pytest.raises(ExpressionTooCostly, match=r"longer than 0.4 s"),
    ):
        for seen, _ in evaluation.answers(documents):  # noqa: B007 (the last one)
            pass
    assert seen > 10


def test_the_reader_s_own_time_does_not_count() -> None:
    def slowly() -> Iterator[tuple[int, Any]]:
        for n in range(3):
            time.sleep(0.3)
            yield n, {"n": n}

    with Evaluation(Expression("n"), seconds=0.8) as evaluation:
        found = []
        for _, answer in evaluation.answers(slowly()):
            time.sleep(0.1)
            found.append(answer.value)
    assert found == [0, 1, 2]


def test_memory_is_limited() -> None:
    with Evaluation(Expression("size(a.map(b, a))"), megabytes=200) as evaluation:
        with pytest.raises(ExpressionTooCostly, match=r"it takes more than 200 MB of memory$"):
            values(evaluation, [{"a": [0] * 20_000}])
        assert values(evaluation, [{"a": [0]}]) == [1]


def test_values_are_limited() -> None:
    with (
        Evaluation(Expression("a.map(b, t)")) as evaluation,
        pytest.raises(ExpressionTooCostly, match="its values take more than 64,000,000 bytes"),
    ):
        values(evaluation, [{"a": [0] * 1000, "t": "x" * 100_000}])


def test_a_process_that_dies_is_told_and_replaced() -> None:
    before = set(children())
    with Evaluation(Expression("n")) as evaluation:
        for death in (signal.SIGKILL, signal.SIGABRT):
            assert values(evaluation, [{"n": 1}]) == [1]
            [process] = set(children()) - before
            process.send_signal(death)
            time.sleep(0.1)
            with pytest.raises(ExpressionTooCostly, match="more than 512 MB of memory"):
                values(evaluation, [{"n": n} for n in range(9)])
        assert values(evaluation, [{"n": 2}]) == [2]


def test_a_walk_that_is_given_up_leaves_nothing() -> None:
    with Evaluation(Expression("n")) as evaluation:
        walk = evaluation.answers((n, {"n": n}) for n in range(2 * BATCH))
        assert next(walk)[0] == 0


def test_a_document_that_is_no_json_is_named() -> None:
    with (
        Evaluation(Expression("n")) as evaluation,
        pytest.raises(InvalidDomain, match="the state is no JSON"),
    ):
        values(evaluation, [{"n": "\ud800"}])


def test_threads_have_processes_of_their_own() -> None:
    def evaluated(factor: int) -> list[Any]:
        with Evaluation(Expression(f"n * {factor}")) as evaluation:
            return values(evaluation, [{"n": n} for n in range(1000)])

    with ThreadPoolExecutor(4) as pool:
        for factor, found in enumerate(pool.map(evaluated, range(8))):
            assert found == [n * factor for n in range(1000)]


def test_a_process_whose_parent_is_gone_ends(tmp_path: Path) -> None:
    code = f"""
import os, sys
sys.path.insert(0, {str(Path.cwd())!r})
from store.analysis import Evaluation, Expression
evaluation = Evaluation(Expression("n"))
list(evaluation.answers([(1, {{"n": 1}})]))
print(evaluation._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    process = psutil.Popen([sys.executable, "-c", code], stdout=-1, cwd=tmp_path)
    told, _ = process.communicate(timeout=20)
    evaluating = int(told)
    for _ in range(100):
        if not psutil.pid_exists(evaluating):
            return
        if psutil.Process(evaluating).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    pytest.fail("it goes on")


def test_a_process_limits_itself() -> None:
    evaluation = Evaluation(Expression(SLOW), seconds=1)
    with evaluation:
        values(evaluation, [{"a": [1], "n": 1}])
        assert evaluation._process is not None
        process = psutil.Process(evaluation._process.pid)
        limits = process.rlimit(psutil.RLIMIT_CPU)
        assert 2 <= limits[0] <= 3
        assert process.rlimit(psutil.RLIMIT_AS) == (512_000_000, 512_000_000)
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)


def test_a_process_takes_its_modules_from_neither_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "msgspec.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    with Evaluation(Expression("n")) as evaluation:
        assert values(evaluation, [{"n": 1}]) == [1]


@pytest.mark.slow
def test_it_costs_well_under_a_second_for_ten_thousand_states() -> None:
    documents = [{"n": n, "more": list(range(50))} for n in range(10_000)]
    started = time.perf_counter()
    with Evaluation(Expression("n % 2 == 0")) as evaluation:
        assert values(evaluation, documents) == [n % 2 == 0 for n in range(10_000)]
    assert time.perf_counter() - started < 1
