"""One of several processes that consume a topic, and kill themselves on the way.

How likely that is at each of three places of an event, they are told.
"""

import os
import random
import signal
import sys
import threading

from sqlalchemy import Connection, text

from store import Event, Hindsight
from store.outbox.consuming import Consumer, Message
from store.outbox.inbox import Inbox

LEASE = 0.5
_INSERT = text("INSERT INTO effects (aggregate_id, version) VALUES (:aggregate_id, :version)")


def take_effect(connection: Connection, event: Event) -> None:
    named = {"aggregate_id": event.aggregate_id, "version": event.version}
    connection.execute(_INSERT, named)


def main() -> None:
    url, redis_url, topic, seed, risk = sys.argv[1:]
    chosen = random.Random(seed)

    def die_by_chance() -> None:
        if chosen.random() < float(risk):
            os.kill(os.getpid(), signal.SIGKILL)

    with Hindsight(url, cache=False, metrics=False) as store:
        inbox = Inbox(store.database, "effects")

        def effect(connection: Connection, event: Event) -> None:
            take_effect(connection, event)
            die_by_chance()  # before the commit

        def handle(message: Message) -> None:
            die_by_chance()  # before the effect
            inbox.handle(message.event, lambda connection: effect(connection, message.event))
            die_by_chance()  # between the effect and the acknowledgement

        consumer = Consumer(redis_url, topic=topic, group="effects", handler=handle, lease=LEASE)
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        consumer.run(stop)


if __name__ == "__main__":
    main()
