"""How a process counts what is too frequent to be counted at once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

from prometheus_client import CollectorRegistry, Histogram

from store.metrics import Clicks, Tally

THREADS, EACH = 4, 20_000


def test_no_click_is_lost_or_counted_twice_while_others_click() -> None:
    clicks, over = Clicks(), Event()

    def click() -> None:
        for _ in range(EACH):
            clicks.click()

    def take() -> int:
        taken = 0
        while not over.is_set():
            taken += clicks.taken()
        return taken

    with ThreadPoolExecutor(THREADS + 1) as threads:
        taking = threads.submit(take)
        for clicking in [threads.submit(click) for _ in range(THREADS)]:
            clicking.result()
        over.set()
        assert taking.result() + clicks.taken() == THREADS * EACH
    assert clicks.taken() == 0


def test_zeros_are_observed_as_one_by_one() -> None:
    registry = CollectorRegistry()
    many = Tally("many", "", registry=registry, buckets=(-1, 0, 1))
    one = Histogram("one", "", registry=registry, buckets=(-1, 0, 1))
    many.observe_zeros(3)
    for _ in range(3):
        one.observe(0)

    def samples(histogram: Histogram, name: str) -> list[tuple[str, dict[str, str], float]]:
        return [
            (sample.name.removeprefix(name), sample.labels, sample.value)
            for family in histogram.collect()
            for sample in family.samples
            if not sample.name.endswith("_created")
        ]

    assert samples(many, "many") == samples(one, "one")
    assert ("_count", {}, 3.0) in samples(many, "many")
