"""What was published, as the answers show it: recipients, purposes and clauses by their names. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audit.api.services import Published, Record
from audit.exports.background import iso

_TIMES = ("effective_at", "contract_from", "contract_until")
_PLAIN = ("id", "kind", "name", "contact", "country", "purposes", "categories", "pledge", "onward")


class Registry:
    """Lookups in what was published. `newest`: what takes effect last, also when that is still to come."""

    def __init__(self, published: Published) -> None:
        self._entries: dict[str, list[Record]] = {}
        for entry in sorted(published.recipients, key=lambda entry: entry["effective_at"]):
            self._entries.setdefault(entry["id"], []).append(entry)
        self._policies = sorted(published.policies, key=lambda policy: (policy["effective_at"], policy["version"]))

    def recipients(self) -> set[str]:
        return set(self._entries)

    def entries(self, recipient: str) -> list[dict[str, Any]]:
        """All entries of a recipient by time, ready for JSON."""
        return [entry_for_json(entry) for entry in self._entries.get(recipient, ())]

    def newest(self, recipient: str) -> Record | None:
        return self._entries[recipient][-1] if recipient in self._entries else None

    def told(self, recipient: str) -> dict[str, Any]:
        """What a list says of a recipient: its `id`, whether it is `registered`, and from its newest entry the `name`,
        `kind`, `contact` and `country`; None: not stated."""
        entry = self.newest(recipient) or {}
        stated = {key: entry.get(key) or None for key in ("name", "kind", "contact", "country")}
        return {"id": recipient, "registered": bool(entry), **stated}

    def purposes(self) -> dict[str, Record]:
        """Purpose → its rule in the newest policy that has it."""
        return {name: rule for policy in self._policies for name, rule in policy["purposes"].items()}

    def clauses(self) -> dict[str, str]:
        """Clause → its heading in the newest policy that has it."""
        return {name: heading for policy in self._policies for name, heading in policy["clauses"].items()}


def entry_for_json(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A registry entry; times in ISO 8601."""
    shown = {name: list(entry[name]) if isinstance(entry[name], list | tuple) else entry[name] for name in _PLAIN}
    return shown | {name: iso(entry[name]) for name in _TIMES}
