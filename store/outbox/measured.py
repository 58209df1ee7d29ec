"""A relay, counted. What it does and raises is the bare one's."""

from typing import Any

from store.database import Database
from store.metrics import Metrics, Settled
from store.outbox.publishing import Publisher
from store.outbox.relay import Relay, Relayed


class MeasuredRelay(Relay):
    """See `Relay`."""

    def __init__(
        self, database: Database, publisher: Publisher, *, metrics: Metrics, **options: Any
    ) -> None:
        super().__init__(database, publisher, **options)
        self._metrics = metrics

    def once(self) -> Relayed:
        """See `Relay.once`."""
        relayed = super().once()
        if relayed.claimed:
            self._metrics.relayed(
                Settled(
                    published=relayed.published,
                    retried=relayed.retried,
                    failed=len(relayed.dead),
                    lost=relayed.lost,
                )
            )
        return relayed
