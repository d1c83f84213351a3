"""What the filters of pages offer: the clauses and purposes of the policies, and what was chosen though it is none of
them. Pure."""

from __future__ import annotations

import re
from typing import Any

from audit.api.registry import Registry

_NUMBER = re.compile(r"\d+")


def clause_choices(known: Registry, chosen: str | None) -> list[tuple[str, str]]:
    """(clause, clause and heading), in the order of the policy."""
    headings = known.clauses()
    clauses = sorted({*headings, *([chosen] if chosen else [])}, key=in_order)
    return [(clause, f"{clause} {headings.get(clause, '')}".strip()) for clause in clauses]


def purpose_choices(known: Registry, chosen: str | None) -> list[tuple[str, str]]:
    """(purpose, purpose and its clause), by name."""
    rules = known.purposes()
    purposes = sorted({*rules, *([chosen] if chosen else [])})
    return [(name, f"{name} ({rules[name]['clause']})" if name in rules else name) for name in purposes]


def in_order(clause: str) -> tuple[Any, ...]:
    """By the numbers: 3.10 comes behind 3.2."""
    return tuple(map(int, (number[:9] for number in _NUMBER.findall(clause)))), clause
