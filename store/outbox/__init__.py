"""After the append: what was written to the outbox is published, in order, whatever dies."""

from store.outbox.publishing import Publisher
from store.outbox.relay import ATTEMPTS, OnDeadLetter, Relay, Relayed

__all__ = ["ATTEMPTS", "OnDeadLetter", "Publisher", "Relay", "Relayed"]
