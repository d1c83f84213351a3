"""One day of events of all people: sessions, what is shared on, faults, lateness, duplicates.

A day is drawn in arrays, and only its finished events become dictionaries: that keeps it fast. A well-behaved app
does nothing that the person's life forbids, but a little leaks.
"""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from infra.simulator.catalogue import VARIANTS, Catalogue, Offer
from infra.simulator.faults import COLLECTION_FAULTS, DISCLOSURE_FAULTS, Fault
from infra.simulator.lives import DAY, HOUR, MINUTE, Indices, Lives, Mask, Times

Event = dict[str, Any]
Arrival = tuple[int, Event]

EVENTS_A_SESSION = 7.0
SHARES_AN_EVENT = 0.125
_LEAK = 0.02
"""Share of the forbidden events that happen nevertheless."""
_ONWARD = 0.1
_NIGHT = 18 * HOUR  # 02:00 in China: when the nightly exports run.

# Share of sessions by hour of the day in China (UTC+8): a small peak at noon, a large one in the evening.
_HOURS = np.array([2, 1, 0.5, 0.4, 0.4, 0.8, 2, 4, 5, 4.5, 4.5, 5, 6.5, 6, 4.5, 4.5, 4.5, 5, 6, 7.5, 9, 9.5, 7.5, 4])
_HOUR_SHARES = np.cumsum(np.roll(_HOURS, -8) / _HOURS.sum())
_WEEKDAYS = (0.9, 0.88, 0.88, 0.9, 1.0, 1.25, 1.19)


class Days:
    """Draws days one after the other; each depends on those before through the random source only."""

    def __init__(
        self,
        rng: np.random.Generator,
        lives: Lives,
        catalogue: Catalogue,
        sessions: float,
        fault_rate: float,
        duplicate_rate: float,
        offline_rate: float,
    ) -> None:
        """`sessions`: mean sessions of a person in a day; the rates are shares of all events (of sessions)."""
        self._rng = rng
        self._random = random.Random(rng.bytes(16))
        self._lives = lives
        self._catalogue = catalogue
        self._sessions = sessions
        self._fault_rate = fault_rate
        self._duplicate_rate = duplicate_rate
        self._offline_rate = offline_rate
        self._purpose = np.array([catalogue.purposes.index(purpose) for purpose in catalogue.purposes])
        self._orders = 0

    def draw(self, begin: int) -> list[Arrival]:
        """All events of the day that begins at `begin` (ms), each with its time of arrival, in no order."""
        person, at, arrival, opens = self._collections(begin)
        kind = self._kinds(begin, opens)
        policy = np.searchsorted(self._catalogue.effective, at, side="right") - 1
        allowed = self._may_collect(person, at, policy)
        for purpose in (*self._lives.opted_out, *self._lives.granted):
            chosen = self._of_purpose(kind, purpose)
            allowed[chosen] &= self._lives.may_use(purpose, person[chosen], at[chosen])
        leaked = self._rng.random(len(person)) < np.where(opens, 4 * _LEAK, _LEAK)
        leaked |= self._lives.careless[person] & self._lives.present(person, at)
        kept = allowed | (leaked & (at >= self._lives.joined[person]))
        events = self._telemetry(person[kept], at[kept], arrival[kept], kind[kept])
        events += self._sharing(person[kept], at[kept], begin)
        events += self._rare(begin)
        events += self._consents(begin)
        again = self._rng.random(len(events)) < self._duplicate_rate
        for index in np.flatnonzero(again).tolist():
            moment, event = events[index]
            events.append((moment + int(self._rng.exponential(HOUR)) + 1, dict(event)))
        return events

    def _collections(self, begin: int) -> tuple[Indices, Times, Times, Mask]:
        """Whose, when, when it arrives, and whether it opens a session, for each event of the day's sessions."""
        rng, lives = self._rng, self._lives
        weekday = (begin // DAY + 3) % 7  # 1970-01-01 was a Thursday.
        count = rng.poisson(lives.pace * (self._sessions * _WEEKDAYS[weekday]))
        count[lives.joined >= begin + DAY] = 0
        person = np.repeat(np.arange(len(count), dtype=np.int64), count)
        hour = np.searchsorted(_HOUR_SHARES, rng.random(len(person)) * _HOUR_SHARES[-1])
        start = begin + hour * HOUR + rng.integers(0, HOUR, len(person))
        newcomers = np.flatnonzero((lives.joined >= begin) & (lives.joined < begin + DAY))
        person = np.concatenate([person, newcomers])
        start = np.concatenate([start, lives.joined[newcomers] + 1_000])
        # Whole sessions without a network arrive later, all at once.
        offline = rng.random(len(person)) < self._offline_rate
        back = np.where(offline, start + 20 * MINUTE + rng.exponential(14 * HOUR, len(person)).astype(np.int64), 0)

        size = np.minimum(rng.geometric(1 / EVENTS_A_SESSION, len(person)), 80)
        session = np.repeat(np.arange(len(person)), size)
        first = np.cumsum(size) - size
        gaps = np.cumsum(rng.exponential(18_000, len(session))).astype(np.int64)
        at = start[session] + gaps - gaps[first[session]]
        opens = np.zeros(len(session), dtype=bool)
        opens[first] = True
        person = person[session]
        arrival = np.where(back[session] > at, back[session] + rng.integers(0, 3_000, len(at)), self._arrive(at))
        return person, at, arrival, opens

    def _arrive(self, at: Times, late: float = 0.04) -> Times:
        """Most within seconds; a share of them minutes to hours late."""
        delay = self._rng.exponential(2_000, len(at))
        slow = self._rng.random(len(at)) < late
        delay[slow] = self._rng.lognormal(np.log(25 * MINUTE), 1.6, int(slow.sum()))
        return at + np.minimum(delay, 20 * DAY).astype(np.int64)

    def _kinds(self, begin: int, opens: Mask) -> Indices:
        catalogue = self._catalogue
        policy = max(0, int(np.searchsorted(catalogue.effective, begin, side="right")) - 1)
        shares = catalogue.weights[policy]
        kind = np.searchsorted(shares, self._rng.random(len(opens)) * shares[-1], side="right")
        return np.where(opens, catalogue.opener, kind).astype(np.int64)

    def _may_collect(self, person: Indices, at: Times, policy: Indices) -> Mask:
        allowed = np.zeros(len(person), dtype=bool)
        for index in range(len(self._catalogue.versions)):
            chosen = policy == index
            allowed[chosen] = self._lives.may_collect(person[chosen], at[chosen], index)
        return allowed

    def _of_purpose(self, kind: Indices, purpose: str) -> Mask:
        purposes = self._catalogue.purposes
        first = purposes.index(purpose) if purpose in purposes else -1
        return np.asarray(self._purpose[kind] == first)

    def _telemetry(self, person: Indices, at: Times, arrival: Times, kind: Indices) -> list[Arrival]:
        lives, catalogue = self._lives, self._catalogue
        variant = np.searchsorted([0.45, 0.85, 0.95], self._rng.random(len(person)))
        shape = (kind * 2 + lives.ios[person]) * VARIANTS + variant
        names, regions, shapes = lives.names, lives.region, catalogue.shapes
        storage = {region: catalogue.storage(region) for region in set(regions)}
        events: list[Event] = [
            {
                "topic": "telemetry",
                "user_id": names[who],
                "event_id": event_id,
                "occurred_at": when,
                **shapes[number],
                "region": regions[who],
                "storage_country": storage[regions[who]],
            }
            for who, event_id, when, number in zip(
                person.tolist(), self._ids(len(person)), instants(at), shape.tolist(), strict=True
            )
        ]
        self._spoil(events, COLLECTION_FAULTS)
        return list(zip(arrival.tolist(), events, strict=True))

    def _sharing(self, person: Indices, at: Times, begin: int) -> list[Arrival]:
        """What the app passes on of what it has collected, and what its recipients pass on of that."""
        rng, lives = self._rng, self._lives
        offers = [offer for offer in self._catalogue.offers if offer.begin <= begin and offer.end >= begin + DAY]
        chosen = rng.random(len(person)) < SHARES_AN_EVENT
        if not offers or not chosen.any():
            return []
        person, collected = person[chosen], at[chosen]
        nightly = rng.random(len(person)) < 0.4
        tonight = begin + _NIGHT + rng.integers(0, 20 * MINUTE, len(person))
        nightly &= collected < tonight
        at = np.where(nightly, tonight, collected + rng.integers(200, 9_000, len(person)))

        shares = np.cumsum([offer.weight for offer in offers])
        number = np.searchsorted(shares, rng.random(len(person)) * shares[-1], side="right")
        policy = np.searchsorted(self._catalogue.effective, at, side="right") - 1
        allowed = self._may_collect(person, at, policy)
        for purpose in {offer.purpose for offer in offers}:
            mine = np.array([offer.purpose == purpose for offer in offers])[number]
            allowed[mine] &= lives.may_use(purpose, person[mine], at[mine])
        partner = np.array([offer.kind == "partner" for offer in offers])[number]
        allowed &= ~(partner & (at >= lives.partners_refused[person]))
        kept = allowed | (rng.random(len(person)) < 2 * _LEAK) | lives.careless[person]
        person, at, collected, number = person[kept], at[kept], collected[kept], number[kept]

        age = rng.random(len(person))
        earlier = np.maximum(collected - rng.integers(0, 20 * DAY, len(person)), lives.joined[person])
        collected = np.where(age < 0.2, earlier, collected)
        when = instants(collected)
        events = [
            self._disclosure(who, event_id, moment, offers[index], since if share < 0.9 else None)
            for who, event_id, moment, index, since, share in zip(
                person.tolist(),
                self._ids(len(person)),
                instants(at),
                number.tolist(),
                when,
                age.tolist(),
                strict=True,
            )
        ]
        onward = self._onward(begin, person, at, number, offers)
        self._spoil(events, DISCLOSURE_FAULTS)
        return [*zip(self._arrive(at, 0.02).tolist(), events, strict=True), *onward]

    def _onward(
        self, begin: int, person: Indices, at: Times, number: Indices, offers: Sequence[Offer]
    ) -> list[Arrival]:
        """Recipients pass on within hours, and report it within hours or days."""
        rng = self._rng
        arrivals = []
        chosen = np.flatnonzero(rng.random(len(person)) < _ONWARD)
        later = at[chosen] + rng.exponential(3 * HOUR, len(chosen)).astype(np.int64)
        reported = self._arrive(later, 0.5).tolist()
        ids = self._ids(len(chosen))
        for index, when, arrival, event_id in zip(chosen.tolist(), instants(later), reported, ids, strict=True):
            offer = offers[number[index]]
            open_now = [other for other in offer.onward if other.begin <= begin and other.end >= begin + 2 * DAY]
            if open_now:
                event = self._disclosure(int(person[index]), event_id, when, self._random.choice(open_now), None)
                event["discloser"], event["source"] = offer.recipient, "recipient-report"
                arrivals.append((arrival, event))
        return arrivals

    def _disclosure(self, who: int, event_id: str, at: str, offer: Offer, collected_at: str | None) -> Event:
        return {
            "topic": "sharing",
            "user_id": self._lives.names[who],
            "event_id": event_id,
            "occurred_at": at,
            "activity": "share",
            "discloser": "self",
            "recipient": offer.recipient,
            "purpose": offer.purpose,
            "categories": offer.categories,
            "region": self._lives.region[who],
            "collected_at": collected_at,
            "order": None,
            "source": "gateway",
        }

    def _rare(self, begin: int) -> list[Arrival]:
        """What rests on a person's grant, on an order, or on a merger."""
        rng, lives, catalogue = self._rng, self._lives, self._catalogue
        people = len(lives.names)
        drafts: list[tuple[int, int, Event]] = []

        def moment() -> int:
            return begin + int(rng.integers(0, DAY))

        for activity, pace in (("share", 0.1), ("publish", 0.04), ("transfer", 0.002)):
            given = lives.grants[activity]
            for _ in range(int(rng.poisson(len(given) * pace))):
                who, since, form = given[int(rng.integers(len(given)))]
                when = moment()
                purpose = form["purpose"] if form["purpose"] != "*" else None
                keys = {"activity": activity, "recipient": form.get("recipient"), "purpose": purpose}
                if when >= since:
                    drafts.append((when, who, keys | {"categories": list(form["categories"])}))
        authorities = catalogue.of_kind("authority", begin)
        named = ["user.device.ip_address", "user.account"]
        for _ in range(int(rng.poisson(people * 2e-4)) if authorities else 0):
            self._orders += 1
            order = f"order-{self._orders:05d}" if rng.random() < 0.85 else None
            publish = rng.random() < 0.1
            recipient = None if publish else self._random.choice(authorities)["id"]
            keys = {"activity": "publish" if publish else "share", "recipient": recipient, "order": order}
            drafts.append((moment(), int(rng.integers(people)), keys | {"categories": named}))
        for successor in catalogue.of_kind("successor", begin):
            # The data goes over a fortnight after the successor is registered.
            if successor["effective_at"] + 14 * DAY <= begin < successor["effective_at"] + 15 * DAY:
                for who in np.flatnonzero(rng.random(people) < 0.05).tolist():
                    keys = {"activity": "transfer", "recipient": successor["id"], "categories": ["user.account"]}
                    drafts.append((moment(), who, keys))
        if not drafts:
            return []
        person = np.array([who for _, who, _ in drafts], dtype=np.int64)
        at = np.array([when for when, _, _ in drafts], dtype=np.int64)
        policy = np.searchsorted(catalogue.effective, at, side="right") - 1
        # An order binds whatever the person has accepted.
        ordered = np.array(["order" in keys for _, _, keys in drafts])
        kept = (self._may_collect(person, at, policy) & (at < lives.left[person])) | (
            ordered & (at >= lives.joined[person])
        )
        blank = Offer("", "", "", [], 0, 0, 0.0)
        arrivals = []
        for index in np.flatnonzero(kept).tolist():
            when, who, keys = drafts[index]
            event = self._disclosure(who, self._ids(1)[0], instants(at[index : index + 1])[0], blank, None)
            event.update({"purpose": None, "source": "legal-desk"} | keys)
            arrivals.append((when + int(rng.exponential(HOUR)), event))
        return arrivals

    def _consents(self, begin: int) -> list[Arrival]:
        facts, names = self._lives.facts, self._lives.names
        low, high = np.searchsorted(facts.at, [begin, begin + DAY])
        at = facts.at[low:high]
        events: list[Event] = [
            {
                "topic": "consent",
                "user_id": names[who],
                "event_id": event_id,
                "occurred_at": when,
                **facts.forms[form],
                "source": "consent-service",
            }
            for who, event_id, when, form in zip(
                facts.person[low:high].tolist(),
                self._ids(len(at)),
                instants(at),
                facts.form[low:high].tolist(),
                strict=True,
            )
        ]
        return list(zip(self._arrive(at, 0.06).tolist(), events, strict=True))

    def _spoil(self, events: list[Event], faults: Sequence[Fault]) -> None:
        for index in np.flatnonzero(self._rng.random(len(events)) < self._fault_rate).tolist():
            self._random.choice(faults)(self._random, events[index], self._catalogue)

    def _ids(self, count: int) -> list[str]:
        """Random UUIDs (version 4) of the seed."""
        drawn = np.frombuffer(self._rng.bytes(16 * count), dtype=np.uint8).reshape(count, 16).copy()
        drawn[:, 6] = drawn[:, 6] & 0x0F | 0x40
        drawn[:, 8] = drawn[:, 8] & 0x3F | 0x80
        digits = drawn.tobytes().hex()
        return [
            f"{digits[i : i + 8]}-{digits[i + 8 : i + 12]}-{digits[i + 12 : i + 16]}-"
            f"{digits[i + 16 : i + 20]}-{digits[i + 20 : i + 32]}"
            for i in range(0, 32 * count, 32)
        ]


def instants(at: Times) -> list[str]:
    """ISO 8601 texts, in UTC with milliseconds, of many moments."""
    texts: list[str] = np.datetime_as_string(at.astype("datetime64[ms]"), unit="ms", timezone="UTC").tolist()
    return texts
