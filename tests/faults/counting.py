"""A worker that does nothing but roll up, as a process of its own, some positions at a time."""

import random
import signal
import sys
import threading
import time

from store import Hindsight
from store.errors import DatabaseBusy
from store.rollups import keeping


def main() -> None:
    [url] = sys.argv[1:]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with Hindsight(url) as store:
        while not stop.is_set():
            keeping.SLICE = random.randint(1, 60)
            try:
                store.rollups.roll_up(store.watermark().position)
            except DatabaseBusy:
                time.sleep(0.01)


if __name__ == "__main__":
    main()
