"""The declared catalogue of topics: names, keys, clean-up, and how they differ from what a broker has.

`plan` compares, `apply` creates and alters; nothing here is ever done silently or on a job's own account.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

DAY_MS = 24 * 3600 * 1000
HOUR_MS = 3600 * 1000
DEFAULT_PARTITIONS = 12
_LOOK_S = 0.05

TELEMETRY, CONSENT, SHARING = "telemetry", "consent", "sharing"
POLICIES, RECIPIENTS = "policies", "recipients"
SUBJECT_STATE, LINEAGE, VIOLATIONS = "subject-state", "lineage", "violations"
IDENTITIES, DEAD_LETTERS = "identities", "dead-letters"
REVISION_REQUESTS = "revision-requests"
ERASURE_REQUESTS, ERASURE_COMMANDS, ERASURE_RECEIPTS = "erasure-requests", "erasure-commands", "erasure-receipts"
ERASURE_STATE, ERASED_SUBJECTS = "erasure-state", "erased-subjects"
LINEAGE_SEALS = "lineage-seals"

# Every client keys with murmur2, as Java's does: librdkafka's own default would split a person over partitions.
PARTITIONER = "murmur2"


@dataclass(frozen=True)
class Topic:
    """One topic of the catalogue. `erasure`: what becomes of a person's records there when the person is erased.
    `partitions` None: the number all co-partitioned topics share."""

    name: str
    key: str
    contracts: tuple[str, ...]
    erasure: str
    configs: Mapping[str, str] = field(default_factory=dict)
    partitions: int | None = None


def _delete(days: int | None) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(-1 if days is None else days * DAY_MS)}


# An overwritten value leaves the disk within the hour (design §5): segments roll by then, and the cleaner looks at
# every dirty byte. Rolling happens on append, so idle partitions need the heartbeat that `lineage worker` sends.
_COMPACT = {
    "cleanup.policy": "compact",
    "max.compaction.lag.ms": str(HOUR_MS),
    "segment.ms": str(HOUR_MS),
    "min.cleanable.dirty.ratio": "0.01",
    "delete.retention.ms": str(DAY_MS),
}

_LOG = "Stays: its key is a random id that leads to nobody once the link in subject-state is gone."
_AGES = "Goes by itself after {} days; until then its key is an alias, and no value names anybody."
_NOBODY = "Tied to no one."

CATALOGUE: tuple[Topic, ...] = (
    Topic(TELEMETRY, "alias", ("TelemetryCollected",), _AGES.format(30), _delete(30)),
    Topic(CONSENT, "alias", ("ConsentChanged",), _AGES.format(30), _delete(30)),
    Topic(SHARING, "alias", ("DataShared",), _AGES.format(30), _delete(30)),
    Topic(POLICIES, "version", ("PolicyPublished",), _NOBODY, _COMPACT, partitions=1),
    Topic(RECIPIENTS, "recipient id @ effective_at", ("RecipientRegistered",), _NOBODY, _COMPACT, partitions=1),
    Topic(
        SUBJECT_STATE,
        "alias",
        ("SubjectState",),
        "Overwritten by a bare entry (when the alias was erased, no subject); compaction removes the link within the "
        "hour.",
        _COMPACT,
    ),
    Topic(
        LINEAGE,
        "subject",
        ("CollectionRecorded", "DisclosureRecorded", "ConsentRecorded", "ErasureRecorded"),
        _LOG,
        _delete(None),
    ),
    Topic(
        LINEAGE_SEALS,
        "partition of lineage",
        ("BatchSealed",),
        "Stays, as the log does: digests of many records at once, which hold nothing of anybody.",
        _delete(None),
    ),
    Topic(VIOLATIONS, "subject", ("CollectionRecorded", "DisclosureRecorded"), f"{_LOG} 90 days.", _delete(90)),
    Topic(REVISION_REQUESTS, "subject", ("RevisionRequested",), f"{_LOG} 7 days.", _delete(7)),
    Topic(ERASURE_REQUESTS, "alias", ("ErasureRequested",), _AGES.format(60), _delete(60)),
    Topic(
        ERASURE_COMMANDS,
        "request id",
        ("ErasureCommanded",),
        "Goes by itself after 60 days; identities in it are sealed to the recipient that it is for.",
        _delete(60),
        partitions=1,
    ),
    Topic(
        ERASURE_RECEIPTS,
        "request id",
        ("ErasureReceipt",),
        "Goes by itself after 60 days; a request id leads to nobody once the request has ended.",
        _delete(60),
        partitions=1,
    ),
    Topic(
        ERASURE_STATE,
        "request id",
        ("ErasureState",),
        "Overwritten without alias and subject when the request ends; compaction removes what had them within the "
        "hour.",
        _COMPACT,
        partitions=1,
    ),
    Topic(
        ERASED_SUBJECTS,
        "subject",
        ("SubjectErased",),
        "Stays, so that no rebuild brings anybody back: a random id that leads to nobody.",
        _COMPACT,
    ),
    Topic(
        IDENTITIES,
        "alias + digest of what is known",
        ("IdentitySealed",),
        "A tombstone for each of the person's keys; compaction removes them within the hour.",
        _COMPACT,
    ),
    Topic(
        DEAD_LETTERS,
        "original key",
        ("DeadLetter",),
        "Goes by itself after 30 days: nobody could read what it was, or whose.",
        _delete(30),
    ),
)


@dataclass(frozen=True)
class Change:
    """One step from what the broker has to what the catalogue says. `action`: create, alter or refuse."""

    topic: str
    action: str
    detail: str
    configs: Mapping[str, str] = field(default_factory=dict)
    partitions: int = 0


def plan(admin: AdminClient, partitions: int = DEFAULT_PARTITIONS, timeout: float = 30.0) -> list[Change]:
    """What `apply` would do; empty when broker and catalogue agree.

    A co-partitioned topic whose partition count differs is refused: its keys would land elsewhere than before.
    Raises `KafkaException` when the broker cannot be asked.
    """
    existing = {name: len(meta.partitions) for name, meta in admin.list_topics(timeout=timeout).topics.items()}
    changes: list[Change] = []
    known = [topic for topic in CATALOGUE if topic.name in existing]
    configs = _configs(admin, [topic.name for topic in known], timeout)
    for topic in CATALOGUE:
        wanted = topic.partitions or partitions
        if topic.name not in existing:
            changes.append(
                Change(
                    topic.name,
                    "create",
                    f"{wanted} partitions, {_words(topic.configs)}",
                    topic.configs,
                    wanted,
                )
            )
            continue
        differing = {key: value for key, value in topic.configs.items() if configs[topic.name].get(key) != value}
        if differing:
            was = ", ".join(f"{key}: {configs[topic.name].get(key)} → {value}" for key, value in differing.items())
            changes.append(Change(topic.name, "alter", was, differing))
        if existing[topic.name] != wanted:
            detail = (
                f"has {existing[topic.name]} partitions, the catalogue says {wanted}: "
                "its keys would move; make a new cluster or pass --partitions"
            )
            changes.append(Change(topic.name, "refuse", detail))
    return changes


def _words(configs: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in configs.items())


def _configs(admin: AdminClient, names: Sequence[str], timeout: float) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    futures = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in names])
    return {
        resource.name: {entry.name: entry.value for entry in future.result(timeout).values()}
        for resource, future in futures.items()
    }


class TopicsRefusedError(Exception):
    """The broker's topics cannot be brought to the catalogue without moving keys."""


def apply(
    admin: AdminClient,
    changes: Sequence[Change],
    replication_factor: int = 1,
    timeout: float = 60.0,
) -> None:
    """Carries `plan`'s changes out; returns when the broker shows the new topics to clients.

    Raises `TopicsRefusedError` before anything is done if one is refused, `TimeoutError`, `KafkaException`.
    """
    refused = [change for change in changes if change.action == "refuse"]
    if refused:
        raise TopicsRefusedError("; ".join(f"{change.topic} {change.detail}" for change in refused))
    new = [
        NewTopic(change.topic, change.partitions, replication_factor, config=dict(change.configs))
        for change in changes
        if change.action == "create"
    ]
    for future in (admin.create_topics(new, request_timeout=timeout) if new else {}).values():
        try:
            future.result(timeout)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    if new:
        await_leaders(admin, {topic.topic: topic.num_partitions for topic in new}, timeout)
    altered = [
        ConfigResource(
            ResourceType.TOPIC,
            change.topic,
            incremental_configs=[
                ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
                for key, value in change.configs.items()
            ],
        )
        for change in changes
        if change.action == "alter"
    ]
    for future in (admin.incremental_alter_configs(altered) if altered else {}).values():
        future.result(timeout)


def await_leaders(admin: AdminClient, partitions: Mapping[str, int], timeout: float) -> None:
    """The controller has made a topic before the brokers know it: whoever asks them meanwhile is told there is none."""
    deadline = time.monotonic() + timeout
    while unknown := partitions.keys() - _led(admin.list_topics(timeout=timeout), partitions):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{', '.join(sorted(unknown))}: created, but after {timeout:g} s the broker does not show them with a "
                "leader for each partition; see to the broker, then run `lineage topics apply` again"
            )
        time.sleep(_LOOK_S)


def _led(metadata: ClusterMetadata, partitions: Mapping[str, int]) -> set[str]:
    """Topics of which each partition has a leader."""
    return {
        name
        for name, topic in metadata.topics.items()
        if topic.error is None
        and len(topic.partitions) == partitions.get(name)
        and all(partition.leader >= 0 for partition in topic.partitions.values())
    }
