"""After the append: what was written to the outbox is published, in order, whatever dies."""

from store.outbox.in_process import InProcess
from store.outbox.publishing import Publisher, Several
from store.outbox.relay import ATTEMPTS, OnDeadLetter, Relay, Relayed

__all__ = ["ATTEMPTS", "InProcess", "OnDeadLetter", "Publisher", "Relay", "Relayed", "Several"]
