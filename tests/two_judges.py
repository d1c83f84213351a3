"""Brings a history to the tagger's own code in any order, and says where the independent judge disagrees.

The parts are the real ones: contracts, decoding, the subjects' state and its changelog, the judge. Only Kafka is left
out, so that ten thousand histories take minutes.
"""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

from audit.independent_judge import Reference, judge
from processors.knowledge import Knowledge, Policy, Recipient
from streams.contracts import contract
from streams.serdes import Deserializer, SchemaBook, Serializer, decode_body, encode_body
from streams.tagging import Tagged, Tagging
from streams.topics import CONSENT, SHARING, TELEMETRY
from tests.drawn_histories import Fact, History

BOOK = SchemaBook()
DESERIALIZER = Deserializer()
SERIALIZERS = {
    CONSENT: Serializer("ConsentChanged"),
    TELEMETRY: Serializer("TelemetryCollected"),
    SHARING: Serializer("DataShared"),
}
SUBJECT_STATE = contract("SubjectState")


class Disagreement(NamedTuple):
    """`when`: `at once`, by what had arrived; `in the end`, by all there is."""

    when: str
    event: Fact
    processors: tuple[str, tuple[str, ...], str]
    independent: tuple[str, tuple[str, ...], str]


class InputMessage(NamedTuple):
    """As much of a Kafka message as tagging looks at."""

    alias: bytes
    body: bytes

    def key(self) -> bytes:
        return self.alias

    def value(self) -> bytes:
        return self.body

    def partition(self) -> int:
        return 0


class Delivery:
    """One worker, and all that has reached it."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._tagging = Tagging(BOOK, Knowledge([], []), partitions=1)
        self._changelog: dict[bytes, bytes] = {}
        self.arrived = History(history.people)

    def restart(self) -> None:
        """Another worker takes over, with nothing but the changelog."""
        knowledge = self._knowledge()
        self._tagging = Tagging(BOOK, knowledge, partitions=1)
        self._tagging.subjects.restore(0, self._changelog.items())

    def bring(self, kind: str, facts: list[Fact]) -> dict[bytes, tuple[str, tuple[str, ...], str]]:
        """Facts of one kind, a field of `History`; for events, their verdicts by id."""
        getattr(self.arrived, kind).extend(facts)
        if kind in ("policies", "recipients"):
            self._tagging.learn(self._knowledge())
        elif kind == "erased":
            for fact in facts:
                self._erase(fact)
        elif kind == "consents":
            self._tag(CONSENT, facts)
        else:
            collections = [fact for fact in facts if "activity" not in fact]
            disclosures = [fact for fact in facts if "activity" in fact]
            return self._tag(TELEMETRY, collections) | self._tag(SHARING, disclosures)
        return {}

    def _knowledge(self) -> Knowledge:
        return Knowledge(
            map(Policy.from_record, self.arrived.policies), map(Recipient.from_record, self.arrived.recipients)
        )

    def _tag(self, topic: str, facts: list[Fact]) -> dict[bytes, tuple[str, tuple[str, ...], str]]:
        if not facts:
            return {}
        encode = SERIALIZERS[topic].encode
        messages = [InputMessage(alias(fact["subject"]), encode({"source": "drawn", **fact})) for fact in facts]
        tagged = Tagged()
        self._tagging.tag(topic, messages, 0, tagged)
        assert not tagged.refused, tagged.refused
        self._changelog |= {key: body for _, key, body in self._tagging.subjects.take_changes()}
        # Whoever is linked anew has the erasures of the past in front.
        decoded = [DESERIALIZER.decode(value) for value in tagged.values]
        records = [record for name, record in decoded if name != "ErasureRecorded"]
        assert len(records) == len(facts)
        if topic == CONSENT:
            return {}
        return {r["event_id"]: (r["verdict"], tuple(r["clauses"]), r["legal_basis"]) for r in records}

    def _erase(self, fact: Fact) -> None:
        """An erasure completes: when it was, and no link any more. The consents stay here, as a judge who knew all
        facts has them, too."""
        key = alias(fact["subject"])
        state: dict[str, Any] = {"erased": [], "facts": []}
        if key in self._changelog:
            state = decode_body(SUBJECT_STATE, self._changelog[key])
        left = {**state, "subject": None, "erased": [*state["erased"], fact["occurred_at"]]}
        self._changelog[key] = encode_body(SUBJECT_STATE.parsed, left)
        self._tagging.subjects.restore(0, [(key, self._changelog[key])])


def alias(person: str) -> bytes:
    return person.encode().ljust(16, b".")


def disagreements(history: History, random: Random) -> list[Disagreement]:
    """Delivers the history in an order of `random`'s: in batches, some facts twice, policies and recipients late too,
    with restarts in between. Compares each verdict given on the way by what had arrived, and those given to all events
    anew when everything has: the revisions that late facts lead to."""
    delivery = Delivery(history)
    waiting = [
        (kind, fact)
        for kind in ("policies", "recipients", "consents", "erased", "events")
        for fact in getattr(history, kind)
    ]
    waiting += [one for one in waiting if random.random() < 0.1]
    random.shuffle(waiting)
    found: list[Disagreement] = []
    while waiting:
        size = random.randrange(1, 20)
        batch, waiting = waiting[:size], waiting[size:]
        for kind in ("policies", "recipients", "erased", "consents", "events"):
            facts = [fact for of_kind, fact in batch if of_kind == kind]
            if facts:
                found += _compare("at once", delivery.arrived, facts, delivery.bring(kind, facts))
        if random.random() < 0.1:
            delivery.restart()
    if history.events:
        found += _compare("in the end", history, history.events, delivery.bring("events", history.events))
    return found


def _compare(when: str, known: History, events: list[Fact], judged: dict[bytes, Any]) -> list[Disagreement]:
    if not judged:
        return []
    reference = Reference(known.policies, known.recipients)
    found = []
    for event in events:
        person = event["subject"]
        answer = judge(
            event,
            reference,
            [fact for fact in known.consents if fact["subject"] == person],
            [fact for fact in known.erased if fact["subject"] == person],
        )
        if judged[event["event_id"]] != answer:
            found.append(Disagreement(when, event, judged[event["event_id"]], tuple(answer)))
    return found
