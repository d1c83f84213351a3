"""The incident report: whom a breach at a recipient affected (aoxun policy, clause 4.3: people affected are told).

Pure. The same data and the same question give the same report. Names no person but by subject and alias: who has the
app's user ids finds by the alias whom to notify.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sinks.clickhouse.incident_pages import Affected, Reach

_HOW = (
    "A person is affected when the recipient had got data about them before the breach ended, whatever the verdict of "
    "the disclosure was: from the app (direct), or from another recipient that passed them on (onward). Data it got "
    "before the breach began count as well, as it may still have had them; `during` counts what it got in the time of "
    "the breach itself. Each event counts once, however often it was judged."
)
_PASSED_ON = (
    "`passed_on_to` lists to whom the recipient passed data on before the breach ended: these hold copies, and are not "
    "said to be affected."
)


def incident_summary(recipient: str, since: str, until: str, found: Reach, entry: Mapping[str, Any]) -> dict[str, Any]:
    """The report without its list of people, ready for JSON. since, until: ISO 8601; entry: the recipient's registry
    entry, empty when there is none."""
    return {
        "recipient": {name: entry.get(name) for name in ("name", "kind", "contact", "country")} | {"id": recipient},
        "from": since,
        "to": until,
        "people": found.people,
        "direct": found.direct,
        "onward": found.onward,
        "before": found.before,
        "during": found.during,
        "disclosures": found.disclosures,
        "first_at": _iso(found.first_at),
        "last_at": _iso(found.last_at),
        "categories": [
            {"category": category, "people": people, "disclosures": disclosures}
            for category, (people, disclosures) in found.categories.items()
        ],
        "passed_on_to": [
            {"recipient": receiver, "people": people, "disclosures": disclosures}
            for receiver, (people, disclosures) in found.passed_on.items()
        ],
        "erased": {"people": found.erased, "confirmed_before": found.confirmed_before},
        "explanation": explanation(found),
    }


def explanation(found: Reach) -> list[str]:
    """How the report came about, in sentences."""
    told = [_HOW]
    if found.passed_on:
        told.append(_PASSED_ON)
    if found.erased:
        left = found.erased - found.confirmed_before
        told.append(
            f"{found.erased} people who had been given to this recipient have been erased since, and are in no number "
            f"and no list here, because nothing of them is left. For {found.confirmed_before} of them the recipient "
            f"had completed the erasure before the breach began; the other {left} may be affected, and can only be "
            "told by what the app itself still knows of their requests."
        )
    return told


def affected_person(person: Affected) -> dict[str, Any]:
    """One person of the report's list, ready for JSON."""
    return {
        "subject": str(person.subject),
        "alias": None if person.alias is None else person.alias.hex(),
        "disclosures": person.disclosures,
        "direct": person.direct > 0,
        "onward": person.disclosures > person.direct,
        "through": list(person.through),
        "during": person.during,
        "categories": list(person.categories),
        "purposes": list(person.purposes),
        "first_at": _iso(person.first_at),
        "last_at": _iso(person.last_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
