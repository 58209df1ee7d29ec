"""The bus within a process: the handlers that domains declare, called one after the other."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from store.domain import Delivery, Domains, Handler
from store.errors import UnknownEventType
from store.records import Event, Loaded

Load = Callable[[str, int], Loaded[Any]]
"""The state of an aggregate at a version."""
Timed = Callable[[str], AbstractContextManager[None]]
"""Times the handler of that name."""


class InProcess:
    """Calls the handlers of `domains`. See `Publisher`.

    A handler that fails has its event brought to all of that event's handlers again.
    """

    def __init__(self, domains: Domains, load: Load, timed: Timed) -> None:
        self._domains = domains
        self._load = load
        self._timed = timed
        self._handlers: defaultdict[type, list[Handler]] = defaultdict(list)
        for handler in domains.handlers:
            for event in handler.events:
                self._handlers[event].append(handler)

    def __str__(self) -> str:
        return f"handlers {', '.join(handler.name for handler in self._domains.handlers)}"

    def publish(self, events: Sequence[Event]) -> Mapping[int, Exception]:
        """See `Publisher.publish`."""
        failures: dict[int, Exception] = {}
        failed: set[str] = set()
        for event in events:
            if event.aggregate_id in failed:
                continue
            try:
                self._deliver(event)
            except Exception as error:  # noqa: BLE001 (handlers are somebody else's code)
                failed.add(event.aggregate_id)
                failures[event.position] = error
        return failures

    def _deliver(self, event: Event) -> None:
        aggregate = self._domains.aggregate(event.aggregate_type)
        if aggregate is None:
            return
        try:
            data = aggregate.decode(event.event_type, event.raw_data, event.event_version)
        except UnknownEventType:
            return  # nor does any handler know it
        for handler in self._handlers.get(type(data), ()):
            with self._timed(handler.name):
                self._call(handler, Delivery(event, data, lambda: self._state(event)))

    def _call(self, handler: Handler, delivery: Delivery) -> None:
        try:
            handler.handle(delivery)
        except Exception as error:
            error.add_note(f"from handler {handler.name!r}")
            raise

    def _state(self, event: Event) -> Any:
        return self._load(event.aggregate_id, event.version).state
