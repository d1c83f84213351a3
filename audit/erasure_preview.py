"""Whom an erasure would reach if it were asked for now: every recipient at every hop. Pure; asks nobody."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from processors.erasure import PUBLIC
from processors.hops import disclosure_hop, recipient_hops
from sinks.clickhouse.erasures import Disclosed


@dataclass(frozen=True)
class Reached:
    """One recipient. `hop`: the fewest disclosures between the app and it; None: its discloser is not seen to have got
    the data. `people`: how many of those asked for. `last_at`: ms, the newest disclosure."""

    recipient: str
    hop: int | None
    people: int
    last_at: int


def reached(rows: Iterable[Disclosed]) -> list[Reached]:
    """Every recipient in these disclosures, nearest first. A publication is the recipient `public`."""
    by_subject: dict[UUID, list[Disclosed]] = {}
    for row in rows:
        by_subject.setdefault(row.subject, []).append(row)
    found: dict[str, Reached] = {}
    for of_subject in by_subject.values():
        hops = recipient_hops((row.discloser, row.recipient) for row in of_subject)
        mine: dict[str, Reached] = {}
        for row in of_subject:
            name = row.recipient or PUBLIC
            one = Reached(name, disclosure_hop(row.discloser, hops), 1, row.last_at)
            mine[name] = _merged(mine[name], one, 1) if name in mine else one
        for name, one in mine.items():
            found[name] = _merged(found[name], one, found[name].people + 1) if name in found else one
    return sorted(found.values(), key=lambda one: (one.hop is None, one.hop or 0, one.recipient))


def _merged(a: Reached, b: Reached, people: int) -> Reached:
    hop = min((hop for hop in (a.hop, b.hop) if hop is not None), default=None)
    return Reached(a.recipient, hop, people, max(a.last_at, b.last_at))
