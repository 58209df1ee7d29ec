"""`hindsight cache`."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec
from msgspec import Struct

from store.application import Hindsight
from store.cache import Held, current_epoch, needing_redis, raise_epoch
from store.cli.columns import Columns, shown
from store.cli.program import FOUND, store_option
from store.errors import RedisUnavailable
from store.metric_history import MetricHistory, Window
from store.settings import Settings

if TYPE_CHECKING:
    from store.cache.upkeep import Upkeep

T = TypeVar("T")

_LOOKUPS = "event_store_cache_lookups_total"
_STEP = timedelta(minutes=1)
_STEPS = 60
_NO_REDIS = "none; EVENT_STORE_REDIS_URL says where there is one"


class Lookups(Struct, frozen=True, kw_only=True):
    """What a level had of what all processes looked up in it in the last hour."""

    level: str
    kind: str
    hit: int = 0
    miss: int = 0
    dropped: int = 0
    error: int = 0


class Stats(Struct, frozen=True, kw_only=True):
    """The cache of a store; `redis` is None where there is none, or `fault` says what is wrong."""

    store: str
    epoch: int
    redis: Held | None
    fault: str | None
    lookups: Sequence[Lookups]


class Cleared(Struct, frozen=True, kw_only=True):
    """A store's new epoch, and how many values went from Redis; None as in `Stats`."""

    epoch: int
    values: int | None
    fault: str | None


@click.group()
def cache() -> None:
    """What processes keep at hand of the store: in themselves (L1), and in Redis (L2).

    Redis is where EVENT_STORE_REDIS_URL says. EVENT_STORE_CACHE=off keeps nothing.

    \b
    Examples:
      hindsight cache stats
      hindsight cache clear
    """


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@store_option()
@click.pass_context
def stats(context: click.Context, /, *, url: str, as_json: bool) -> None:
    """What Redis holds, and what processes found in the last hour.

    Exit code 1: Redis does not answer.

    \b
    Examples:
      hindsight cache stats
      hindsight cache stats --json | jq '.lookups[] | select(.level == "l2")'
    """
    with Hindsight(url, read_only=True, cache=False) as store:
        held, fault = _asked(_upkeep(store), lambda upkeep: upkeep.look())
        found = Stats(
            store=store.info.name,
            epoch=current_epoch(store.database),
            redis=held,
            fault=fault,
            lookups=_lookups(store.history),
        )
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        for line in _told(found):
            click.echo(line)
    context.exit(0 if fault is None else FOUND)


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@store_option()
@click.pass_context
def clear(context: click.Context, /, *, url: str, as_json: bool) -> None:
    """Have all processes forget what they keep.

    Each does with its next look at the database; who takes states of some age may look a minute
    later. Needed after a database was restored from a backup, or an event was changed. Exit code 1:
    Redis does not answer; what it holds goes by itself within five minutes.

    \b
    Examples:
      hindsight cache clear
    """
    with Hindsight(url, cache=False) as store:
        upkeep = _upkeep(store)
        epoch = raise_epoch(store.database)
        values, fault = _asked(upkeep, lambda upkeep: upkeep.clear())
    if as_json:
        click.echo(msgspec.json.encode(Cleared(epoch=epoch, values=values, fault=fault)))
    else:
        went = "" if values is None else f"; {_counted(values)} removed from Redis"
        click.echo(f"all processes forget what they keep: epoch {epoch}{went}")
        if fault is not None:
            click.echo(f"error: {shown(fault)}", err=True)
    context.exit(0 if fault is None else FOUND)


def _upkeep(store: Hindsight) -> "Upkeep | None":
    """The store's Redis, if there is one."""
    redis_url = Settings.from_environment().redis_url
    if redis_url is None:
        return None
    with needing_redis():
        from store.cache.upkeep import Upkeep  # noqa: PLC0415 (its packages are an extra)
    return Upkeep(store.database, redis_url)


def _asked(
    upkeep: "Upkeep | None", question: "Callable[[Upkeep], T]"
) -> tuple[T | None, str | None]:
    """What Redis answers, or what is wrong with it; neither where there is none."""
    if upkeep is None:
        return None, None
    with closing(upkeep):
        try:
            return question(upkeep), None
        except RedisUnavailable as error:
            return None, str(error)


def _lookups(history: MetricHistory) -> list[Lookups]:
    window = Window.until(datetime.now(UTC), step=_STEP, steps=_STEPS)
    found = history.increases(_LOOKUPS, window, by=("level", "kind", "result"))
    counted: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for (level, kind, result), increases in found.items():
        if result in Lookups.__struct_fields__:
            counted[level, kind][result] = round(sum(increases))
    return [
        Lookups(level=level, kind=kind, **results)
        for (level, kind), results in sorted(counted.items())
        if any(results.values())
    ]


def _told(found: Stats) -> Iterator[str]:
    yield f"store  {shown(found.store)}, epoch {found.epoch}"
    redis = found.redis
    if redis is None:
        yield f"Redis  {shown(found.fault or _NO_REDIS)}"
    else:
        yield f"Redis  {shown(redis.address)}, version {shown(redis.version)}"
    if redis is not None and redis.holdings:
        yield ""
        columns = Columns("in Redis", ">values", ">bytes", "epoch")
        yield from columns.lines(
            (each.kind, f"{each.values:,}", f"{each.bytes:,}", "this" if each.current else "before")
            for each in redis.holdings
        )
    yield ""
    if not found.lookups:
        yield "nothing was looked up in the last hour"
        return
    columns = Columns("last hour", "kind", ">hits", ">misses", ">dropped", ">errors", "hit ratio")
    yield from columns.lines(map(_row, found.lookups))


def _row(each: Lookups) -> tuple[str, ...]:
    asked = each.hit + each.miss
    counts = (each.hit, each.miss, each.dropped, each.error)
    ratio = f"{each.hit / asked:.1%}" if asked else "–"
    return (each.level.upper(), each.kind, *(f"{count:,}" for count in counts), ratio)


def _counted(values: int) -> str:
    return "1 value" if values == 1 else f"{values:,} values"
