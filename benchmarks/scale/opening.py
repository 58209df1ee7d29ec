"""Pages of the dashboard over stores of several sizes, in one browser."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from benchmarks.rounds import interleave
from benchmarks.scale.filling import DOMAIN, Sized
from benchmarks.scale.measures import Taken
from benchmarks.ui import serving
from benchmarks.ui.visits import Place, visitor

TITLES = ("Timeline of 20 events opens", "store's page opens", "Monitoring opens")


def opened_pages(stores: Sequence[Sized], rounds: int) -> Mapping[str, Taken]:
    """Milliseconds until a page is ready, with a warm browser cache, once the store is counted."""
    with ExitStack() as running:
        places = [
            _places(each, running.enter_context(serving.dashboard(each.url, domain=DOMAIN)))
            for each in stores
        ]
        person = running.enter_context(visitor(clicks=0))
        found = {}
        for title in places[0]:
            runs = {
                str(sized.events): partial(person.open, place[title])
                for sized, place in zip(stores, places, strict=True)
            }
            taken = interleave(runs, rounds)
            found[title] = {int(events): times for events, times in taken.items()}
    return found


def _places(sized: Sized, address: str) -> Mapping[str, Place]:
    aggregate_id = next(iter(sized.picked))
    size = f"{sized.events:,}"
    timeline = f"{address}/timeline"
    places = (
        Place(f"Timeline in {size}", "timeline", f"{timeline}?aggregate={aggregate_id}"),
        Place(f"store of {size}", "store", timeline),
        Place(f"Monitoring of {size}", "monitoring", f"{address}/monitoring"),
    )
    return dict(zip(TITLES, places, strict=True))
