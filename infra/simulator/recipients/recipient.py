"""One simulated recipient, whatever protocol it speaks: takes commands, does them in its own time, or misbehaves.

Runs on one event loop. Protocols ask `ask`, `state_of` and `cancel`, and hear of every change through `on_change`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from infra.simulator.recipients.profiles import Fate, Profile
from infra.simulator.recipients.register import Entry, Register
from processors.erasure_commands import Identity

Outcome = Literal[
    "accepted", "repeated", "refused", "exempt", "unsupported", "error_500", "error_503", "error_429", "redirect"
]
REFUSAL = "the simulated recipient does not do this"
GROUND = "simulated retention law, article 9"
# In this order: of several that chance would show at once, the first.
_ERRORS: tuple[Outcome, ...] = ("error_500", "error_503", "error_429", "redirect")
_TAKEN = ("accepted", "repeated")


@dataclass(frozen=True)
class Asked:
    """What came of a dispatch. `drop`: the sender is not to learn of it. `turn`: which dispatch of this key it was."""

    outcome: Outcome
    entry: Entry
    drop: bool
    turn: int

    @property
    def taken(self) -> bool:
        return self.outcome in _TAKEN


class Recipient:
    """`exempt_at_once`: the protocol has a word for an exemption only in the answer to a dispatch.

    `on_change(entry, status)` is called, on the loop, when a command reaches `in_progress`, `completed`, `exempt` or
    `cancelled`.
    """

    def __init__(
        self,
        name: str,
        protocol: str,
        profile: Profile,
        seed: int,
        register: Register,
        exempt_at_once: bool,
    ) -> None:
        self.name = name
        self.protocol = protocol
        self.profile = profile
        self.fate = Fate(seed, name)
        self._turns: Counter[tuple[str, str]] = Counter()
        self.on_change: Callable[[Entry, str], None] = lambda entry, status: None
        self._register = register
        self._exempt_at_once = exempt_at_once

    def resume(self) -> None:
        """Goes on with what was taken before a restart."""
        for entry in self.entries():
            self._schedule(entry)

    def entries(self) -> list[Entry]:
        """Every command it has seen."""
        return list(self._register.entries.get(self.name, {}).values())

    def ask(
        self,
        key: str,
        identities: Sequence[Identity],
        callback_urls: Sequence[str] = (),
        attempt: int | None = None,
        context: Mapping[str, str] | None = None,
    ) -> Asked:
        """One dispatch of a command. `key`: its idempotency key. `context`: what the protocol needs later to answer;
        no identifiers."""
        known = self._register.entry(self.name, key)
        turn = len(known.outcomes) if known else 0
        outcome = self._outcome(key, turn, known, identities)
        ground = GROUND if outcome == "exempt" else REFUSAL if outcome == "refused" else ""
        self._register.asked(self.name, key, now_ms(), outcome, identities, attempt, ground)
        if outcome not in _TAKEN:
            self._register.show(self.name, "refuse" if outcome == "refused" else outcome)
        if outcome == "accepted":
            self._accept(key, callback_urls, context or {})
        entry = self._register.entries[self.name][key]
        drop = outcome in _TAKEN and self.shows("drop", key, turn)
        return Asked(outcome, entry, drop, turn)

    def lives(self, key: str) -> int:
        """How often a command has been taken as new."""
        entry = self._register.entry(self.name, key)
        return entry.lives if entry else 0

    def state_of(self, key: str) -> Entry | None:
        """The command as the recipient knows it; None: it knows none of that key."""
        entry = self._register.entry(self.name, key)
        return entry if entry and entry.lives and not entry.forgotten else None

    def cancel(self, key: str) -> bool:
        """Whether a command could still be cancelled."""
        entry = self.state_of(key)
        if entry is None or entry.state != "pending":
            return False
        self._do(entry, "cancel")
        return True

    def error(self, *about: object) -> Outcome | None:
        """The error that a request which is no dispatch meets, if any; counted."""
        found = next((error for error in _ERRORS if self.fate.shows(self.profile, error, *about)), None)
        if found:
            self._register.show(self.name, found)
        return found

    def turn(self, what: str, key: str) -> int:
        """Which one of its kind a request is, from 0, since the simulator started."""
        self._turns[what, key] += 1
        return self._turns[what, key] - 1

    def shows(self, misbehaviour: str, *about: object) -> bool:
        """Whether a misbehaviour shows now; counted if it does."""
        showing = self.fate.shows(self.profile, misbehaviour, *about)
        if showing:
            self._register.show(self.name, misbehaviour)
        return showing

    def note(self, what: str) -> None:
        """Count something of note that the other side did."""
        self._register.show(self.name, what)

    def told(self, key: str, status: str, result: str) -> None:
        """Note what came of a callback or receipt."""
        self._register.told(self.name, key, now_ms(), status, result)

    def _outcome(self, key: str, turn: int, known: Entry | None, identities: Sequence[Identity]) -> Outcome:
        for error in _ERRORS:
            if self.fate.shows(self.profile, error, key, turn):
                return error
        if known and known.lives and not known.forgotten:
            return "repeated"
        if not any(identity["identity_type"] in self.profile.identities for identity in identities):
            return "unsupported"
        if self.fate.shows(self.profile, "refuse", key):
            return "refused"
        if self._exempt_at_once and self.fate.shows(self.profile, "exempt", key):
            return "exempt"
        return "accepted"

    def _accept(self, key: str, callback_urls: Sequence[str], context: Mapping[str, str]) -> None:
        known = self._register.entry(self.name, key)
        life = known.lives if known else 0
        profile, about = self.profile, (key, life)
        at = now_ms()

        def later(bounds: tuple[float, float], what: str) -> int:
            return at + round(1000 * self.fate.between(bounds, what, *about))

        steps = [(later(profile.start_s, "start"), "start")]
        exempt = not self._exempt_at_once and self.fate.shows(profile, "exempt", *about)
        if exempt:
            steps.append((later(profile.complete_s, "complete"), "exempt"))
            context = {**context, "ground": GROUND}
        elif not self.shows("never", *about):
            late = self.shows("late", *about)
            steps.append((later(profile.late_s if late else profile.complete_s, "complete"), "complete"))
        if self.shows("forget", *about):
            steps.append((later(profile.forget_s, "forget"), "forget"))
        keeps = not exempt and self.shows("keep", *about)
        self._register.accepted(self.name, key, at, sorted(steps), keeps, callback_urls, context)
        self._schedule(self._register.entries[self.name][key])

    def _schedule(self, entry: Entry) -> None:
        loop = asyncio.get_running_loop()
        for due, step in entry.steps:
            loop.call_later(max(0.0, (due - now_ms()) / 1000), self._do_planned, entry, due, step)

    def _do_planned(self, entry: Entry, due: int, step: str) -> None:
        # What was cancelled or forgotten since is not planned any more.
        if (due, step) in entry.steps:
            self._do(entry, step)

    def _do(self, entry: Entry, step: str) -> None:
        self._register.step(self.name, entry.key, now_ms(), step)
        if step != "forget":
            self.on_change(entry, entry.state)


def now_ms() -> int:
    return time.time_ns() // 1_000_000
