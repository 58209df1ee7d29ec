"""What a domain's handlers are given once events are committed."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Struct
from prometheus_client import CollectorRegistry

from store import Aggregate, Delivery, Domain, Handler, Hindsight, Metrics, NewEvent, any_
from store.errors import InvalidDomain
from store.outbox import InProcess, Relay, Several
from tests.published import Recording
from tests.totals import Add, Added, Total, add, put


class Noted(Struct, frozen=True):
    text: str


def domain(*handlers: Handler) -> Domain:
    total: Aggregate[Any] = Aggregate(
        "total",
        initial=Total(),
        events=[Added, Noted],
        apply=lambda state, event: add(state, event) if isinstance(event, Added) else state,
        commands=[Add],
    )
    return Domain("numbers", aggregates=[total], handlers=handlers)


@pytest.fixture
def opened(store_url: str) -> Callable[..., Hindsight]:
    def open_store(*handlers: Handler) -> Hindsight:
        return Hindsight(store_url, domain=domain(*handlers), metrics=Metrics(CollectorRegistry()))

    return open_store


def relay(store: Hindsight) -> Relay:
    publisher = store.publisher()
    assert publisher is not None
    return store.relay(publisher)


def test_a_handler_gets_its_events_typed_in_order_with_the_state_behind_them(
    opened: Callable[..., Hindsight],
) -> None:
    got: list[tuple[str, int, Any, Any]] = []

    def handle(delivery: Delivery) -> None:
        event = delivery.event
        got.append((event.aggregate_id, event.version, delivery.data, delivery.state().total))

    with opened(Handler("sum", [Added], handle)) as store:
        put(store, 1, 2)
        store.append("total", "a", [NewEvent("Noted", {"text": "x"})], expected=any_())
        store.execute("a", Add(3))
        store.append("other", "b", [NewEvent("Added", {"number": 1})], expected=any_())
        store.append("total", "c", [NewEvent("Strange", {})], expected=any_())
        assert relay(store).once().published == 6
    assert got == [
        ("a", 1, Added(1), 1),
        ("a", 2, Added(2), 3),
        ("a", 4, Added(3), 6),
    ]


def test_what_a_handler_raises_is_kept_with_its_name_and_tried_again(
    opened: Callable[..., Hindsight],
) -> None:
    failing, calls = [True], list[str]()

    def first(_: Delivery) -> None:
        calls.append("first")

    def second(_: Delivery) -> None:
        calls.append("second")
        if failing:
            raise ZeroDivisionError(failing.pop())

    with opened(Handler("one", [Added], first), Handler("other", [Added], second)) as store:
        put(store, 1, 2)
        found = relay(store).once()
        assert (found.retried, found.released) == (1, 1)
        [(error,)] = store.database.rows("SELECT last_error FROM outbox WHERE version = 1", {})
        assert "ZeroDivisionError: True" in error
        assert "from handler 'other'" in error
        with store.database.transaction() as connection:
            connection.exec_driver_sql("UPDATE outbox SET next_attempt_at = NULL")
        working = relay(store)
        while working.once().claimed:
            pass
    assert calls == ["first", "second"] * 3


def test_how_long_a_handler_takes_is_measured_by_its_name(
    opened: Callable[..., Hindsight],
) -> None:
    with opened(Handler("sum", [Added], lambda _: None)) as store:
        put(store, 1, 2)
        relay(store).once()
        count = {
            dict(labels)["handler"]: value
            for (name, labels), value in store.metrics.values().items()
            if name == "event_handler_duration_seconds_count"
        }
    assert count == {"sum": 2}


def test_without_handlers_there_is_nothing_to_publish_to(
    opened: Callable[..., Hindsight],
) -> None:
    with opened() as store:
        assert store.publisher() is None


@pytest.mark.parametrize(
    ("handlers", "told"),
    [
        ([Handler("a", [], print)], "handler 'a' handles no events"),
        ([Handler("a", [Total], print)], "handler 'a': 'Total' is no event of its aggregates"),
        ([Handler("a", [Added], print)] * 2, "handler 'a' is there twice"),
        ([Handler("", [Added], print)], "handler: "),
    ],
)
def test_a_handler_that_does_not_fit_is_refused(handlers: list[Handler], told: str) -> None:
    with pytest.raises(Exception, match=told) as refused:
        domain(*handlers)
    assert isinstance(refused.value, InvalidDomain) or told == "handler: "


def test_what_one_has_not_taken_goes_to_no_other(store: Hindsight) -> None:
    for name in "ab":
        put(store, 1, 2, 3, aggregate_id=name)
    one = Recording(lambda event: (event.aggregate_id, event.version) == ("a", 2))
    other = Recording(lambda event: (event.aggregate_id, event.version) == ("b", 3))
    found = Relay(store.database, Several([one, other])).once()
    assert one.versions() == {"a": [1], "b": [1, 2, 3]}
    assert other.versions() == {"a": [1], "b": [1, 2]}
    assert (found.published, found.retried, found.released) == (3, 2, 1)


def test_a_publisher_that_raises_has_taken_nothing(store: Hindsight) -> None:
    put(store, 1, 2)

    class Broken(InProcess):
        def __init__(self) -> None:
            pass

        def publish(self, events: Any) -> Any:
            raise OSError(f"{len(events)} events, and nobody there")

    other = Recording()
    found = Relay(store.database, Several([Broken(), other])).once()
    assert (found.published, found.retried, found.released) == (0, 1, 1)
    assert other.tried == []
    [(error,)] = store.database.rows("SELECT last_error FROM outbox WHERE version = 1", {})
    assert error.endswith("OSError: 2 events, and nobody there\n")
