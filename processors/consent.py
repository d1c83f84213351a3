"""A person's consent over time: facts in, a timeline of canonical states out.

The state at a moment is reduced to what verdicts can depend on, and equal states have one number (`ConsentStates`), so
that most people share a few of them. `ConsentTimelines` holds many people's timelines as columns and answers as-of
questions for whole batches. Source of every rule: verdicts.md, "States at t". Knows no policy: what depends on one
stays in `decide.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby, pairwise
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

BANDS = ("adult", "14_17", "under_14")
# In which order the facts of one moment are taken, so that on a tie the right one has the last word: the younger band,
# a guardian's false, the withdrawal. What ends facts ends those of its own moment too, hence comes after them.
_ACTIONS = ("accept", "age", "guardian", "grant", "withdraw", "leave", "erased")


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


class ConsentState(NamedTuple):
    """What counts of a person's consent at a moment.

    `choices`: each activity's for themselves; of those that match a question, the last one answers it.
    `erased`: an erasure has completed at some time.
    """

    accepted: frozenset[int] = frozenset()
    band: str = "adult"
    guardian: bool = False
    erased: bool = False
    choices: tuple[Choice, ...] = ()

    @property
    def suppressed(self) -> bool:
        """Erased, and no acceptance since then counts."""
        return self.erased and not self.accepted


EMPTY = ConsentState()


def timeline(facts: Iterable[ConsentFact], erased_at: Sequence[int]) -> list[tuple[int, ConsentState]]:
    """The states of one person, each from its time (ms) on, in ascending order; before the first: `EMPTY`.

    Facts with one id are one fact; their order does not matter. Neighbours differ.
    """
    ordered = sorted({fact.event_id: fact for fact in facts}.values(), key=_time)
    if erased_at:
        ordered += [ConsentFact(None, time, "erased") for time in erased_at]
    if erased_at or any(one.occurred_at == other.occurred_at for one, other in pairwise(ordered)):
        ordered.sort(key=turn)
    steps: list[tuple[int, ConsentState]] = []
    before = state = EMPTY
    for fact in ordered:
        time = fact.occurred_at
        if steps and steps[-1][0] == time:
            steps.pop()
            before = steps[-1][1] if steps else EMPTY
        else:
            before = state
        state = _step(state, fact[2:])
        if state != before:
            steps.append((time, state))
    return steps


_time = attrgetter("occurred_at")


def turn(fact: ConsentFact) -> tuple[int, int, int, bool]:
    """What to sort facts by: their time (ms), then their place in its moment."""
    action = _ACTIONS.index(fact.action) if fact.action in _ACTIONS else -1
    band = BANDS.index(fact.band) if fact.band in BANDS else 0
    return fact.occurred_at, action, band, not fact.granted


# People do much the same things in much the same order, so most steps have been made before.
@lru_cache(maxsize=1 << 17)
def _step(state: ConsentState, content: tuple[Any, ...]) -> ConsentState:
    """The state after one more fact (`content`: all but its id and time) that has the last word so far."""
    fact = ConsentFact(None, 0, *content)
    match fact.action:
        case "accept" if fact.version is not None:
            return state._replace(accepted=state.accepted | {fact.version})
        case "age" if fact.band in BANDS:
            return state._replace(band=fact.band)
        case "guardian":
            return state._replace(guardian=bool(fact.granted))
        case "grant" | "withdraw":
            return state._replace(choices=_chosen(state.choices, choice_of(fact)))
        case "leave":
            return ConsentState(band=state.band, erased=state.erased)
        case "erased":
            return ConsentState(erased=True)
    return state


def choice_of(fact: ConsentFact) -> Choice:
    """The choice of a grant or a withdrawal, without what its activity does not look at."""
    return Choice(
        granted=fact.action == "grant",
        activity=fact.activity or "",
        purpose=fact.purpose,
        recipient=fact.recipient if fact.activity in ("share", "transfer") else None,
        categories=() if fact.activity == "use" else tuple(sorted(set(fact.categories))),
    )


def _chosen(choices: tuple[Choice, ...], newest: Choice) -> tuple[Choice, ...]:
    """The choices with one more, without those that it hides, in canonical order.

    A choice hides an earlier equal one. A withdrawal hides the grant of the same scope, as it answers wherever that
    grant would. The reverse does not hold: a withdrawal answers for categories above its own and without a purpose
    too, and a use withdrawal of `*` for purposes outside the policy.
    """
    hidden = {newest}
    if not newest.granted or (newest.activity == "use" and newest.purpose != "*"):
        hidden.add(newest._replace(granted=not newest.granted))
    others = [choice for choice in choices if choice.activity != newest.activity]
    same = [choice for choice in choices if choice.activity == newest.activity and choice not in hidden]
    # Between neighbours that are all grants, or all withdrawals, it does not matter which one answers.
    runs = [sorted(run, key=repr) for _, run in groupby([*same, newest], key=itemgetter(0))]
    return tuple(sorted([*others, *(choice for run in runs for choice in run)], key=itemgetter(1)))


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

    @property
    def capacity(self) -> int:
        """How many steps there is room for."""
        return len(self._times)

    def put(self, slot: int, steps: Sequence[tuple[int, int]]) -> None:
        """Sets a slot's timeline: (time in ms, state number), times ascending."""
        while slot >= len(self._start):
            self._start, self._count = _doubled(self._start), _doubled(self._count)
        self._live += len(steps) - int(self._count[slot])
        # From here on the old steps are left behind, for compaction too.
        self._count[slot] = 0
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
