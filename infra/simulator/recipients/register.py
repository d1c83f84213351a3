"""What simulated recipients were asked and what they truly did: a register for tests to compare claims with.

Every change is one line of a journal, appended before it counts, and the register is rebuilt from it. Identifiers are
never in it, only keyed hashes of them.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson

from processors.erasure_commands import Identity

# States of a command. `unknown`: asked, never taken. The last four are final.
FINAL = frozenset({"completed", "refused", "exempt", "cancelled"})
_STATES = {"start": "in_progress", "complete": "completed", "exempt": "exempt", "cancel": "cancelled"}


@dataclass
class Entry:
    """One command at one recipient. Times in ms since 1970, UTC.

    `outcomes`: what came of each dispatch, in order (`accepted`, `repeated`, `refused`, or a misbehaviour). `lives`:
    how often it was taken as new; more than once only after it was forgotten. `steps`: what is still to be done, when.
    """

    key: str
    first_seen: int = 0
    last_seen: int = 0
    outcomes: list[str] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)
    identifiers: list[str] = field(default_factory=list)
    identity_types: list[str] = field(default_factory=list)
    state: str = "unknown"
    ground: str = ""
    lives: int = 0
    accepted_at: int | None = None
    completed_at: int | None = None
    deleted_at: int | None = None
    forgotten: bool = False
    keeps: bool = False
    steps: list[tuple[int, str]] = field(default_factory=list)
    callback_urls: list[str] = field(default_factory=list)
    context: dict[str, str] = field(default_factory=dict)
    callbacks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def due(self) -> int | None:
        """When it means to be done; None: never, or done."""
        return next((at for at, step in self.steps if step in ("complete", "exempt")), None)

    def truth(self) -> dict[str, Any]:
        """As `GET /control/truth` tells it."""
        return {
            "idempotency_key": self.key,
            "first_seen": self.first_seen,
            "last_seen": self.last_seen,
            "times_seen": len(self.outcomes),
            "outcomes": self.outcomes,
            "attempts": self.attempts,
            "identifiers": self.identifiers,
            "identity_types": self.identity_types,
            "state": self.state,
            "ground": self.ground,
            "times_taken": self.lives,
            "accepted_at": self.accepted_at,
            "completed_at": self.completed_at,
            "deleted_at": self.deleted_at,
            "forgotten": self.forgotten,
            "keeps_data": self.keeps,
            "callbacks": self.callbacks,
        }


class Register:
    """Every recipient's commands, in a folder: `journal.jsonl`, and `salt` for the hashes of identifiers."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        salt = folder / "salt"
        if not salt.exists():
            # Tokens are made of it as well: nobody else reads it.
            with open(os.open(salt, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(os.urandom(32))
        self._salt = salt.read_bytes()
        self.entries: dict[str, dict[str, Entry]] = {}
        self.shown: dict[str, Counter[str]] = {}
        path = folder / "journal.jsonl"
        if path.exists():
            whole = path.read_bytes()
            # A line that a kill cut short never counted.
            for line in whole[: whole.rfind(b"\n") + 1].splitlines():
                self._apply(orjson.loads(line))
            os.truncate(path, whole.rfind(b"\n") + 1)
        self._journal: IO[bytes] = path.open("ab", buffering=0)

    def close(self) -> None:
        self._journal.close()

    def hashes(self, identities: Iterable[Identity]) -> list[str]:
        """Each identifier as the register knows it: 32 hex digits, sorted."""
        plain = {f"{i['identity_type']}\x1f{i['identity_format']}\x1f{i['identity_value']}" for i in identities}
        return sorted(hashlib.blake2b(one.encode(), key=self._salt, digest_size=16).hexdigest() for one in plain)

    def token(self, recipient: str) -> str:
        """What the recipient's clients must show it: always the same for one folder."""
        return hashlib.blake2b(f"token {recipient}".encode(), key=self._salt, digest_size=20).hexdigest()

    def entry(self, recipient: str, key: str) -> Entry | None:
        return self.entries.get(recipient, {}).get(key)

    def asked(
        self,
        recipient: str,
        key: str,
        at: int,
        outcome: str,
        identities: Sequence[Identity],
        attempt: int | None = None,
        ground: str = "",
    ) -> None:
        """One dispatch, and what came of it."""
        self._write(
            recipient,
            "asked",
            key=key,
            at=at,
            outcome=outcome,
            identifiers=self.hashes(identities),
            types=sorted({identity["identity_type"] for identity in identities}),
            attempt=attempt,
            ground=ground,
        )

    def accepted(
        self,
        recipient: str,
        key: str,
        at: int,
        steps: Sequence[tuple[int, str]],
        keeps: bool,
        callback_urls: Sequence[str],
        context: Mapping[str, str],
    ) -> None:
        """A command taken as new, with what will be done when."""
        self._write(
            recipient,
            "accepted",
            key=key,
            at=at,
            steps=list(steps),
            keeps=keeps,
            callback_urls=list(callback_urls),
            context=dict(context),
        )

    def step(self, recipient: str, key: str, at: int, step: str) -> None:
        """`start`, `complete`, `exempt`, `forget` or `cancel` has been done."""
        self._write(recipient, "step", key=key, at=at, step=step)

    def told(self, recipient: str, key: str, at: int, status: str, result: str) -> None:
        """A callback or receipt: `status` and what came of it (`delivered`, `lost`, `failed`)."""
        self._write(recipient, "told", key=key, at=at, status=status, result=result)

    def show(self, recipient: str, what: str) -> None:
        """Count a misbehaviour, or something of note that somebody did, as it shows."""
        self._write(recipient, "shown", what=what)

    def truth(self, recipients: Iterable[str]) -> dict[str, Any]:
        """recipient → `commands` (list, in the order they came first) and `shown` (count by what)."""
        return {
            recipient: {
                "commands": [entry.truth() for entry in self.entries.get(recipient, {}).values()],
                "shown": dict(self.shown.get(recipient, {})),
            }
            for recipient in recipients
        }

    def _write(self, recipient: str, event: str, **values: Any) -> None:
        line = {"recipient": recipient, "event": event, **values}
        self._journal.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        self._apply(line)

    def _apply(self, line: Mapping[str, Any]) -> None:
        if line["event"] == "shown":
            self.shown.setdefault(line["recipient"], Counter())[line["what"]] += 1
            return
        entry = self.entries.setdefault(line["recipient"], {}).setdefault(line["key"], Entry(line["key"]))
        at: int = line["at"]
        match line["event"]:
            case "asked":
                _apply_asked(entry, line)
            case "accepted":
                entry.state, entry.accepted_at, entry.forgotten = "pending", at, False
                entry.lives += 1
                entry.keeps = line["keeps"]
                entry.steps = [(due, step) for due, step in line["steps"]]
                entry.callback_urls, entry.context = line["callback_urls"], line["context"]
            case "step":
                _apply_step(entry, line["step"], at)
            case "told":
                entry.callbacks.append({"status": line["status"], "result": line["result"], "at": at})


def _apply_asked(entry: Entry, line: Mapping[str, Any]) -> None:
    entry.first_seen = entry.first_seen or line["at"]
    entry.last_seen = line["at"]
    entry.outcomes.append(line["outcome"])
    if line["attempt"] is not None:
        entry.attempts.append(line["attempt"])
    entry.identifiers = sorted({*entry.identifiers, *line["identifiers"]})
    entry.identity_types = sorted({*entry.identity_types, *line["types"]})
    if line["outcome"] in ("refused", "exempt"):
        entry.state, entry.ground = line["outcome"], line["ground"]


def _apply_step(entry: Entry, step: str, at: int) -> None:
    entry.steps = [planned for planned in entry.steps if planned[1] != step]
    if step == "forget":
        # What was not done by now never will be.
        entry.forgotten, entry.steps = True, []
        if entry.state not in FINAL:
            entry.state = "forgotten"
        return
    entry.state = _STATES[step]
    if step in ("cancel", "complete", "exempt"):
        entry.steps = [planned for planned in entry.steps if planned[1] == "forget"]
    if step == "complete":
        entry.completed_at = at
        if not entry.keeps:
            entry.deleted_at = at
    if step == "exempt":
        entry.ground = entry.context.get("ground", "")
