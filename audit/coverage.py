"""Which clause of a policy is held by what: its rules, the tests that cite it, and how often it decided.

A clause is *bare* when nothing would show that it is not kept: no rule cites it and no record stands for it, or one of
the two tests is missing, a lawful one and an unlawful one. Reads files of cases; never judges.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import yaml

from processors.knowledge import STANDARD_RULES
from sinks.clickhouse.queries import Count

Record = Mapping[str, Any]

# What is kept for the clauses that no single event can be judged by; the numbers are those of `STANDARD_RULES`.
STANDARD_RECORDS: Mapping[str, str] = {
    "4.3": "incident report: who was affected by a breach at a recipient between two moments, with a list to notify",
    "8": "erasure requests with their due date: {response_days} days after identity is verified, breaches counted",
}


class Case(NamedTuple):
    """A test: a history with its expected answer. `verdict`: lawful, violation or gap; `clauses`: those that decide."""

    name: str
    verdict: str
    clauses: tuple[str, ...]


def read_cases(path: Path) -> list[Case]:
    """The cases of a file, or of all files of a folder: NDJSON in the format of `lineage judge` with `expected`, or
    YAML with `cases`, each with `name` and `expect` (`violation 3.1(4) 2`). Raises `ValueError`, `OSError`.
    """
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".ndjson", ".yaml"))
        return [case for file in files for case in read_cases(file)]
    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix != ".ndjson":
            return [_worked(case) for case in (yaml.safe_load(text) or {}).get("cases", [])]
        histories = [orjson.loads(line) for line in text.splitlines() if line.strip()]
        return [
            Case(history.get("name", ""), answer["verdict"], tuple(answer["clauses"]))
            for history in histories
            for answer in history["expected"].values()
        ]
    except (KeyError, AttributeError, TypeError, orjson.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: no file of cases ({type(error).__name__}: {error})") from error


def _worked(case: Record) -> Case:
    verdict, *clauses = case["expect"].split()
    # A lawful answer ends with its legal basis.
    return Case(case["name"], verdict, tuple(clauses[:1] if verdict == "lawful" else clauses))


def coverage(policy: Record, cases: Iterable[Case], counts: Iterable[Count] = ()) -> dict[str, Any]:
    """The coverage of a policy's clauses, ready for JSON.

    policy: a `PolicyPublished` record. cases: the tests. counts: the events at hand (`count_events`).

    `clauses`: in the order of the policy, each with `clause`, `heading`, `rules` (what of the policy cites it), `tests`
    (names), `lawful_tests`, `unlawful_tests`, `decided` (events), `decided_as` (verdict → events), `record` (what is
    kept instead, where no event is judged by it; else null) and `bare`. `bare`: the ids of those that are.
    """
    cases = list(dict.fromkeys(cases))
    rules = _rules(policy)
    headings = policy["clauses"] or dict.fromkeys(sorted(rules), "")
    decided: dict[str, Counter[str]] = {}
    for count in counts:
        for clause in set(count.clauses):
            decided.setdefault(clause, Counter())[count.verdict] += count.events
    clauses = []
    for clause, heading in headings.items():
        citing = [case for case in cases if _cites(case, clause, headings)]
        # What a clause below permits is the exception that this one makes.
        lawful = [case for case in cases if case.verdict == "lawful" and _cites_within(case, clause, headings)]
        unlawful = [case for case in citing if case.verdict != "lawful"]
        cited = rules.get(clause, [])
        record = None if cited else _record(policy, clause, rules)
        clauses.append(
            {
                "clause": clause,
                "heading": heading,
                "rules": cited,
                "tests": list(dict.fromkeys(case.name for case in citing)),
                "lawful_tests": len(lawful),
                "unlawful_tests": len(unlawful),
                "decided": sum(decided.get(clause, Counter()).values()),
                "decided_as": {verdict: decided.get(clause, Counter())[verdict] for verdict in _VERDICTS},
                "record": record,
                "bare": record is None and not (cited and lawful and unlawful),
            }
        )
    return {"clauses": clauses, "bare": [clause["clause"] for clause in clauses if clause["bare"]]}


_VERDICTS = ("lawful", "violation", "gap")


def _rules(policy: Record) -> dict[str, list[str]]:
    """Clause → what of the policy cites it."""
    found: dict[str, list[str]] = {}
    beside = {
        "categories": [f"{len(policy['categories'])} categories", f"{len(policy['fields'])} fields"],
        "region": [f"residency of {', '.join(policy['residency'])}"] if policy["residency"] else [],
        "retention": [f"retention of {len(policy['retention'])} categories"] if policy["retention"] else [],
    }
    for rule, clause in {**STANDARD_RULES, **policy["rules"]}.items():
        found.setdefault(clause, []).extend([f"rule {rule}", *beside.get(rule, [])])
    for name, purpose in policy["purposes"].items():
        events = sum(1 for other in policy["events"].values() if other == name)
        found.setdefault(purpose["clause"], []).append(f"purpose {name} ({purpose['basis']}, {events} event types)")
    for clause, births in _births(policy).items():
        # By itself it is no rule that an event is judged by: see `_record`.
        if clause in found:
            found[clause] += births
    return found


def _births(policy: Record) -> dict[str, list[str]]:
    """Clause → what opens erasure requests by itself because of it."""
    found: dict[str, list[str]] = {}
    for cause, terms in (policy.get("erasure") or {}).items():
        found.setdefault(terms["clause"], []).append(f"erasure by itself: {cause}, after {terms['after_days']} days")
    return found


def _record(policy: Record, clause: str, rules: Mapping[str, Sequence[str]]) -> str | None:
    """What is kept for a clause that no rule cites; None: nothing that is known of."""
    rule_clauses = {**STANDARD_RULES, **policy["rules"]}
    beyond = rule_clauses["categories"]
    if is_below(clause, beyond):
        return f"its data are in the lists of categories and fields; what is beyond them is a finding of {beyond}"
    below = sorted(other for other in rules if is_below(other, clause))
    if below:
        parts = [other for other in below if not any(is_below(other, part) for part in below)]
        return f"a heading: decided by {', '.join(parts)}"
    if births := _births(policy).get(clause):
        return "; ".join(births)
    # Another numbering means other things by these numbers.
    if clause in STANDARD_RECORDS and rule_clauses == STANDARD_RULES:
        return STANDARD_RECORDS[clause].format(**policy)
    return None


def is_below(clause: str, other: str) -> bool:
    """Whether a clause is a part of another: 3.1(2) of 3.1, and both of 3."""
    return clause != other and re.match(re.escape(other) + r"[.(]", clause) is not None


def _cites(case: Case, clause: str, known: Mapping[str, str]) -> bool:
    return clause in case.clauses or clause == _named(case, known)


def _cites_within(case: Case, clause: str, known: Mapping[str, str]) -> bool:
    named = _named(case, known)
    return any(other == clause or is_below(other, clause) for other in (*case.clauses, *([named] if named else [])))


def _named(case: Case, known: Mapping[str, str]) -> str | None:
    """The clause that the name begins with, after the name of its file if that stands first."""
    words = [word.rstrip(":") for word in case.name.split()[:2]]
    return next((word for word in words if word in known), None)
