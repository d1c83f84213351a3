"""What is known at a moment: the policy in force and the registry of recipients. Immutable; `Knowledge` grows by copy.

Both are piecewise constant: between two neighbouring *breakpoints* (a policy or an entry takes effect, a contract
begins or ends) no answer changes. The judge therefore looks a time's *epoch* up and decides once for the whole of it.
Never reads a clock, a file or a topic.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class ContradictionError(ValueError):
    """A second policy of one version, or a second entry of one recipient and moment, that says something else."""


def covers(listed: Iterable[str], category: str) -> bool:
    """Whether a list of data categories covers one: a key covers itself and every key below it, `*` covers all."""
    return any(key == "*" or category == key or category.startswith(key + ".") for key in listed)


# The clause that each rule of the decision cites; a policy document may name others under `rules`.
STANDARD_RULES: Mapping[str, str] = {
    "no_policy": "7",
    "suppressed": "5",
    "minor": "6",
    "not_accepted": "7",
    "purpose": "2",
    "categories": "1",
    "region": "4.1",
    "retention": "4.2",
    "share_consent": "3.1(1)",
    "share_authority": "3.1(2)",
    "share_affiliate": "3.1(3)",
    "share_partner": "3.1(4)",
    "share": "3.1",
    "transfer_consent": "3.2(1)",
    "transfer_successor": "3.2(2)",
    "transfer": "3.2",
    "publish_consent": "3.3(1)",
    "publish_order": "3.3(2)",
    "publish": "3.3",
}

# What may open an erasure request by itself → the rule whose clause asks for it, unless a policy document names the
# clause. Of several causes the first one counts.
ERASURE_CAUSES: Mapping[str, str] = {
    "minor": "minor",
    "merger": "transfer_successor",
    "leave": "retention",
    "withdrawal": "retention",
    "retention": "retention",
}


@dataclass(frozen=True)
class Purpose:
    """A purpose. `basis`: policy_acceptance, opt_out or explicit_consent; `retention_days` None: no limit."""

    clause: str
    basis: str
    needs: tuple[str, ...] = ()
    retention_days: int | None = None


@dataclass(frozen=True)
class ErasureCause:
    """Opens an erasure request by itself, so many days after it arose. `clause`: what asks for it."""

    clause: str
    after_days: int = 0


@dataclass(frozen=True)
class Policy:
    """One version of the policy, as far as verdicts and erasures depend on it. `effective_at`: ms since 1970, UTC.

    `erasure`: cause (a key of `ERASURE_CAUSES`) → terms; a cause that is not there opens nothing.
    """

    version: int
    effective_at: int
    purposes: Mapping[str, Purpose] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    events: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    residency: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    retention: Mapping[str, int] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)
    response_days: int = 30
    erasure: Mapping[str, ErasureCause] = field(default_factory=dict)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Policy:
        """From the fields of `PolicyPublished` (verdicts.md's names); `effective_at` in ms."""
        return cls(
            version=record["version"],
            effective_at=record["effective_at"],
            purposes={
                name: Purpose(p["clause"], p["basis"], tuple(p["needs"]), p["retention_days"])
                for name, p in record["purposes"].items()
            },
            categories=tuple(record["categories"]),
            events=dict(record["events"]),
            fields=dict(record["fields"]),
            residency={region: tuple(countries) for region, countries in record["residency"].items()},
            retention=dict(record["retention"]),
            rules=dict(record.get("rules") or {}),
            response_days=record.get("response_days") or 30,
            erasure={
                cause: ErasureCause(c.get("clause") or "", c["after_days"])
                for cause, c in (record.get("erasure") or {}).items()
            },
        )

    def clause(self, rule: str) -> str:
        """The clause that a rule cites under this policy."""
        return self.rules.get(rule) or STANDARD_RULES[rule]


@dataclass(frozen=True)
class Recipient:
    """One entry of the registry. Times: ms since 1970, UTC."""

    id: str
    kind: str
    effective_at: int
    country: str | None = None
    purposes: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    contract_from: int | None = None
    contract_until: int | None = None
    pledge: bool = False
    onward: tuple[str, ...] = ()

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Recipient:
        """From the fields of `RecipientRegistered` (verdicts.md's names); times in ms."""
        return cls(
            id=record["id"],
            kind=record["kind"],
            effective_at=record["effective_at"],
            country=record["country"],
            purposes=tuple(record["purposes"]),
            categories=tuple(record["categories"]),
            contract_from=record["contract_from"],
            contract_until=record["contract_until"],
            pledge=record["pledge"],
            onward=tuple(record["onward"]),
        )

    def contract_holds(self, at: int) -> bool:
        """Not before `contract_from` and before `contract_until`, where given; a partner must have a beginning."""
        if self.contract_from is None and self.kind == "partner":
            return False
        begun = self.contract_from is None or at >= self.contract_from
        return begun and (self.contract_until is None or at < self.contract_until)


@dataclass(frozen=True)
class View:
    """What is known throughout one epoch. `at`: a moment of it, ms."""

    at: int
    policy: Policy | None
    _entries: Mapping[str, Sequence[Recipient]]

    def recipient(self, name: str | None) -> Recipient | None:
        """The entry in effect; None for an unknown recipient or none."""
        entries = () if name is None else self._entries.get(name, ())
        known = bisect_right(entries, self.at, key=_effective_at)
        return entries[known - 1] if known else None

    def unpledged_successors(self) -> list[str]:
        """The ids of successors that have not pledged to stay bound by the policy."""
        known = (self.recipient(name) for name in self._entries)
        return sorted(entry.id for entry in known if entry and entry.kind == "successor" and not entry.pledge)

    def clause(self, rule: str) -> str:
        """The clause that a rule cites, whether or not a policy is in force."""
        return STANDARD_RULES[rule] if self.policy is None else self.policy.clause(rule)


_effective_at = attrgetter("effective_at")


class Knowledge:
    """All policies and registry entries published so far. Raises `ContradictionError` if two of them disagree."""

    def __init__(self, policies: Iterable[Policy], recipients: Iterable[Recipient]) -> None:
        self.policies: dict[int, Policy] = {}
        self.recipients: dict[tuple[str, int], Recipient] = {}
        for policy in policies:
            known = self.policies.setdefault(policy.version, policy)
            if known != policy:
                raise ContradictionError(f"policy version {policy.version} was published with other content")
        for recipient in recipients:
            entry = self.recipients.setdefault((recipient.id, recipient.effective_at), recipient)
            if entry != recipient:
                raise ContradictionError(f"recipient {recipient.id}: another entry has the same effective_at")
        moments = {p.effective_at for p in self.policies.values()}
        for entry in self.recipients.values():
            moments.update(t for t in (entry.effective_at, entry.contract_from, entry.contract_until) if t is not None)
        self._breakpoints = sorted(moments)
        self.breakpoints: Ints = np.array(self._breakpoints, np.int64)
        self._in_force = sorted(self.policies.values(), key=lambda policy: (policy.effective_at, policy.version))
        self._entries: dict[str, list[Recipient]] = {}
        for entry in sorted(self.recipients.values(), key=_effective_at):
            self._entries.setdefault(entry.id, []).append(entry)

    def with_more(self, policies: Iterable[Policy], recipients: Iterable[Recipient]) -> Knowledge:
        """A knowledge that has these as well; itself when it had them all. Raises `ContradictionError`."""
        more = Knowledge([*self.policies.values(), *policies], [*self.recipients.values(), *recipients])
        return self if (more.policies, more.recipients) == (self.policies, self.recipients) else more

    def epochs(self, times: Ints) -> Ints:
        """The epoch of each time (ms): how many breakpoints are not after it."""
        return np.searchsorted(self.breakpoints, times, side="right")

    def epoch(self, time: int) -> int:
        return bisect_right(self._breakpoints, time)

    def view(self, epoch: int) -> View:
        """What is known in an epoch."""
        at = self._breakpoints[epoch - 1] if epoch else -(2**63)
        effective = bisect_right(self._in_force, at, key=_effective_at)
        return View(at, self._in_force[effective - 1] if effective else None, self._entries)
