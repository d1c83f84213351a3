"""Tags one event at a time, as a stream job is usually written: decode, look up, decide, encode. For the peers."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from benchmarks.workload import Workload
from processors.consent import EMPTY, ConsentState, timeline
from processors.decide import consider, decide, retention_class, retention_limit
from processors.revising import decision_tags
from streams.kafka import Kafka
from streams.reference_data import ReferenceData
from streams.serdes import Deserializer, Serializer
from streams.subjects import consent_fact
from streams.tagging import RECORDED, event_facts


class OneByOne:
    """Knows all consents of the workload beforehand, in memory."""

    def __init__(self, kafka: Kafka, workload: Workload) -> None:
        reference = ReferenceData(kafka)
        self._knowledge = reference.read_to_end()
        reference.close()
        self._deserializer = Deserializer()
        self._serializers = {name: Serializer(recorded) for name, recorded in RECORDED.items()}
        facts: dict[bytes, list[Any]] = {}
        for alias, value in workload.consents_of(workload.aliases()):
            facts.setdefault(alias, []).append(consent_fact(self._deserializer.decode(value)[1]))
        self._timelines: dict[bytes, tuple[list[int], list[ConsentState]]] = {}
        for alias, known in facts.items():
            steps = timeline(known, [])
            self._timelines[alias] = [time for time, _ in steps], [state for _, state in steps]

    def tag(self, key: bytes, value: bytes, now: int) -> tuple[bytes, bytes]:
        """The recorded event's key and value. The key stays the alias: this peer keeps no subjects."""
        name, record = self._deserializer.decode(value)
        occurred_at = record["occurred_at"]
        times, states = self._timelines.get(key, ([], []))
        at = bisect_right(times, occurred_at)
        state = states[at - 1] if at else EMPTY
        case = consider(event_facts(name, record), self._knowledge.view(self._knowledge.epoch(occurred_at)))
        retention = retention_class(retention_limit(case), occurred_at, record.get("collected_at"))
        decision = decide(case, state, retention)
        tagged = {**record, **decision_tags(decision), "revision": 0, "judged_at": now}
        return key, self._serializers[name].encode(tagged)
