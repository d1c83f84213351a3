"""The fixture `kafka`: a real Apache Kafka broker of this test run's own, started when the first test asks for it.

Tests that use it are marked `kafka` by themselves, so that `-m "not kafka"` leaves them out. Runs side by side
share nothing but the verified jars in the user's cache.
"""

import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from infra.local.jars import default_cache_dir, ensure_jars
from infra.local.java import java_command
from infra.local.kafka import LocalKafka
from streams.topics import await_leaders


class KafkaForTests:
    """A running broker, and topics on it that no other test has."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def topic_name(self, prefix: str) -> str:
        """A name that is nowhere else in use; good for groups and transactional ids as well."""
        return f"{prefix}-{uuid.uuid4().hex[:12]}"

    def new_topic(self, prefix: str, partitions: int = 1, config: dict[str, str] | None = None) -> str:
        """Create a topic of a fresh name and return the name."""
        name = self.topic_name(prefix)
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config or {})
        admin.create_topics([topic])[name].result(timeout=30)
        await_leaders(admin, {name: partitions}, timeout=30)
        return name


def pytest_itemcollected(item: pytest.Item) -> None:
    if {"kafka", "kafka_jars"} & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def kafka_jars() -> Path:
    """The folder of Kafka's jars, verified; fetched on the first run of a machine."""
    return ensure_jars(default_cache_dir(), print, maven_repository=os.environ.get("LINEAGE_MAVEN_REPOSITORY"))


@pytest.fixture(scope="session")
def java() -> Sequence[str]:
    """The start of the command line of a Java that runs Kafka."""
    java_home = os.environ.get("JAVA_HOME")
    return java_command(Path(java_home) if java_home else None)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory, kafka_jars: Path, java: Sequence[str]) -> Iterator[KafkaForTests]:
    """One broker for the whole run. Tests keep apart by topics of their own and must not stop it."""
    broker = LocalKafka(tmp_path_factory.mktemp("kafka"), jars=kafka_jars, java=java)
    broker.start()
    yield KafkaForTests(broker.bootstrap)
    broker.stop()
