"""Publishing to Redis Streams: one stream a shard, an aggregate's events all in one of them.

An entry is a CloudEvent 1.0, an attribute a field: `subject` is the aggregate id, `data` the JSON
bytes as they are stored, and so is the extension `metadata`.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from time import monotonic
from typing import Any

from store.errors import InvalidSetting, RedisUnavailable
from store.outbox.topic import REFUSALS, Topic, shard_of
from store.records import Event
from store.tables import moment_text

_log = logging.getLogger(__name__)

SHARDS = 8
"""As many consumers of a group can work at once."""
RETENTION = timedelta(days=1)
"""For how long an event is kept in Redis at least, once all groups are done with it."""
TRIM_EVERY = 60.0
"""Seconds between two looks at what can go."""

# All or nothing: Redis refuses the first write of a script, or none.
_PUBLISH = """
    local shards = redis.call('GET', KEYS[1])
    if shards and shards ~= ARGV[1] then
        return tonumber(shards) or -1
    end
    if not shards then
        redis.call('SET', KEYS[1], ARGV[1])
    end
    local place = 2
    while place < #ARGV do
        local last = place + tonumber(ARGV[place])
        redis.call('XADD', KEYS[2], '*', unpack(ARGV, place + 1, last))
        place = last + 1
    end
    return tonumber(ARGV[1])
"""
# A stream that no group reads keeps all: whose events they are has not come yet.
_TRIM = """
    local function parts(id)
        local ms, number = string.match(id, '^(%d+)-(%d+)$')
        return tonumber(ms), tonumber(number)
    end
    local function earlier(a, b)
        local a_ms, a_number = parts(a)
        local b_ms, b_number = parts(b)
        return a_ms < b_ms or (a_ms == b_ms and a_number < b_number)
    end
    if redis.call('EXISTS', KEYS[1]) == 0 then
        return 0
    end
    local groups = redis.call('XINFO', 'GROUPS', KEYS[1])
    if #groups == 0 then
        return 0
    end
    local time = redis.call('TIME')
    local kept = math.max(time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1], 0)
    local lowest = string.format('%.0f-0', kept)
    for _, group in ipairs(groups) do
        local told = {}
        for place = 1, #group, 2 do
            told[group[place]] = group[place + 1]
        end
        local pending = redis.call('XPENDING', KEYS[1], told['name'])
        local needed = pending[1] > 0 and pending[2] or told['last-delivered-id']
        if earlier(needed, lowest) then
            lowest = needed
        end
    end
    return redis.call('XTRIM', KEYS[1], 'MINID', lowest)
"""


class RedisStreams:
    """Publishes to the streams of a topic. See `Publisher`. Safe to share between threads.

    `source` tells this store's events from another's. The first publisher of a topic fixes its
    number of shards; another number is refused with `InvalidSetting` as each event's failure. What
    every group is done with goes after the `retention`; what one has not read, never.

    Raises:
        InvalidSetting: the URL, topic or number of shards is none, or the packages for Redis are
            not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        topic: str,
        source: str,
        shards: int = SHARDS,
        retention: timedelta = RETENTION,
    ) -> None:
        if shards < 1:
            raise InvalidSetting(f"topic {topic!r}: {shards} is no number of shards")
        self.shards = shards
        self._topic = Topic(url, topic)
        self._source = source
        self._kept = int(retention / timedelta(milliseconds=1))
        self._trim_at = monotonic() + TRIM_EVERY

    def __str__(self) -> str:
        return f"topic {self._topic.name}"

    def publish(self, events: Sequence[Event]) -> Mapping[int, Exception]:
        """See `Publisher.publish`. One round trip; of a shard's events all are published or none.

        Redis may have taken what it did not live to tell: those come again.
        """
        by_shard: defaultdict[int, list[Event]] = defaultdict(list)
        for event in events:
            by_shard[shard_of(event.aggregate_id, self.shards)].append(event)
        answers = self._send(by_shard)
        return {
            event.position: error
            for shard, answer in zip(by_shard, answers, strict=True)
            if (error := self._refusal(answer)) is not None
            for event in by_shard[shard]
        }

    def trim(self) -> int:
        """Let go of what all groups are done with; how many entries that were.

        Raises:
            RedisUnavailable: Redis does not answer, or refuses.
        """
        streams = [self._topic.stream(shard) for shard in range(self.shards)]
        return sum(self._topic.run(_TRIM, [stream], self._kept) for stream in streams)

    def close(self) -> None:
        """Close the connections."""
        self._topic.close()

    def _send(self, by_shard: Mapping[int, Sequence[Event]]) -> list[Any]:
        """What Redis answers for each shard, errors among it."""
        topic = self._topic
        self._trim_if_due()
        pipeline = topic.client.pipeline(transaction=False)
        for shard, events in by_shard.items():
            keys = (topic.shards_key, topic.stream(shard))
            told = [part for event in events for part in self._told(event)]
            pipeline.eval(_PUBLISH, len(keys), *keys, self.shards, *told)
        try:
            return list(pipeline.execute(raise_on_error=False))
        except REFUSALS as error:
            return [error] * len(by_shard)

    def _told(self, event: Event) -> Iterator[bytes | str | int]:
        """The entry of an event for the script: how many parts it has, then those."""
        fields = {**_attributes(event), "source": self._source}
        yield 2 * len(fields)
        for name, value in fields.items():
            yield name
            yield value

    def _refusal(self, answer: Any) -> Exception | None:
        if answer == self.shards:
            return None
        if isinstance(answer, Exception):
            away = RedisUnavailable(f"topic {self._topic.name!r}: {answer}")
            away.__cause__ = answer
            return away
        return InvalidSetting(
            f"topic {self._topic.name!r} has {answer} shards in Redis, not {self.shards}: set the"
            " number it has, or choose another topic"
        )

    def _trim_if_due(self) -> None:
        if monotonic() < self._trim_at:
            return
        self._trim_at = monotonic() + TRIM_EVERY
        try:
            self.trim()
        except RedisUnavailable as error:
            _log.warning("nothing is trimmed: %s", error)


def _attributes(event: Event) -> dict[str, bytes | str | int]:
    """The event as a CloudEvent, but for its source; what it lacks is left out."""
    recorded_at = event.recorded_at
    optional = {
        "correlationid": event.correlation_id,
        "causationid": event.causation_id,
        "actor": event.actor,
        "recordedtime": None if recorded_at is None else moment_text(recorded_at),
    }
    return {
        "specversion": "1.0",
        "id": str(event.event_id),
        "type": event.event_type,
        "subject": event.aggregate_id,
        "time": moment_text(event.occurred_at),
        "datacontenttype": "application/json",
        "aggregatetype": event.aggregate_type,
        "aggregateversion": event.version,
        "schemaversion": event.event_version,
        "position": event.position,
        **{name: value for name, value in optional.items() if value is not None},
        "data": event.raw_data,
        "metadata": event.raw_metadata,
    }
