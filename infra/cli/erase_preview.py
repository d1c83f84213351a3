"""`lineage erase --dry-run`: whom an erasure would reach now, how each would be asked, by which kinds of identifier.

Reads only, and shows kinds of identifiers, never identifiers.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from infra.cli.options import table
from infra.settings import Settings, SettingsError

if TYPE_CHECKING:
    from clickhouse_driver import Client

# So many people are looked up with one query.
_AT_ONCE = 5_000


def preview(settings: Settings, client: Client, people: Sequence[bytes]) -> dict[str, Any]:
    """For JSON: `people` asked for and `known` ones, `open`: how many have an open request, `identifiers`: the kinds
    that are sealed of one person (null where that is not looked up), `targets`: what would be asked, own stores too."""
    from audit.erasure_preview import reached
    from infra.connectors import connectors_of
    from processors.erasure import STORE
    from sinks.clickhouse.erasable import purged_places
    from sinks.clickhouse.erasures import disclosures, open_request_of, subjects_of_aliases
    from streams.erasure_routes import Routes
    from streams.reference_data import ReferenceData

    kafka, registry = settings.kafka(), settings.registry()
    reference = ReferenceData(kafka, registry)
    try:
        knowledge = reference.read_to_end()
    finally:
        reference.close()
    connectors = connectors_of(settings)
    routes = Routes(lambda: connectors, lambda: knowledge, time.time, registry)
    rows = []
    count = 0
    for start in range(0, len(people), _AT_ONCE):
        subjects = subjects_of_aliases(client, people[start : start + _AT_ONCE])
        count += len(subjects)
        rows += disclosures(client, list(subjects.values()))
    targets = []
    for one in reached(rows):
        route = routes.route(one.recipient)
        targets.append(
            {
                "recipient": one.recipient,
                "hop": one.hop,
                "state": "exempt" if route.exempt else "waiting",
                "grade": "none",
                "protocol": route.protocol,
                "ground": route.exempt,
                "people": one.people,
            }
        )
    stores = [
        {"recipient": STORE + name, "hop": 0, "state": "waiting", "grade": "none", "protocol": "purge", "ground": ""}
        for name in (*purged_places(), "identities")
    ]
    is_one = len(people) == 1
    found = open_request_of(client, people[0]) if is_one else None
    return {
        "dry_run": True,
        "request_id": found["request_id"] if found else None,
        "state": found["state"] if found else None,
        "people": len(people),
        "known": count,
        "identifiers": _identifiers(settings, people[0]) if is_one else None,
        "targets": targets + [{**store, "people": count} for store in stores],
        "certificate": None,
    }


def _identifiers(settings: Settings, person: bytes) -> list[str] | None:
    """Kinds of identifiers, e.g. `email` or `email (sha256)`; None where they cannot be opened here."""
    from streams.identities import SealError, load_private_key
    from streams.sealed_identities import find_sealed, open_identities

    try:
        private_key = load_private_key(settings.controller_private_key())
    except SettingsError:
        return None
    sealed = find_sealed(settings.kafka(), [person], settings.registry())[person]
    try:
        identities = open_identities(private_key, person, sealed)
    except SealError:
        return None
    kinds = {(i["identity_type"], i["identity_format"]) for i in identities}
    return sorted(kind if form == "raw" else f"{kind} ({form})" for kind, form in kinds)


def preview_lines(answer: Mapping[str, Any]) -> Iterable[str]:
    """Lines for people."""
    if answer["people"] > 1:
        yield f"{answer['known']:,} of {answer['people']:,} people are known here"
    elif not answer["known"]:
        yield "not known here (never seen, not loaded yet, or erased): nobody would be asked"
        return
    if answer["request_id"]:
        yield f"open already: request {answer['request_id']} ({answer['state']}) would answer this one"
    if answer["identifiers"] is not None:
        yield f"identifiers that are known: {', '.join(answer['identifiers']) or 'none: no recipient could be asked'}"
    rows = [
        [
            one["recipient"],
            "?" if one["hop"] is None else str(one["hop"]),
            "may keep it" if one["ground"] else one["protocol"],
            f"{one['people']:,}",
            one["ground"],
        ]
        for one in answer["targets"]
    ]
    yield from table(rows, ["target", "hop", "asked by", "people", "ground"])
    yield "nothing was changed"
