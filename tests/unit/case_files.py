"""The cases in `cases/`, filled up to whole histories of verdicts.md's format."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CASES = Path(__file__).parent / "cases"
# What an event says unless its case says otherwise.
USUAL: dict[str, dict[str, Any]] = {
    "collect": {"event_type": None, "purpose": "support", "fields": [], "storage_country": None},
    "share": {"discloser": "self", "recipient": "cloud", "purpose": "support", "collected_at": None, "order": None},
    "transfer": {"discloser": "self", "recipient": "heir", "purpose": None, "collected_at": None, "order": None},
    "publish": {"discloser": "self", "recipient": None, "purpose": None, "collected_at": None, "order": None},
}
ACCEPTED = {"occurred_at": "2026-01-02T00:00:00.000Z", "action": "accept", "version": 1}


class WorkedCase(NamedTuple):
    """A history of one event `e`, and the answer: verdict, clauses, legal basis."""

    name: str
    history: dict[str, Any]
    verdict: str
    clauses: list[str]
    legal_basis: str


def worked_cases() -> Iterator[WorkedCase]:
    world = _in_full(yaml.safe_load((CASES / "world.yaml").read_text(encoding="utf-8")))
    for path in sorted(CASES.glob("*.yaml")):
        if path.name != "world.yaml":
            file = _in_full(yaml.safe_load(path.read_text(encoding="utf-8")))
            for case in file["cases"]:
                yield _worked(world, file["activity"], {**case, "name": f"{path.stem}: {case['name']}"})


def _worked(world: dict[str, Any], activity: str, case: dict[str, Any]) -> WorkedCase:
    if unknown := case.keys() - {"name", "event", "consents", "more", "erased", "expect"}:
        raise ValueError(f"{case['name']}: {unknown}")
    said = case.get("event") or {}
    activity = said.get("activity", activity)
    event = {
        "event_id": "e",
        "subject": "s",
        "occurred_at": "2026-03-10T12:00:00.000Z",
        "categories": ["user.device"],
        "region": "EU",
        **USUAL[activity],
        **({} if activity == "collect" else {"activity": activity}),
        **said,
    }
    consents = [*case.get("consents", [ACCEPTED]), *case.get("more", [])]
    history = {
        "name": case["name"],
        **world,
        "consents": [{"event_id": f"c{i}", "subject": "s", **consent} for i, consent in enumerate(consents)],
        "erased": [{"subject": "s", "occurred_at": time} for time in case.get("erased", [])],
        "events": [event],
    }
    verdict, *clauses = case["expect"].split()
    legal_basis = clauses.pop() if verdict == "lawful" else "none"
    return WorkedCase(case["name"], history, verdict, clauses, legal_basis)


def _in_full(value: Any) -> Any:
    """The value with bare dates as their midnights."""
    match value:
        case date():
            return f"{value}T00:00:00.000Z"
        case dict():
            return {key: _in_full(item) for key, item in value.items()}
        case list():
            return [_in_full(item) for item in value]
    return value
