"""Bytes in the files of a local stack: whether what must be gone is gone from the disk, and not only from answers.

Nothing shorter than eight bytes is looked for. A search proves nothing unless it finds what must still be there:
whoever uses it looks for somebody who was not erased as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from infra.local.clickhouse import LocalClickHouse
from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect, execute
from streams.kafka import Kafka
from streams.topics import ERASURE_STATE, IDENTITIES, SUBJECT_STATE
from tests.integration.test_purge import written_plainly
from tests.live_files import contents

# Where the link between alias and subject, and the sealed identities, are overwritten.
FORGETFUL = (SUBJECT_STATE, ERASURE_STATE, IDENTITIES)
# What takes an hour otherwise.
HURRIED = {"segment.ms": "1000", "max.compaction.lag.ms": "1000", "file.delete.delay.ms": "1000"}


def plain_tables(data: Path) -> None:
    """Makes the tables of a stack that is still to be started, as its own start would but with no column compressed:
    else bytes could be there and not be found."""
    local = LocalClickHouse(data / "clickhouse")
    local.start()
    try:
        client = connect(local.url)
        migrate.apply(client, known=written_plainly())
        execute(client, "TRUNCATE TABLE schema_migrations")
        for known in migrate.migrations():
            # The stack is to find its own migrations applied.
            record = {"name": known.name, "sha256": known.sha256}
            execute(client, "INSERT INTO schema_migrations (name, sha256) SELECT %(name)s, %(sha256)s", record)
        client.disconnect()
    finally:
        local.stop()


def hurry_compaction(kafka: Kafka) -> Callable[[], None]:
    """Lets the broker compact at once; gives a heartbeat, which is due from time to time: segments roll on append."""
    admin = kafka.admin()
    entries = [ConfigEntry(k, v, incremental_operation=AlterConfigOpType.SET) for k, v in HURRIED.items()]
    changes = [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries) for topic in FORGETFUL]
    for done in admin.incremental_alter_configs(changes).values():
        done.result(30)
    found = admin.list_topics(timeout=30).topics
    producer = kafka.producer()

    def beat() -> None:
        for topic in FORGETFUL:
            for partition in found[topic].partitions:
                producer.produce(topic, None, b"heartbeat", partition)
        assert producer.flush(30) == 0

    return beat


def occurrences(wanted: Collection[bytes], content: bytes) -> set[bytes]:
    """Those of `wanted` that are somewhere in `content`. Looks at every eight bytes for the first eight of any."""
    by_head: dict[int, list[bytes]] = {}
    for one in wanted:
        by_head.setdefault(int.from_bytes(one[:8], "little"), []).append(one)
    heads = np.array(sorted(by_head), np.uint64)
    found: set[bytes] = set()
    for offset in range(min(8, len(content) - 7)):
        words = np.frombuffer(content, "<u8", count=(len(content) - offset) // 8, offset=offset)
        nearest = np.searchsorted(heads, words).clip(max=len(heads) - 1)
        for at in np.flatnonzero(heads[nearest] == words).tolist():
            start = offset + 8 * at
            candidates = by_head[int(words[at])]
            found |= {one for one in candidates if content[start : start + len(one)] == one}
    return found


def found_in(wanted: Collection[bytes], *folders: Path) -> dict[bytes, Path]:
    """Those of `wanted` that are somewhere in the files, and one file of each."""
    return {one: path for path, content in contents(*folders) for one in occurrences(wanted, content)}


def eventually_gone(
    wanted: Collection[bytes], folders: Collection[Path], seconds: float, beat: Callable[[], None] = lambda: None
) -> dict[bytes, Path]:
    """What is still there after so long; nothing as soon as nothing is."""
    deadline = time.monotonic() + seconds
    while found := found_in(wanted, *folders):
        if time.monotonic() > deadline:
            return found
        beat()
        time.sleep(2)
    return {}
