"""Which type follows which: counted, with shares and examples."""

from hypothesis import given
from hypothesis import strategies as st

from store import Hindsight, NewEvent, none
from store.analysis.transitions import EXAMPLES, outlines, transitions

HISTORIES = st.lists(st.lists(st.sampled_from("ABC"), max_size=8), max_size=8)


@given(HISTORIES)
def test_every_event_follows_another_or_is_the_first(histories: list[list[str]]) -> None:
    outlines = [
        (f"a{number}", [(version, kind, 0) for version, kind in enumerate(kinds, start=1)])
        for number, kinds in enumerate(histories)
    ]
    found = transitions(outlines)
    assert sum(each.count for each in found) == sum(map(len, histories))
    by_pair = {(each.before, each.after): each for each in found}
    assert len(by_pair) == len(found)
    for before in {each.before for each in found}:
        assert abs(sum(each.share for each in found if each.before == before) - 1) < 1e-9
    for each in found:
        assert len(each.examples) == min(each.count, EXAMPLES)
        for example in each.examples:
            kinds = [None, *histories[int(example.aggregate_id[1:])]]
            assert (kinds[example.version - 1], kinds[example.version]) == (each.before, each.after)


def test_what_comes_in_one_of_a_hundred_cases_is_rare() -> None:
    usual = [(f"a{n}", [(1, "Opened", 0), (2, "Paid", 0)]) for n in range(99)]
    odd = [("b", [(1, "Opened", 0), (2, "Lost", 0)])]
    rare = [each for each in transitions([*usual, *odd]) if each.is_rare]
    assert [(each.before, each.after, each.count) for each in rare] == [("Opened", "Lost", 1)]
    assert not any(each.is_rare for each in transitions([*usual[1:], *odd]))


def test_all_aggregates_of_a_type_are_looked_at_page_by_page(sqlite_url: str) -> None:
    with Hindsight(sqlite_url) as store:
        for kind, count in (("a", 1_005), ("b", 3)):
            for number in range(count):
                store.append(kind, f"{kind}{number}", [NewEvent("Done", {})], expected=none())
        told: list[int] = []
        found = transitions(outlines(store.log, "a", progress=told.append))
    assert [(each.before, each.after, each.count) for each in found] == [(None, "Done", 1_005)]
    assert sum(told) == 1_005
