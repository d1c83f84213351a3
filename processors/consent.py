"""A person's consent over time: facts in, a timeline of canonical states out.

The state at a moment is reduced to what verdicts can depend on, and equal states are one object with one number
(`ConsentStates`), so that most people share a few of them. `ConsentTimelines` holds many people's timelines as columns
and answers as-of questions for whole batches. Source of every rule: verdicts.md, "States at t".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

# On a tie the younger band counts.
BANDS = ("under_14", "14_17", "adult")


class ConsentFact(NamedTuple):
    """One ConsentChanged. `event_id`: bytes or text; `occurred_at`: ms; the rest as in verdicts.md, "Consent"."""

    event_id: Any
    occurred_at: int
    action: str
    version: int | None = None
    band: str | None = None
    granted: bool | None = None
    activity: str | None = None
    purpose: str | None = None
    recipient: str | None = None
    categories: tuple[str, ...] = ()


class Choice(NamedTuple):
    """A grant or a withdrawal that still counts. `purpose`, `recipient` may be `*`; categories may hold `*`."""

    granted: bool
    activity: str
    purpose: str | None
    recipient: str | None
    categories: tuple[str, ...]


@dataclass(frozen=True)
class ConsentState:
    """What counts of a person's consent at a moment. `choices` in order of time, withdrawals after grants on a tie:
    of those that match a question, the last one answers it."""

    accepted: frozenset[int] = frozenset()
    band: str = "adult"
    guardian: bool = False
    suppressed: bool = False
    choices: tuple[Choice, ...] = ()


EMPTY = ConsentState()


def timeline(facts: Iterable[ConsentFact], erased_at: Sequence[int]) -> list[tuple[int, ConsentState]]:
    """The states of one person, each from its time (ms) on, in ascending order; before the first: `EMPTY`.

    Facts with one id are one fact; their order does not matter.
    """
    by_time: dict[int, list[ConsentFact]] = {time: [] for time in erased_at}
    for fact in {fact.event_id: fact for fact in facts}.values():
        by_time.setdefault(fact.occurred_at, []).append(fact)
    erasures = set(erased_at)
    steps: list[tuple[int, ConsentState]] = []
    last, running = EMPTY, _Running()
    for time in sorted(by_time):
        running.take(time, by_time[time])
        # What ends facts ends those of its own moment too, hence after them.
        if any(fact.action == "leave" for fact in by_time[time]):
            running.leave()
        if time in erasures:
            running.erase()
        state = running.state()
        if state != last:
            steps.append((time, state))
            last = state
    return steps


class _Running:
    """The facts that count, moment by moment."""

    def __init__(self) -> None:
        self._band = "adult"
        self._erased = False
        self._accepted: frozenset[int] = frozenset()
        self._guardian = False
        self._choices: dict[Choice, int] = {}

    def take(self, time: int, facts: list[ConsentFact]) -> None:
        """Takes all facts of one moment; no moment may be earlier than the one before."""
        bands = []
        guardians = []
        for fact in facts:
            match fact.action:
                case "accept" if fact.version is not None:
                    self._accepted = self._accepted | {fact.version}
                case "age" if fact.band in BANDS:
                    bands.append(BANDS.index(fact.band))
                case "guardian":
                    guardians.append(bool(fact.granted))
                case "grant" | "withdraw":
                    granted = fact.action == "grant"
                    categories = tuple(sorted(set(fact.categories)))
                    choice = Choice(granted, fact.activity or "", fact.purpose, fact.recipient, categories)
                    self._choices[choice] = time
        if bands:
            self._band = BANDS[min(bands)]
        if guardians:
            self._guardian = all(guardians)

    def leave(self) -> None:
        """Ends all but the age."""
        self._accepted = frozenset()
        self._guardian = False
        self._choices = {}

    def erase(self) -> None:
        """Ends all, and suppresses until an acceptance that nothing has ended."""
        self.leave()
        self._band = "adult"
        self._erased = True

    def state(self) -> ConsentState:
        suppressed = self._erased and not self._accepted
        return ConsentState(self._accepted, self._band, self._guardian, suppressed, _in_order(self._choices))


def _in_order(choices: dict[Choice, int]) -> tuple[Choice, ...]:
    """Choices by time, withdrawals after grants on a tie; without grants that a later withdrawal hides.

    A withdrawal answers all that a grant of the same scope would. The reverse does not hold: it answers for categories
    above its own too.
    """
    if not choices:
        return ()
    never = -(2**63)
    kept = [
        (
            time,
            not choice.granted,
            choice.activity,
            choice.purpose or "",
            choice.recipient or "",
            choice.categories,
            choice,
        )
        for choice, time in choices.items()
        if not (choice.granted and choices.get(choice._replace(granted=False), never) >= time)
    ]
    return tuple(row[-1] for row in sorted(kept, key=_all_but_choice))


def _all_but_choice(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row[:-1]


class ConsentStates:
    """Consent states by number; `EMPTY` is 0."""

    def __init__(self) -> None:
        self._numbers: dict[ConsentState, int] = {EMPTY: 0}
        self.states: list[ConsentState] = [EMPTY]

    def __len__(self) -> int:
        return len(self.states)

    def intern(self, state: ConsentState) -> int:
        number = self._numbers.get(state)
        if number is None:
            number = self._numbers[state] = len(self.states)
            self.states.append(state)
        return number


class ConsentTimelines:
    """Timelines of many people by slot (a dense number), for as-of questions about whole batches.

    All steps lie in one pool; a slot's are neighbours in it. A changed timeline is appended and the old one left
    behind, until half of the pool is left behind.
    """

    def __init__(self) -> None:
        self._times = np.zeros(1024, np.int64)
        self._states = np.zeros(1024, np.int32)
        self._used = 0
        self._live = 0
        self._start = np.zeros(1024, np.int64)
        self._count = np.zeros(1024, np.int64)

    def put(self, slot: int, steps: Sequence[tuple[int, int]]) -> None:
        """Sets a slot's timeline: (time in ms, state number), times ascending."""
        while slot >= len(self._start):
            self._start, self._count = _doubled(self._start), _doubled(self._count)
        self._live += len(steps) - int(self._count[slot])
        while self._used + len(steps) > len(self._times):
            if 2 * self._live < self._used:
                self._compact()
            else:
                self._times, self._states = _doubled(self._times), _doubled(self._states)
        at = self._used
        self._used += len(steps)
        self._start[slot], self._count[slot] = at, len(steps)
        for i, (time, state) in enumerate(steps, start=at):
            self._times[i], self._states[i] = time, state

    def as_of(self, slots: Ints, times: Ints) -> npt.NDArray[np.int32]:
        """The number of the state of each slot at each time (ms). Slots never put have `EMPTY`."""
        known = slots < len(self._start)
        at = np.where(known, slots, 0)
        low = self._start[at]
        count = np.where(known, self._count[at], 0)
        # A binary search in all segments at once: as many rounds as the longest one needs. The answer is the number
        # of steps that are not after the time.
        found = np.zeros(len(slots), np.int64)
        step = 1 << int(count.max(initial=0)).bit_length()
        while step := step >> 1:
            probe = found + step
            fits = probe <= count
            index = np.where(fits, low + probe - 1, 0)
            found = np.where(fits & (self._times[index] <= times), probe, found)
        states = self._states[np.where(found > 0, low + found - 1, 0)]
        return np.where(found > 0, states, np.int32(0)).astype(np.int32, copy=False)

    def _compact(self) -> None:
        slots = np.flatnonzero(self._count)
        counts = self._count[slots]
        starts = np.cumsum(counts) - counts
        index = np.repeat(self._start[slots] - starts, counts) + np.arange(int(counts.sum()))
        times, states = self._times[index], self._states[index]
        self._times[: len(index)], self._states[: len(index)] = times, states
        self._start[slots] = starts
        self._used = len(index)


def _doubled(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.concatenate([array, np.zeros(len(array), array.dtype)])
