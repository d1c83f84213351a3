"""Who may do what over the API: every operation, and the roles that may ask for it. Frozen data; decides nothing else.

docs/permissions.md has the same table; a test compares the two, and every pair with the running API. No operation is
served that is not listed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from processors.api_clients import ROLES

# all: whatever there is. own: only what the client itself has done.
Scope = Literal["all", "own"]


@dataclass(frozen=True)
class Operation:
    """One operation: method and path below /api/v1. `roles`: who may ask, and for how much; nobody else.

    `is_look`: it shows something about people one by one. It needs a reason, and is recorded before it is answered.
    """

    id: str
    method: str
    path: str
    what: str
    roles: Mapping[str, Scope]
    is_look: bool = False


def _all(*roles: str) -> Mapping[str, Scope]:
    return dict.fromkeys(roles, "all")


_PERSON = _all("auditor", "clerk")
_AUDITOR = _all("auditor")
# Counts and the registry: they name no person.
_STAFF = _all("engineer", "auditor", "eraser", "clerk")
_ERASER = _all("eraser")
_LOOKS: Mapping[str, Scope] = {"auditor": "own", "clerk": "own", "overseer": "all"}

OPERATIONS: Mapping[str, Operation] = {
    operation.id: operation
    for operation in (
        Operation("lineage", "POST", "/subjects/lineage", "A person's lineage", _PERSON, True),
        Operation(
            "lineage_by_query", "GET", "/subjects/lineage", "The same, with the user id in the URL", _PERSON, True
        ),
        Operation("accounting", "POST", "/subjects/accounting", "Who got a person's data, when and why", _PERSON, True),
        Operation("access_report", "POST", "/subjects/access-report", "The report a person may ask for", _PERSON, True),
        Operation("export", "POST", "/subjects/export", "A person's lineage in another format", _PERSON, True),
        Operation("event", "GET", "/events/{event_id}", "One event and why it was judged so", _PERSON, True),
        Operation("events", "GET", "/events", "Events by recipient, purpose, clause, verdict and time", _AUDITOR),
        Operation("incident", "POST", "/incidents", "Whom a breach at a recipient affected", _AUDITOR, True),
        Operation("recipients", "GET", "/recipients", "All recipients, with counts", _STAFF),
        Operation("recipient", "GET", "/recipients/{recipient_id}", "One recipient", _STAFF),
        Operation("purposes", "GET", "/purposes", "Counts by purpose", _STAFF),
        Operation("clauses", "GET", "/clauses", "Counts by clause", _STAFF),
        Operation("verdicts", "GET", "/verdicts", "Counts by day and verdict", _STAFF),
        Operation("totals", "GET", "/totals", "Counts of everything", _STAFF),
        Operation("requests", "GET", "/requests", "Erasure requests", _STAFF),
        Operation("request", "GET", "/requests/{request_id}", "One erasure request", _STAFF),
        Operation("certificate", "GET", "/requests/{request_id}/certificate", "Its signed certificate", _STAFF),
        Operation("retry", "POST", "/requests/{request_id}/retry", "Ask recipients of an erasure again now", _ERASER),
        Operation(
            "confirm", "POST", "/requests/{request_id}/confirm", "A recipient has confirmed that it erased", _ERASER
        ),
        Operation("exempt", "POST", "/requests/{request_id}/exempt", "A recipient may keep the data", _ERASER),
        Operation("looks", "GET", "/looks", "Who looked at people, when and why", _LOOKS),
    )
}


def allowed(operation: str, roles: Iterable[str]) -> tuple[str, Scope] | None:
    """The role by which a client with these roles may ask, and for how much; None: it may not."""
    held = set(roles)
    granted = OPERATIONS[operation].roles
    found = [(role, granted[role]) for role in ROLES if role in held and role in granted]
    return min(found, key=lambda one: one[1] != "all", default=None)
