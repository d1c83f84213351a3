"""Hops of onward disclosures, against a plain search over all paths."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from processors.hops import SELF, disclosure_hop, recipient_hops


def test_a_chain_with_a_circle() -> None:
    hops = recipient_hops([("b", "c"), (SELF, "a"), ("a", "b"), ("c", "a"), ("b", "b"), (SELF, None), ("x", "y")])
    assert hops == {"a": 1, "b": 2, "c": 3}
    assert [disclosure_hop(d, hops) for d in (SELF, "a", "c", "x")] == [1, 2, 4, None]


def test_the_shortest_way_counts() -> None:
    assert recipient_hops([(SELF, "a"), ("a", "b"), ("b", "c"), (SELF, "b")]) == {"a": 1, "b": 1, "c": 2}


names = st.sampled_from("abcd")


@given(st.lists(st.tuples(names | st.just(SELF), names)))
def test_against_all_paths(disclosures: list[tuple[str, str]]) -> None:
    edges = set(disclosures)
    paths = [
        (SELF, *path)
        for length in range(1, 5)
        for path in permutations("abcd", length)
        if all(step in edges for step in zip((SELF, *path), path, strict=False))
    ]
    expected = {end: min(len(p) - 1 for p in paths if p[-1] == end) for end in {p[-1] for p in paths}}
    assert recipient_hops(disclosures) == expected
