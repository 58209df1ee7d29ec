"""Another process that appends to a store while a browser looks at it."""

import subprocess
import sys

_WRITER = """
import sys
from store import Hindsight, NewEvent, any_

url, aggregate_id, event_type, events = sys.argv[1:]
with Hindsight(url) as store:
    for number in range(int(events)):
        new = NewEvent(event_type, {"number": number})
        store.append("note", aggregate_id, [new], expected=any_())
"""


def append_elsewhere(
    url: str, aggregate_id: str, *, event_type: str = "Noted", events: int = 1
) -> None:
    """Append one by one in a process of its own, and wait until it has ended."""
    words = [url, aggregate_id, event_type, str(events)]
    subprocess.run([sys.executable, "-c", _WRITER, *words], check=True)


def append_by_command(url: str, *words: str) -> None:
    """Run `hindsight append`."""
    command = [sys.executable, "-m", "store", "append", *words, "--url", url]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
