"""Erasure in the log on a real broker and the real engine: fence, dropped link, ledger, suppression; and neither a late
revision, a restart, an unfinished insert nor a rebuild of the table brings an erased person back.

The tests tell one story in their order. The controller's part is played here, by its records.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from confluent_kafka import TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from audit.explain import explain_event
from audit.independent_judge import Reference
from audit.subject import subject_lineage
from audit.verify import verify
from infra.local.kafka import LocalKafka
from infra.local.preparation import shipped_policy
from processors.pseudonyms import alias
from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect, execute
from sinks.clickhouse.insert import insert_subjects
from sinks.clickhouse.lineage_table import LineageTable
from sinks.clickhouse.verdicts import StoredVerdicts
from streams import loader as loader_job
from streams import topics
from streams.contracts import contract
from streams.erased_subjects import ErasedSubjects
from streams.erasure_intake import ErasureIntake
from streams.kafka import Kafka
from streams.lag import committed_offsets, end_offsets, lags
from streams.loader import Intent, Loader
from streams.log_reader import LogReader
from streams.policies import load_policy, policy_record
from streams.producer import LineageProducer
from streams.publishing import publish_policies, published_policies
from streams.scan import scan
from streams.serdes import Deserializer, Serializer, decode_body
from streams.tagger import Tagger
from streams.topics import ERASED_SUBJECTS, LINEAGE, SUBJECT_STATE

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

PEPPER = bytes(range(32))
ANN, BOB, CYD = "ann", "bob", "cyd"
PARTITIONS = 2
LAWFUL: dict[str, Any] = {"categories": ["user.device"], "region": "CN", "storage_country": "CN"}


class Running:
    """A job in a thread. `stop` raises what it raised."""

    def __init__(self, job: Tagger | Loader) -> None:
        self._stop, self._failed = threading.Event(), list[BaseException]()

        def run() -> None:
            try:
                job.run(self._stop)
            except BaseException as error:
                self._failed.append(error)

        self._thread = threading.Thread(target=run)
        self._thread.start()

    def check(self) -> None:
        if self._failed:
            raise self._failed[0]

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        self.check()


class World:
    """The broker, the table, the jobs, and what the story has learnt so far."""

    def __init__(self, kafka: Kafka, url: str) -> None:
        self.kafka, self.url = kafka, url
        self.client = connect(url)
        self.intake = ErasureIntake(kafka)
        public = X25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.producer = LineageProducer(kafka.bootstrap, PEPPER, public)
        self.tagger = Running(Tagger(kafka))
        self.loader: Running | None = None
        self.group = loader_job.GROUP
        self.subjects: dict[str, bytes] = {}
        self.requests: dict[str, UUID] = {}
        self.erased_at: dict[str, int] = {}

    def load(self) -> None:
        self.loader = Running(Loader(self.kafka, LineageTable(connect(self.url)), Ed25519PrivateKey.generate()))

    def stop_loading(self) -> None:
        assert self.loader is not None
        self.loader.stop()
        self.loader = None

    def use(self, *, accept: str = "", act: Sequence[str] = ()) -> list[UUID]:
        """Somebody accepts the policy, or people use the app: a collection and a disclosure each."""
        ids = [self.producer.consent(accept, "accept", version=1)] if accept else []
        for person in act:
            ids.append(self.producer.collected(person, "login", **LAWFUL))
            ids.append(self.producer.shared(person, "somebody", ["user.device"], purpose="service"))
        self.producer.flush()
        self.settle()
        return ids

    def step(self, person: str, step: str) -> None:
        now = int(time.time() * 1000)
        self.erased_at |= {person: now} if step == "erased" else {}
        request = self.requests.setdefault(person, uuid4())
        self.intake.step(alias(PEPPER, person), request, step, occurred_at=now)
        self.settle()

    def settle(self) -> None:
        """Everything is tagged, and loaded if a loader runs."""
        admin = self.kafka.admin()

        def tagged() -> bool:
            self.tagger.check()
            return lags(admin)["tagger"] == 0

        def loaded() -> bool:
            if self.loader is not None:
                self.loader.check()
            committed = committed_offsets(admin, self.group)
            # An intent is a committed offset, too: of a batch that is not done.
            return all(committed.get(tp, 0) >= end for tp, end in end_offsets(admin, [LINEAGE]).items())

        eventually(tagged)
        if self.loader is not None:
            eventually(loaded)

    def rows(self, subject: bytes | None = None) -> list[tuple[Any, ...]]:
        """(subject, activity, phase, request, verdict, clauses, revision, partition, offset), in order of the log."""
        columns = "subject, activity, erasure_phase, request_id, verdict, clauses, revision"
        found = execute(
            self.client,
            f"SELECT {columns}, kafka_partition, kafka_offset FROM lineage "
            "WHERE %(all)s = 1 OR subject = %(subject)s ORDER BY kafka_partition, kafka_offset",
            {"all": int(subject is None), "subject": UUID(bytes=subject or bytes(16))},
        )
        return [(row[0].bytes, *row[1:]) for row in found]

    def state(self, person: str) -> dict[str, Any]:
        """What the changelog says last."""
        values = [m.value() for batch in scan(self.kafka, SUBJECT_STATE) for m in batch if m.key() == of(person)]
        return decode_body(contract("SubjectState"), values[-1][10:])

    def subject(self, person: str) -> bytes:
        found: bytes = self.state(person)["subject"]
        return found

    def ledger(self) -> ErasedSubjects:
        erased = ErasedSubjects(self.kafka)
        erased.read(range(PARTITIONS))
        return erased

    def produce(self, topic: str, key: bytes, value: bytes) -> None:
        producer = self.kafka.producer()
        producer.produce(topic, value, key)
        assert producer.flush(30) == 0

    def differences(self) -> list[tuple[str, str]]:
        reader = LogReader(self.kafka)
        try:
            found = verify(reader, StoredVerdicts(self.client), Reference(published_policies(self.kafka), []))
        finally:
            reader.close()
        return [(str(one.event_id), one.reason) for one in found.differences]

    def delete(self, condition: str) -> None:
        execute(self.client, f"ALTER TABLE lineage DELETE WHERE {condition}", mutations_sync=2)

    def close(self) -> None:
        for job in (self.tagger, self.loader):
            if job is not None:
                job.stop()
        self.intake.close()
        self.client.disconnect()


def of(person: str) -> bytes:
    return alias(PEPPER, person)


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, kafka_jars: Path, java: Sequence[str], clickhouse: Any
) -> Iterator[World]:
    # A broker of its own: the jobs use the catalogue's topics.
    broker = LocalKafka(tmp_path_factory.mktemp("erased") / "kafka", jars=kafka_jars, java=java)
    broker.start()
    kafka = Kafka(broker.bootstrap)
    admin = kafka.admin()
    topics.apply(admin, topics.plan(admin, partitions=PARTITIONS))
    publish_policies(kafka, [policy_record(load_policy(shipped_policy()))])
    url = clickhouse.database().url
    with connect(url) as client:
        migrate.apply(client)
    world = World(kafka, url)
    world.load()
    yield world
    world.close()
    broker.stop()


def test_the_fence_stands_behind_everything_judged_before(world: World) -> None:
    for person in (ANN, BOB, CYD):
        world.use(accept=person)
        world.use(act=[person, person])
        world.subjects[person] = world.subject(person)
    for person in (ANN, CYD):
        world.step(person, "verified")
    *before, fence = world.rows(world.subjects[ANN])
    assert [row[1] for row in before].count("share") == 2
    assert [row[1] for row in before].count("collect") == 2
    assert fence[1:4] == ("erase", "requested", world.requests[ANN])
    # People go on using the app until their erasure is complete, some with a clock that is ahead of ours.
    world.producer.collected(ANN, "login", **LAWFUL, occurred_at=int(time.time() * 1000) + 3_600_000)
    world.use(act=[ANN])
    assert len(world.rows(world.subjects[ANN])) == len(before) + 4
    assert world.differences() == []


def test_the_link_is_dropped_and_the_marker_is_loaded(world: World) -> None:
    before = world.rows(world.subjects[ANN])
    world.step(ANN, "erased")
    assert world.state(ANN) == {"subject": None, "erased": [world.erased_at[ANN]], "facts": []}
    ledger = world.ledger()
    assert world.subjects[ANN] in ledger
    assert ledger.purged == frozenset()
    *rest, marker = world.rows(world.subjects[ANN])
    assert marker[1:4] == ("erase", "completed", world.requests[ANN])
    # Not purged yet, and that is in order.
    assert rest == before
    assert world.differences() == []


def test_a_revision_behind_the_marker_is_not_loaded(world: World) -> None:
    old = world.subjects[ANN]
    before = world.rows(old)
    [value] = [
        m.value()
        for batch in scan(world.kafka, LINEAGE)
        for m in batch
        if (m.partition(), m.offset()) == next(row[-2:] for row in before if row[1] == "share")
    ]
    name, record = Deserializer().decode(value)
    world.produce(LINEAGE, old, Serializer(name).encode(record | {"revision": 1_000_000}))
    world.settle()
    assert world.rows(old) == before
    # Nor is the person judged again for what came after the moment of the erasure.
    assert end_offsets(world.kafka.admin(), [topics.REVISION_REQUESTS]).keys() >= {(topics.REVISION_REQUESTS, 0)}
    assert [m for batch in scan(world.kafka, topics.REVISION_REQUESTS) for m in batch if m.key() == old] == []


def test_who_comes_back_is_suppressed_until_they_consent_anew(world: World) -> None:
    world.use(act=[ANN])
    new = world.subject(ANN)
    assert new != world.subjects[ANN]
    first, *rest = world.rows(new)
    assert first[1:4] == ("erase", "completed", UUID(int=0))
    assert {row[4] for row in rest} == {"violation"}
    assert all("5" in row[5] for row in rest)
    world.use(accept=ANN)
    world.use(act=[ANN])
    collected = [row for row in world.rows(new) if row[1] == "collect"]
    assert (collected[0][4], list(collected[0][5])) == ("violation", ["5"])
    assert collected[-1][4] == "lawful"
    assert world.differences() == []
    # What an auditor is shown.
    insert_subjects(
        world.client,
        np.frombuffer(of(ANN), np.uint8).reshape(1, 16),
        np.frombuffer(new, np.uint8).reshape(1, 16),
        np.array([1], np.uint64),
        "test",
    )
    told = subject_lineage(world.client, of(ANN))["events"][0]
    assert (told["activity"], told["erasure_phase"], told["request_id"]) == ("erase", "completed", None)
    explained = explain_event(world.client, UUID(told["event_id"]), published_policies(world.kafka), [])
    assert explained is not None
    assert "under another subject" in explained["text"]
    violation = next(row for row in subject_lineage(world.client, of(ANN))["events"] if row["verdict"] == "violation")
    explained = explain_event(world.client, UUID(violation["event_id"]), published_policies(world.kafka), [])
    assert explained is not None
    assert explained["agrees"]
    assert explained["facts"]["suppressed"]


def test_rows_that_outlive_the_purge_are_named(world: World) -> None:
    old = world.subjects[ANN]
    entry = {"erased_at": world.erased_at[ANN], "purged_at": int(time.time() * 1000)}
    world.produce(ERASED_SUBJECTS, old, Serializer("SubjectErased").encode(entry))
    rows = world.rows(old)
    named = world.differences()
    assert {reason for _, reason in named} == {"survived_erasure"}
    # Consents and markers too: none of them may be left.
    assert len(named) == len(rows)
    world.delete(f"subject = '{UUID(bytes=old)}'")
    assert world.differences() == []


def intents(world: World) -> list[TopicPartition]:
    """One for each partition, over all of it: as though nothing of it had been confirmed."""
    offsets: dict[int, list[int]] = {}
    for batch in scan(world.kafka, LINEAGE):
        for message in batch:
            offsets.setdefault(message.partition(), []).append(message.offset())
    of_each = [Intent.of(partition, np.array(all_of_it, np.int64)) for partition, all_of_it in offsets.items()]
    return [TopicPartition(LINEAGE, i.partition, i.start, i.metadata()) for i in of_each]


def as_another_group(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next loader has no offsets but those it is given: it is a group of its own."""
    world.group = f"loader-{uuid4().hex[:8]}"
    monkeypatch.setattr(loader_job, "GROUP", world.group)


def test_an_unfinished_insert_is_finished_without_the_erased(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.step(CYD, "erased")
    whole = world.rows()
    world.stop_loading()
    as_another_group(world, monkeypatch)
    committing = world.kafka.consumer(world.group)
    assert all(tp.error is None for tp in committing.commit(offsets=intents(world), asynchronous=False))
    committing.close()
    # Whoever is erased and not purged: the controller still looks for recipients in their rows.
    for person in (BOB, CYD):
        world.delete(f"subject = '{UUID(bytes=world.subjects[person])}' AND activity = 'share'")
    assert len(world.rows()) < len(whole)
    world.load()
    world.settle()
    assert world.rows() == whole
    assert world.rows(world.subjects[ANN]) == []


def test_a_rebuild_from_the_log_brings_nobody_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = world.rows()
    world.stop_loading()
    execute(world.client, "TRUNCATE TABLE lineage")
    as_another_group(world, monkeypatch)
    world.load()
    world.settle()
    assert world.rows() == whole
    assert world.rows(world.subjects[ANN]) == []
    # Cyd waits for the purge, which finds how far it must look.
    assert [row[2] for row in world.rows(world.subjects[CYD]) if row[1] == "erase"] == ["requested", "completed"]
    assert world.differences() == []
