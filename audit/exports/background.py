"""What stands beside a person's lineage in an export: who runs the app, the policies, the registry, the requests.

Pure. Never invents: what nobody said is None, and each export says that it is not on record.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

Record = Mapping[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Operator:
    """Who runs the app and answers for the data (the GDPR's controller), as they say themselves; None: not said.

    `country`, `storage_countries`: ISO 3166-1 alpha-2. `jurisdiction`: whose law holds. `withdrawal`: how a consent
    is withdrawn. `requests`: where a person asks for their data or for its erasure. `complaints`: the authority that
    hears complaints. `policy_url`, `policy_language` (BCP 47): of the privacy policy as people read it.
    """

    name: str | None = None
    address: str | None = None
    contact: str | None = None
    url: str | None = None
    country: str | None = None
    jurisdiction: str | None = None
    storage_countries: tuple[str, ...] = ()
    withdrawal: str | None = None
    requests: str | None = None
    complaints: str | None = None
    policy_url: str | None = None
    policy_language: str | None = None

    @classmethod
    def from_document(cls, document: Record) -> Operator:
        """From a document of schemas/exports/operator.schema.json."""
        return cls(**{**document, "storage_countries": tuple(document.get("storage_countries", ()))})


@dataclass(frozen=True)
class Background:
    """Everything an export says beyond the lineage itself.

    policies, recipients: all that was published, as `PolicyPublished` and `RecipientRegistered` records (times in ms).
    requests: the person's erasure requests as `sinks.clickhouse.erasures` gives them. exported_at, as_of: ms since
    1970, UTC; as_of None: everything.
    """

    policies: Sequence[Record] = ()
    recipients: Sequence[Record] = ()
    requests: Sequence[Record] = ()
    operator: Operator = field(default_factory=Operator)
    exported_at: int = 0
    as_of: int | None = None

    def policy_at(self, at: int) -> Record | None:
        """The policy in force at a moment (ms)."""
        known = bisect_right(self._in_force, at, key=_effective_at)
        return self._in_force[known - 1] if known else None

    def policy(self, version: int | None) -> Record | None:
        return next((policy for policy in self.policies if policy["version"] == version), None)

    def policy_of(self, event: Record) -> Record | None:
        """The policy that an event was judged by; of a consent the one in force then."""
        return self.policy(event["policy_version"]) or self.policy_at(instant(event["occurred_at"]))

    def purpose_of(self, event: Record) -> Record | None:
        """The rule of an event's purpose, in the policy that it was judged by."""
        policy = self.policy_of(event)
        rule: Record | None = None if policy is None else policy["purposes"].get(event["purpose"])
        return rule

    def entry(self, recipient: str | None, at: int) -> Record | None:
        """The registry entry of a recipient at a moment (ms); None: not registered then."""
        entries = () if recipient is None else self._entries.get(recipient, ())
        known = bisect_right(entries, at, key=_effective_at)
        return entries[known - 1] if known else None

    def newest_entry(self, recipient: str | None) -> Record | None:
        """What is known of a recipient at the end of what is shown: its newest entry by then, else its first one."""
        entries = () if recipient is None else self._entries.get(recipient, ())
        at = self.exported_at if self.as_of is None else self.as_of
        known = bisect_right(entries, at, key=_effective_at)
        return entries[max(known, 1) - 1] if entries else None

    def registered(self, at: int) -> list[Record]:
        """The entries in effect at a moment (ms), by id."""
        return [entry for name in sorted(self._entries) if (entry := self.entry(name, at)) is not None]

    def name_of(self, recipient: str) -> str:
        """What people call a recipient; its id where nobody said."""
        entry = self.newest_entry(recipient)
        return entry["name"] or recipient if entry else recipient

    @cached_property
    def _in_force(self) -> list[Record]:
        return sorted(self.policies, key=lambda policy: (policy["effective_at"], policy["version"]))

    @cached_property
    def _entries(self) -> dict[str, list[Record]]:
        found: dict[str, list[Record]] = {}
        for entry in sorted(self.recipients, key=_effective_at):
            found.setdefault(entry["id"], []).append(entry)
        return found


def _effective_at(record: Record) -> int:
    at: int = record["effective_at"]
    return at


PUBLIC = "public"
UNNAMED = "unnamed"


def receiver(event: Record) -> str:
    """Who received a disclosure: a recipient id, `public` of a publication, `unnamed` where the source named nobody."""
    return event["recipient"] or (PUBLIC if event["activity"] == "publish" else UNNAMED)


def instant(text: str) -> int:
    """Milliseconds since 1970, UTC, of a time as a lineage has it (`2026-03-01T08:00:00.000Z`)."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1)


def iso(ms: int | None) -> str | None:
    """`2026-03-01T08:00:00.000Z`; None of None."""
    if ms is None:
        return None
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def that_count(lineage: Record) -> list[Record]:
    """The events of a lineage, each once with its highest revision, by time: also of one with every revision."""
    found: dict[str, Record] = {}
    for event in lineage["events"]:
        known = found.get(event["event_id"])
        if known is None or event["revision"] >= known["revision"]:
            found[event["event_id"]] = event
    return sorted(found.values(), key=lambda event: (event["occurred_at"], event["event_id"]))
