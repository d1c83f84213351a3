"""What became of each consent of a person: given, renewed, refused, withdrawn, or ended with the whole.

Pure. Tells the person's own acts in the order of time; judges nothing: which consent a verdict rests on is decided by
`processors/decide.py` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from audit.exports.background import Background, Record, instant
from processors.consent import ConsentFact, turn
from processors.knowledge import covers

# Consent states of the W3C Data Privacy Vocabulary 2.2, module consent_status.
GIVEN = "dpv:ConsentGiven"
RENEWED = "dpv:RenewedConsentGiven"
REFUSED = "dpv:ConsentRefused"
WITHDRAWN = "dpv:ConsentWithdrawn"
REVOKED = "dpv:ConsentRevoked"
STANDING = (GIVEN, RENEWED)


class Scope(NamedTuple):
    """What a consent is about. `kind`: accept, guardian, or choice (a grant or a withdrawal)."""

    kind: str
    version: int | None = None
    activity: str | None = None
    purpose: str | None = None
    recipient: str | None = None
    categories: tuple[str, ...] = ()


class Change(NamedTuple):
    """One event that gave a consent a state. `because`: the event is about more than this consent alone."""

    state: str
    event: Record
    because: str = ""


@dataclass
class Consent:
    """A consent with its changes by time; its id is that of the first event."""

    scope: Scope
    changes: list[Change] = field(default_factory=list)

    @property
    def id(self) -> str:
        found: str = self.changes[0].event["event_id"]
        return found

    @property
    def stands(self) -> bool:
        return self.changes[-1].state in STANDING


def consents(events: Iterable[Record], background: Background) -> list[Consent]:
    """Every consent that the person, or a guardian, gave, refused or withdrew, by its first event.

    events: each once. What a person said of their age is no consent.
    """
    found: dict[Scope, Consent] = {}
    for event in sorted(filter(_changes_consents, events), key=_turn):
        if event["activity"] == "erase":
            _end(found.values(), Change(REVOKED, event, "the person was erased"))
        else:
            _take(event, found, background)
    return list(found.values())


def _changes_consents(event: Record) -> bool:
    activity: str = event["activity"]
    return activity == "consent" or (activity == "erase" and event["erasure_phase"] == "completed")


def _turn(event: Record) -> tuple[int, int, int, bool]:
    """The order in which the decision takes them: of a grant and a withdrawal of one moment the latter is the last."""
    action = "erased" if event["activity"] == "erase" else event["consent_action"]
    at = instant(event["occurred_at"])
    return turn(ConsentFact(None, at, action, band=event["age_band"], granted=event["guardian_granted"]))


def _take(event: Record, found: dict[Scope, Consent], background: Background) -> None:
    match event["consent_action"]:
        case "accept":
            _give(event, Scope("accept", version=event["consent_version"]), found)
        case "guardian" if event["guardian_granted"]:
            _give(event, Scope("guardian"), found)
        case "guardian":
            _refuse(event, Scope("guardian"), found)
        case "grant":
            _give(event, scope_of(event), found)
        case "withdraw":
            scope = scope_of(event)
            narrower = list(_narrower(scope, found.values(), instant(event["occurred_at"]), background))
            _end(narrower, Change(WITHDRAWN, event, "a wider withdrawal"))
            _withdraw(event, scope, found)
        case "leave":
            _end(found.values(), Change(WITHDRAWN, event, "the person ended their use of the service"))


def scope_of(event: Record) -> Scope:
    """The scope of a grant or a withdrawal, without what its activity does not look at."""
    activity = event["consent_activity"]
    return Scope(
        "choice",
        activity=activity,
        purpose=event["purpose"],
        recipient=event["recipient"] if activity in ("share", "transfer") else None,
        categories=() if activity == "use" else tuple(sorted(set(event["data_categories"]))),
    )


def _give(event: Record, scope: Scope, found: dict[Scope, Consent]) -> None:
    consent = found.setdefault(scope, Consent(scope))
    consent.changes.append(Change(RENEWED if consent.changes and consent.stands else GIVEN, event))


def _refuse(event: Record, scope: Scope, found: dict[Scope, Consent]) -> None:
    consent = found.setdefault(scope, Consent(scope))
    consent.changes.append(Change(WITHDRAWN if consent.changes and consent.stands else REFUSED, event))


def _withdraw(event: Record, scope: Scope, found: dict[Scope, Consent]) -> None:
    """Also where no grant came first: what the policy allows until the person withdraws needed none."""
    found.setdefault(scope, Consent(scope)).changes.append(Change(WITHDRAWN, event))


def _end(ended: Iterable[Consent], change: Change) -> None:
    for consent in ended:
        if consent.stands:
            consent.changes.append(change)


def _narrower(scope: Scope, known: Iterable[Consent], at: int, background: Background) -> Iterator[Consent]:
    """The standing grants that a withdrawal of this scope covers whole, itself left out."""
    for consent in known:
        other = consent.scope
        if (
            other != scope
            and other.kind == "choice"
            and other.activity == scope.activity
            and consent.stands
            and scope.purpose in ("*", None, other.purpose)
            and _is_within(other.recipient, scope.recipient, at, background)
            and all(covers(scope.categories, category) for category in other.categories)
        ):
            yield consent


def _is_within(recipient: str | None, of: str | None, at: int, background: Background) -> bool:
    if of in ("*", None) or recipient == of:
        return True
    entry = background.entry(recipient, at)
    return entry is not None and of == f"kind:{entry['kind']}"
