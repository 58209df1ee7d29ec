"""How many blocks of tables and indexes a first load touches, whatever is in memory of them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice

from msgspec.structs import replace
from sqlalchemy import make_url

from benchmarks.scale import measures
from benchmarks.scale.filling import Sized, opened
from benchmarks.stores import PostgreSQLStores
from tests import plans
from tests.plans import Plan, Statement

TITLE = "load of 20 events, first touch"
_LOADS = 15
_WRITES = re.compile(r"\b(INSERT|UPDATE)\b")


def blocks_of_loads(place: PostgreSQLStores, stores: Sequence[Sized]) -> measures.Taken:
    """Blocks of each of some loads, by the events of the store."""
    return {each.events: sorted(_blocks(place, each)) for each in stores}


def _blocks(place: PostgreSQLStores, sized: Sized) -> Iterator[int]:
    with opened(plans.telling(sized.url)) as store:
        for aggregate_id in islice(sized.picked, _LOADS):
            load = partial(store.load, aggregate_id)
            sent = plans.statements(store, load, server=place.server)
            yield sum(_run(place, sized, each).blocks or 0 for each in sent)


def explained(place: PostgreSQLStores, sized: Sized) -> Mapping[str, Sequence[Plan]]:
    """How PostgreSQL goes about what each measure asks that only reads."""
    found = {}
    with opened(plans.telling(sized.url)) as store:
        told = replace(sized, store=store)
        for title, make in measures.MEASURES.items():
            sent = plans.statements(store, make(told), server=place.server)
            found[title] = [
                _run(place, sized, each) for each in sent if not _WRITES.search(each.sql)
            ]
    return found


def _run(place: PostgreSQLStores, sized: Sized, statement: Statement) -> Plan:
    return plans.run_on_postgresql(place.server, str(make_url(sized.url).database), statement.sql)
