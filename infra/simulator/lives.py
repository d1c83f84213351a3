"""People and their lives: when each joins, accepts, opts out, leaves; and the consent facts that this makes.

Everything is drawn at once, in arrays of one entry a person (`int64` milliseconds since 1970 UTC, `NEVER` for what
does not happen), so that a day can ask for many events at once what a well-behaved app would still do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.simulator.catalogue import Catalogue

Times = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

NEVER = np.int64(2**62)
DAY = 86_400_000
HOUR = 3_600_000
MINUTE = 60_000

_REGIONS = ("CN", "SG", "US", "DE")
_SURNAMES = ("wang", "li", "zhang", "liu", "chen", "yang", "huang", "zhao", "wu", "zhou", "xu", "sun")
_GIVEN = ("wei", "fang", "min", "jing", "lei", "yan", "tao", "ming", "xin", "jie", "na", "hui", "lan", "bo")


@dataclass(frozen=True)
class Facts:
    """Consent facts in the order of their time: when, whose, and which of `forms` (a consent event's own keys)."""

    at: Times
    person: Indices
    form: Indices
    forms: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Lives:
    """What happens in each person's life. `grants` has for each activity the people who granted it, with the
    time and the grant."""

    joined: Times
    left: Times
    returned: Times
    accepted: Sequence[Times]
    """One array for each policy version: when the person's acceptance of it begins to stand."""
    opted_out: Mapping[str, tuple[Times, Times]]
    """Purpose with basis `opt_out`: from when, and until when the person's withdrawal stands."""
    granted: Mapping[str, Times]
    """Purpose with basis `explicit_consent`: from when the person's grant stands."""
    partners_refused: Times
    """From when the person has refused all sharing with partners."""
    grants: Mapping[str, Sequence[tuple[int, int, Mapping[str, Any]]]]
    pace: npt.NDArray[np.float64]
    """Share of all activity that is this person's, times the number of people: heavy-tailed, mean 1."""
    region: Sequence[str]
    ios: Mask
    careless: Mask
    """Whether the person's app is an old version that heeds no choice of theirs."""
    names: Sequence[str]
    facts: Facts

    def present(self, person: Indices, at: Times) -> Mask:
        """Whether the person uses the app at that moment."""
        gone = (at >= self.left[person]) & (at < self.returned[person])
        return (at >= self.joined[person]) & ~gone

    def may_collect(self, person: Indices, at: Times, policy: int) -> Mask:
        """Whether the person, present, has accepted the policy version of that index."""
        return self.present(person, at) & (at >= self.accepted[policy][person])

    def may_use(self, purpose: str, person: Indices, at: Times) -> Mask:
        """Whether the person's own choice leaves this purpose open."""
        if purpose in self.opted_out:
            begin, end = self.opted_out[purpose]
            return (at < begin[person]) | (at >= end[person])
        if purpose in self.granted:
            return (at >= self.granted[purpose][person]) & (at < self.left[person])
        return np.ones(len(person), dtype=bool)

    def identities(self, person: int) -> list[dict[str, str]]:
        """The identifiers that an app reports of the person, in OpenDSR's words; none of them is anyone's."""
        # The user id is random already, so that its digits serve as the source of all others.
        digits = self.names[person][2:]
        seed = int(digits, 16)
        name = f"{_GIVEN[seed % len(_GIVEN)]}.{_SURNAMES[seed // 16 % len(_SURNAMES)]}{seed % 9973}"
        spread = f"{seed * 0x9E3779B97F4A7C15 % 2**64:016x}{seed * 0xC2B2AE3D27D4EB4F % 2**64:016x}"
        long = f"{spread[:8]}-{spread[8:12]}-4{spread[13:16]}-a{spread[17:20]}-{spread[20:]}"
        found = [("email", f"{name}@example.com")] if seed % 10 < 8 else []
        if self.ios[person]:
            found += [("ios_vendor_id", long.upper()), ("ios_advertising_id", long[::-1].upper())]
        else:
            found += [("android_id", spread[:16]), ("android_advertising_id", long)]
        return [{"identity_type": kind, "identity_format": "raw", "identity_value": value} for kind, value in found]


class _Diary:
    """Collects facts in whatever order they are drawn."""

    def __init__(self) -> None:
        self._parts: list[tuple[Times, Indices, Indices]] = []
        self.forms: list[Mapping[str, Any]] = []

    def write(self, at: Times, person: Indices, form: Mapping[str, Any]) -> None:
        """One fact of this form for each person whose time is not `NEVER`."""
        some = at < NEVER
        self.forms.append(form)
        number = np.full(int(some.sum()), len(self.forms) - 1, dtype=np.int64)
        self._parts.append((at[some], person[some], number))

    def facts(self, left: Times, returned: Times, until: int) -> Facts:
        """The facts up to `until`; a person who has left says nothing until their return."""
        at, person, form = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        away = (at > left[person]) & (at < returned[person])
        order = np.argsort(at, kind="stable")
        order = order[((at < until) & ~away)[order]]
        return Facts(at[order], person[order], form[order], self.forms)


def draw_lives(rng: np.random.Generator, people: int, start: int, end: int, catalogue: Catalogue) -> Lives:
    """Draw the lives of `people` persons between two moments (ms), under the catalogue's policies."""
    everyone = np.arange(people, dtype=np.int64)
    length = end - start
    diary = _Diary()

    def some(share: float) -> Mask:
        return rng.random(people) < share

    def later(than: Times, mean: float, which: Mask) -> Times:
        """A moment after `than`, exponentially distributed, for some; `NEVER` for the others."""
        at = than + rng.exponential(mean, people).astype(np.int64)
        return np.where(which & (than < NEVER), at, NEVER)

    # Half use the app already and show up within two weeks; the others come as time goes on.
    first = rng.exponential(4 * DAY, people) * some(0.5)
    joined = start + np.where(first > 0, first, rng.random(people) * length).astype(np.int64)
    joined = np.minimum(joined, end - HOUR)
    left = later(joined, length, some(0.12))
    returned = later(left, 20 * DAY, some(0.4))

    accepted = _accept(rng, diary, joined, left, returned, start, catalogue)

    band = np.searchsorted(np.cumsum([0.88, 0.07, 0.035]), rng.random(people))
    stated = joined + rng.integers(1_000, MINUTE, people)
    for number, name in enumerate(("adult", "14_17", "under_14"), start=1):
        diary.write(np.where(band == number, stated, NEVER), everyone, {"action": "age", "band": name})
    asked = (band >= 2) & some(0.9)
    guarded = np.where(some(0.93), joined, joined + rng.integers(DAY, 20 * DAY, people))
    guarded = np.where(asked, guarded, NEVER)
    diary.write(guarded, everyone, {"action": "guardian", "granted": True})
    # Guardians of those who come back are asked again: leaving ended their consent.
    diary.write(np.where(asked, returned, NEVER), everyone, {"action": "guardian", "granted": True})
    revoked = later(guarded, 60 * DAY, some(0.03))
    diary.write(revoked, everyone, {"action": "guardian", "granted": False})

    opted_out = {}
    for purpose in catalogue.opt_outs:
        begin = later(joined, 45 * DAY, some(0.14))
        until = later(begin, 30 * DAY, some(0.25))
        diary.write(begin, everyone, _use("withdraw", purpose))
        diary.write(until, everyone, _use("grant", purpose))
        opted_out[purpose] = (begin, until)
    granted = {}
    for purpose, effective_at in catalogue.explicit.items():
        begin = later(np.maximum(joined, effective_at), 10 * DAY, some(0.3))
        diary.write(begin, everyone, _use("grant", purpose))
        granted[purpose] = begin
    foreign = later(joined, 40 * DAY, some(0.02))
    diary.write(foreign, everyone, _use("grant", catalogue.foreign_purpose))

    refused = later(joined, 60 * DAY, some(0.03))
    no_partners = {"action": "withdraw", "activity": "share", "purpose": "*", "recipient": "kind:partner"}
    diary.write(refused, everyone, no_partners | {"categories": ["*"]})
    diary.write(left, everyone, {"action": "leave"})
    grants: dict[str, list[tuple[int, int, Mapping[str, Any]]]] = {"share": [], "transfer": [], "publish": []}
    for form, share in catalogue.grants:
        at = later(joined, 30 * DAY, some(share))
        at[at >= left] = NEVER
        diary.write(at, everyone, form)
        who = np.flatnonzero(at < end)
        grants[form["activity"]] += [
            (person, moment, form) for person, moment in zip(who.tolist(), at[who].tolist(), strict=True)
        ]

    pace = rng.lognormal(0.0, 1.1, people)
    tokens = rng.bytes(5 * people).hex()
    return Lives(
        joined,
        left,
        returned,
        accepted,
        opted_out,
        granted,
        refused,
        grants,
        pace / pace.mean(),
        [_REGIONS[index] for index in np.searchsorted([0.96, 0.98, 0.99], rng.random(people)).tolist()],
        some(0.35),
        some(0.015),
        [f"u-{tokens[at : at + 10]}" for at in range(0, 10 * people, 10)],
        diary.facts(left, returned, end),
    )


def _accept(
    rng: np.random.Generator,
    diary: _Diary,
    joined: Times,
    left: Times,
    returned: Times,
    start: int,
    catalogue: Catalogue,
) -> list[Times]:
    """On first use the version in force; each amendment early, at once, late or never; on return, anew."""
    people = len(joined)
    everyone = np.arange(people, dtype=np.int64)
    tapped = joined + rng.integers(4_000, MINUTE, people)
    # A few dismiss the pop-up and go on.
    tapped = np.where(rng.random(people) < 0.012, NEVER, tapped)
    accepted = []
    for policy, begin in enumerate(catalogue.effective):
        end = catalogue.effective[policy + 1] if policy + 1 < len(catalogue.effective) else int(NEVER)
        at = np.where((tapped >= begin) & (tapped < end), tapped, NEVER)
        if begin > start:
            choice = rng.random(people)
            delay = rng.exponential(1.5 * DAY, people) + 9 * DAY * (choice > 0.82) * rng.exponential(1.0, people)
            early = rng.random(people) * 5 * DAY
            moment = begin + np.where(choice < 0.08, -early, delay).astype(np.int64)
            moment = np.where(choice > 0.95, NEVER, np.maximum(moment, tapped + MINUTE))
            at = np.where(joined < begin, moment, at)
        back = np.where((returned >= begin) & (returned < end), returned + 20_000, NEVER)
        at = np.where((at > left) & (at < returned), NEVER, at)
        diary.write(at, everyone, {"action": "accept", "version": catalogue.versions[policy]})
        diary.write(back, everyone, {"action": "accept", "version": catalogue.versions[policy]})
        # What was accepted before leaving is over: on return it stands from the new tap only.
        accepted.append(np.where(back < NEVER, np.where(at < left, at, back), at))
    return accepted


def _use(action: str, purpose: str) -> dict[str, Any]:
    return {"action": action, "activity": "use", "purpose": purpose}
