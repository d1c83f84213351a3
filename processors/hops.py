"""How far from the person: the hop of each disclosure in one subject's lineage.

Pure.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping

SELF = "self"
"""The discloser of what the app itself discloses."""


def recipient_hops(disclosures: Iterable[tuple[str, str | None]]) -> dict[str, int]:
    """How many disclosures lie between the app and each recipient that is reached from it, at the least.

    disclosures: (discloser, recipient) of one subject; recipient None: a publication, which reaches nobody by name.
    The app's own recipients are at hop 1. Circles are fine. A recipient that only got data from one who is not
    reached is absent.
    """
    passed_on: defaultdict[str, set[str]] = defaultdict(set)
    for discloser, recipient in disclosures:
        if recipient is not None:
            passed_on[discloser].add(recipient)
    hops = {SELF: 0}
    queue = deque([SELF])
    while queue:
        discloser = queue.popleft()
        for recipient in passed_on[discloser]:
            if recipient not in hops:
                hops[recipient] = hops[discloser] + 1
                queue.append(recipient)
    del hops[SELF]
    return hops


def disclosure_hop(discloser: str, hops: Mapping[str, int]) -> int | None:
    """The hop of one disclosure: 1 by the app itself, else one more than the discloser's own.

    hops: what `recipient_hops` found in the same lineage. None: the discloser is not seen to have got the data.
    """
    if discloser == SELF:
        return 1
    return None if discloser not in hops else hops[discloser] + 1
