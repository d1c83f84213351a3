"""How much of `policies` and `recipients` the tagger knew when it committed: a mark beside each of its offsets.

The mark of a `consent` partition is never ahead of what was judged there: it is part of the transaction. So once all
partitions are marked with an entry, whatever was judged without it stands below the present end of `lineage`.
"""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import AdminClient

from streams.topics import CONSENT, POLICIES, RECIPIENTS

Reference = Mapping[str, int]


def knowledge_mark(position: Reference) -> str:
    """Offset metadata that says up to which offset each topic is known, e.g. `knows|2|17`."""
    return f"knows|{position[POLICIES]}|{position[RECIPIENTS]}"


def parse_mark(metadata: str | None) -> dict[str, int]:
    """What a mark says; nothing is known by offsets without one."""
    words = (metadata or "").split("|")
    if len(words) != 3 or words[0] != "knows":
        return {POLICIES: 0, RECIPIENTS: 0}
    return {POLICIES: int(words[1]), RECIPIENTS: int(words[2])}


def all_know(admin: AdminClient, position: Reference, timeout: float = 10.0) -> bool:
    """Whether all that the tagger judges from now on, on any partition, is judged with this knowledge.

    Raises `KafkaException`.
    """
    partitions = admin.list_topics(CONSENT, timeout=timeout).topics[CONSENT].partitions
    [future] = admin.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions("tagger")], request_timeout=timeout
    ).values()
    marked: set[int] = set()
    for tp in future.result(timeout).topic_partitions:
        if tp.error is not None:
            raise KafkaException(tp.error)
        known = parse_mark(tp.metadata)
        if tp.topic == CONSENT and all(known[topic] >= offset for topic, offset in position.items()):
            marked.add(tp.partition)
    return set(partitions) <= marked
