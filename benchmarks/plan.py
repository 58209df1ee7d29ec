"""What is measured, how much of it, and what is aimed at."""

from collections.abc import Callable, Iterator
from statistics import median
from typing import TypeAlias

from msgspec import Struct

from benchmarks import (
    caching,
    following,
    importing,
    instrumentation,
    loading,
    measures,
    projecting,
    publishing,
    replaying,
)
from benchmarks.following import AT_HOLE, FOLLOWED, NAIVE, NO_HOLE, PLAIN, UNREAD
from benchmarks.measures import Openers
from benchmarks.rounds import Ratio, Speeds, compare
from benchmarks.stores import BARE, FAST_PEER, OURS, PEER, PostgreSQLStores, SQLiteStores
from benchmarks.workload import load

Stores: TypeAlias = PostgreSQLStores | SQLiteStores

SCANNED = 100_000


class Measure(Struct, frozen=True):
    """A comparison of the contenders; `size` counts what one contender does in a round."""

    name: str
    title: str
    run: Callable[[Openers, int, int], Speeds]
    size: int
    quick: int
    bare_target: float | None
    peer_target: float | None


class Outcome(Struct, frozen=True):
    """What a measure found on one database; `speed` is our median, in events per second.

    `other` is beside another case of ours, which the title names.
    """

    title: str
    database: str
    speed: float | None
    bare: Ratio | None
    bare_target: float | None = None
    peer: Ratio | None = None
    peer_target: float | None = None
    fast_peer: Ratio | None = None
    other: Ratio | None = None
    other_target: float | None = None


class Cost(Struct, frozen=True):
    """How fast one thing is beside another, both ours; `speed` is per second."""

    title: str
    speed: float
    ratio: Ratio
    beside: str


WRITES = (
    Measure("append-1", "append 1", measures.append_single, 500, 100, 0.80, 2.5),
    Measure("append-100", "append 100 in one go", measures.append_hundred, 40, 10, 0.80, 2.5),
    Measure("threads", "8 threads, own aggregates", measures.threads_own, 120, 20, 0.85, 2.5),
    Measure("processes", "8 processes, own aggregates", measures.processes_own, 120, 20, None, 2.5),
    Measure(
        "contended",
        "8 threads, one aggregate, retries",
        measures.threads_contended,
        25,
        5,
        0.75,
        2.5,
    ),
)
SCAN = Measure(
    "scan", "scan of all events, decoded", measures.scan, SCANNED, SCANNED // 10, 0.80, 2.0
)
NOISE = "noise: bare beside its twin, append 1"
IMPORTED = ("wikipedia_edits", "scoop_main")
PROJECTED = 50_000
REPLAYED = (1_000, 10_000)
SNAPSHOTTED = (100, 1_000, 10_000, 100_000)
NAMES = (
    *(measure.name for measure in WRITES),
    *(
        SCAN.name,
        "import",
        "noise",
        "sizes",
        "fence",
        "replay",
        "execute",
        "load",
        "upcast",
        "metrics",
        "cache",
        "outbox",
        "projections",
    ),
)


class Plan(Struct, frozen=True):
    """How thorough a run is, and which measures it has; none named means all."""

    rounds: int
    quick: bool
    only: frozenset[str] = frozenset()

    def has(self, *names: str) -> bool:
        """Whether one of the measures is wanted."""
        return not self.only or not self.only.isdisjoint(names)

    def size(self, measure: Measure) -> int:
        """How much a contender does in a round."""
        return measure.quick if self.quick else measure.size


def writing(plan: Plan, stores: Stores, url: str) -> Iterator[Outcome]:
    """The appends, into one store that grows for all alike."""
    openers = stores.openers(url)
    if plan.has("noise"):
        yield _noise(plan, stores, openers)
    for measure in WRITES:
        if plan.has(measure.name):
            speeds = measure.run(openers, plan.rounds, plan.size(measure))
            yield _outcome(measure, stores, speeds)


def fill(plan: Plan, openers: Openers) -> None:
    """Fill the contenders' stores with what the scan reads."""
    to_fill = {name: opener for name, opener in openers.items() if name != OURS}
    with measures.opened(to_fill) as contenders:
        for contender in contenders.values():
            load(contender, plan.size(SCAN))


def scanning(plan: Plan, stores: Stores, openers: Openers) -> Outcome:
    """The scan of loaded stores."""
    return _outcome(SCAN, stores, SCAN.run(openers, plan.rounds, plan.size(SCAN)))


def importing_logs(plan: Plan, stores: Stores) -> Iterator[Outcome]:
    """The imports of the real logs that are there."""
    for name, path in importing.logs(IMPORTED).items():
        speeds = importing.imports(stores, path, plan.rounds)
        yield Outcome(
            title=f"import of {name}",
            database=stores.name,
            speed=median(speeds[OURS]),
            bare=compare(speeds, OURS, BARE),
            bare_target=0.5,
        )


def replaying_histories(plan: Plan, stores: Stores, url: str) -> Iterator[Outcome]:
    """Replays of long histories; the peer in each of its forms has a row of its own."""
    for events in REPLAYED:
        times = max(1, (2_000 if plan.quick else 20_000) // events)
        speeds = replaying.replays(stores, url, plan.rounds, events, times)
        title = f"replay of {events:,} events to typed state"
        yield Outcome(
            title=title,
            database=stores.name,
            speed=median(speeds[OURS]),
            bare=compare(speeds, OURS, BARE),
            bare_target=0.80,
            peer=compare(speeds, OURS, PEER),
            peer_target=10.0 if PEER in speeds else None,
        )
        for form, target in ((replaying.UNCHECKED, 4.0), (FAST_PEER, 2.0)):
            if form in speeds:
                yield Outcome(
                    title=f"{title}, beside {form}",
                    database=stores.name,
                    speed=None,
                    bare=None,
                    peer=compare(speeds, OURS, form),
                    peer_target=target,
                )


def executing(plan: Plan, stores: Stores, url: str) -> Outcome:
    """Commands beside hand-written load and append."""
    speeds = replaying.commands(stores, url, plan.rounds, 20 if plan.quick else 150)
    return Outcome(
        title=f"a command on {replaying.HISTORY_OF_A_COMMAND} events and more",
        database=stores.name,
        speed=median(speeds[OURS]),
        bare=compare(speeds, OURS, BARE),
    )


def loading_aggregates(plan: Plan, stores: Stores, url: str) -> Iterator[Outcome]:
    """Loads from snapshots, beside hand-written ones, other lengths and a full replay."""
    lengths = SNAPSHOTTED[:-1] if plan.quick else SNAPSHOTTED
    found, even = loading.from_snapshots(
        stores, url, plan.rounds, lengths, 100 if plan.quick else 400
    )
    for length, speeds in found.items():
        yield Outcome(
            title=f"load of {length:,} events and {loading.TAIL} behind their snapshot, loads",
            database=stores.name,
            speed=median(speeds[OURS]),
            bare=compare(speeds, OURS, BARE),
            bare_target=0.70,
        )
    shortest, *longer = lengths
    for length in longer:
        beside = {OURS: found[length][OURS], loading.SHORT: found[shortest][OURS]}
        title = f"load of {length:,} events beside one of {shortest:,}"
        yield _beside(beside, loading.SHORT, title, stores.name, target=1 / 1.2)
    title = f"load of {loading.EVENTS:,} events beside their full replay"
    yield _beside(even, loading.FULL, title, stores.name, target=10.0)


def upcasting(plan: Plan, stores: Stores, url: str) -> Outcome:
    """What events of earlier schema versions cost."""
    speeds = loading.upcasting(url, plan.rounds, 5 if plan.quick else 20)
    title = "full replay of events two schema versions old, beside current ones"
    return _beside(speeds, loading.CURRENT, title, stores.name)


def measuring(plan: Plan, stores: Stores, url: str) -> Iterator[Outcome]:
    """What counting and timing costs."""
    times = 200 if plan.quick else 2_000
    for what, measure in (("append 1", instrumentation.appends), ("load", instrumentation.loads)):
        speeds = measure(url, plan.rounds, times)
        title = f"{what} with metrics beside without"
        yield _beside(speeds, instrumentation.UNMEASURED, title, stores.name, target=0.97)


def caching_aggregates(plan: Plan, stores: Stores, url: str) -> Iterator[Outcome]:
    """What is kept at hand, beside bare lookups and beside the database."""
    found = caching.lookups(stores, url, plan.rounds, 200 if plan.quick else 1_000)
    for title, speeds, target in (
        ("load from L1, beside the bare query that checks it", found.checked, 1 / 1.3),
        ("load from L2 of some age, beside a bare GET and decode", found.shared, 1 / 1.5),
    ):
        yield Outcome(
            title=title,
            database=stores.name,
            speed=median(speeds[OURS]),
            bare=compare(speeds, OURS, BARE),
            bare_target=target,
        )
    behind = f"{loading.TAIL} behind its snapshot"
    for title, speeds, other_target in (
        (f"load from L1 of some age, beside the database's, {behind}", found.aged, 100.0),
        (f"load from L2, checked, beside the database's, {behind}", found.shared_and_checked, None),
        ("load that finds nothing in L1 and L2, beside one without them", found.cold, None),
        (f"history of {caching.HISTORY:,} events of some age, uncached", found.histories, 10.0),
        ("the same, all data and metadata decoded", found.decoded, None),
    ):
        yield _beside(speeds, caching.UNCACHED, title, stores.name, target=other_target)


def publishing_events(plan: Plan, stores: Stores, url: str) -> Iterator[Outcome]:
    """What the outbox costs an append, and relays beside a bare pipeline and beside each other."""
    for threads, size in ((1, 500), (8, 100)):
        times = size // 5 if plan.quick else size
        found = publishing.appends(url, plan.rounds, times, threads)
        by = "" if threads == 1 else f", {threads} threads"
        title = f"append 1 with the outbox beside without{by}"
        yield _beside(found, publishing.WITHOUT, title, stores.name, target=0.85)
    if isinstance(stores, SQLiteStores):
        return
    found, several = publishing.relays(stores.new(), plan.rounds, 1_000 if plan.quick else 10_000)
    yield Outcome(
        title="relay to Redis Streams, beside SKIP LOCKED and XADD by hand",
        database=stores.name,
        speed=median(found[OURS]),
        bare=compare(found, OURS, BARE),
        bare_target=0.6,
    )
    one, *more = map(str, publishing.RELAYS)
    for number in more:
        beside = {OURS: several[number], one: several[one]}
        yield _beside(beside, one, f"{number} relays in processes, beside one", stores.name)


def keeping_read_models(plan: Plan, stores: Stores, url: str) -> Iterator[Outcome]:
    """A read model beside one kept by hand, and beside what there is to do without one."""
    events = projecting.fill(url, 5_000 if plan.quick else PROJECTED)
    speeds = projecting.catching_up(stores, url, plan.rounds, events)
    yield Outcome(
        title=f"read model of {events:,} events from the start, beside one by hand",
        database=stores.name,
        speed=median(speeds[OURS]),
        bare=compare(speeds, OURS, BARE),
        bare_target=0.6,
    )
    title = "the same, beside one whose handlers are one fold written for speed"
    yield _beside(speeds, projecting.FOLDED, title, stores.name)
    found = projecting.answers(url, plan.rounds, 100 if plan.quick else 500)
    length = f"{events / found.users:.0f} events"
    for title, answered in (
        (f"a row of a read model, beside a replay of some {length}", found.row),
        (f"a page of a read model, beside replays of {found.users:,} users", found.page),
    ):
        yield _beside(answered, projecting.REPLAYED, title, stores.name)


def fence(plan: Plan, url: str) -> Iterator[Cost]:
    """The cost of following without a gap."""
    speeds = following.writers(url, plan.rounds, 30 if plan.quick else 150)
    yield _cost(speeds, NAIVE, UNREAD)
    yield _cost(speeds, FOLLOWED, UNREAD)
    yield _cost(speeds, FOLLOWED, NAIVE)
    speeds = following.reads(url, plan.rounds, 10 if plan.quick else 100)
    yield _cost(speeds, NO_HOLE, PLAIN)
    yield _cost(speeds, AT_HOLE, PLAIN)


def _noise(plan: Plan, stores: Stores, openers: Openers) -> Outcome:
    """What a ratio of 1 looks like here."""
    twins = {OURS: openers[BARE], BARE: openers[BARE]}
    measure = WRITES[0]
    speeds = measure.run(twins, plan.rounds, plan.size(measure))
    return Outcome(title=NOISE, database=stores.name, speed=None, bare=compare(speeds, OURS, BARE))


def _outcome(measure: Measure, stores: Stores, speeds: Speeds) -> Outcome:
    return Outcome(
        title=measure.title,
        database=stores.name,
        speed=median(speeds[OURS]),
        bare=compare(speeds, OURS, BARE),
        bare_target=measure.bare_target,
        peer=compare(speeds, OURS, PEER),
        peer_target=measure.peer_target if PEER in speeds else None,
        fast_peer=compare(speeds, OURS, FAST_PEER),
    )


def _beside(
    speeds: Speeds, other: str, title: str, database: str, *, target: float | None = None
) -> Outcome:
    """Ours in one case beside ours in another."""
    return Outcome(
        title=title,
        database=database,
        speed=median(speeds[OURS]),
        bare=None,
        other=compare(speeds, OURS, other),
        other_target=target,
    )


def _cost(speeds: Speeds, name: str, beside: str) -> Cost:
    ratio = compare(speeds, name, beside)
    assert ratio is not None
    return Cost(name, median(speeds[name]), ratio, beside)
