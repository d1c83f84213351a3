"""Erasures over random disclosure graphs, at misbehaving recipients, with workers and the broker killed meanwhile:
every recipient that got data ends in its true final state, and nothing is left, in tables or in files.

LINEAGE_TEST_ERASURES and LINEAGE_TEST_KILLS make it larger (500 and 40 take a quarter of an hour).
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from clickhouse_driver import Client
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from infra.simulator.recipients import RecipientSimulator, load_profiles
from processors.erasure import FINAL
from processors.erasure_certificate import verify
from processors.erasure_commands import Grade
from processors.pseudonyms import alias
from sinks.clickhouse.client import connect
from sinks.clickhouse.erasures import erasure_requests, subjects_of_aliases
from sinks.clickhouse.purge import survivors
from streams.erasure_intake import ErasureIntake, IntakeError
from streams.kafka import Kafka
from streams.producer import LineageProducer
from streams.sealed_identities import find_sealed
from tests.bytes_on_disk import FORGETFUL, eventually_gone, found_in, hurry_compaction, plain_tables
from tests.erasure_log import ErasureLog, commands, contradicted, keys, last_key, read_log, recipients
from tests.integration.test_cli_stack import Lineage, eventually
from tests.integration.test_purge import forms

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(2400)]

ERASURES = int(os.environ.get("LINEAGE_TEST_ERASURES", "24"))
KILLS = int(os.environ.get("LINEAGE_TEST_KILLS", "4"))
# Long enough for the retries of whoever answers in the end.
TERM_S = 90 + ERASURES
PROTOCOLS = ("opendsr",) * 11 + ("http",) * 4 + ("kafka",) * 3 + ("ddrf",) * 2
RECIPIENTS = {f"recipient-{n:02}": protocol for n, protocol in enumerate(PROTOCOLS)}
# Nobody has said how to ask these: tasks for a person, whom nobody plays.
STRANGERS = ("stranger-1", "stranger-2")
KILLED = ("erasures", "tagger", "loader", "links", "requests", "kafka", "erasures")
# What was done later than that may not have come through by the end: half of all answers are worth nothing, breakers
# open for minutes, and OpenDSR processors are left half a minute to tell by themselves. Of what was done earlier this
# share at most: whoever hangs up on us often enough is not heard at all in so short a term.
LAST_MOMENT_MS = TERM_S * 1000 // 3
UNHEARD = 0.05
# What was said so shortly before the end may have been read after it.
SAYING_MS = 5_000


class Killer(threading.Thread):
    """Kills parts of the stack, by process id, at random moments; the stack starts them again."""

    def __init__(self, data: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self._data = data
        self._random = random.Random(seed)
        self.killed: list[str] = []

    def run(self) -> None:
        while len(self.killed) < KILLS:
            time.sleep(self._random.uniform(1.5, 5.0))
            name = self._random.choice(KILLED)
            part = json.loads((self._data / "stack.json").read_text())["parts"][name]
            if part["state"] == "running" and part["pid"]:
                with suppress(ProcessLookupError):
                    os.kill(part["pid"], signal.SIGKILL)
                    self.killed.append(name)


@dataclass
class Story:
    """What was done, and what came of it. `kept`: people whom nobody has erased. `sealed`: person → the records of
    `identities` before the erasure."""

    lineage: Lineage
    users: list[str]
    pepper: bytes
    requests: dict[UUID, str]
    kafka: Kafka
    truth: dict[str, Any]
    ended: dict[UUID, dict[str, Any]]
    killed: list[str]
    kept: list[str]
    sealed: dict[str, list[bytes]]
    log: ErasureLog

    def client(self) -> Client:
        return connect(json.loads((self.lineage.data / "stack.json").read_text())["clickhouse_url"])


def disclose(producer: LineageProducer, user: str, rng: random.Random, count: int) -> None:
    """Random edges: onward, in circles, to strangers, to nobody by name."""
    names = [*RECIPIENTS, *STRANGERS]
    for _ in range(count):
        if rng.random() < 0.05:
            producer.shared(user, None, ["user.content"], activity="publish", purpose="service")
            continue
        discloser = "self" if rng.random() < 0.6 else rng.choice(names)
        producer.shared(user, rng.choice(names), ["user.device"], discloser=discloser, purpose="service")


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    lineage = Lineage(tmp_path_factory.mktemp("erasures") / "data")
    plain_tables(lineage.data)
    os.environ["LINEAGE_ERASURE_TERM_DAYS"] = str(TERM_S / 86_400)
    try:
        done = lineage.run("up", "--background", "--json")
        assert done.returncode == 0, done.stderr
    finally:
        del os.environ["LINEAGE_ERASURE_TERM_DAYS"]
    state = json.loads((lineage.data / "stack.json").read_text())
    kafka = Kafka(state["kafka"])
    # It says `completed` and keeps the data: nobody could know.
    wild = load_profiles("wild").default.changed({"keep": 0.0, "huge_mib": 2})
    simulator = RecipientSimulator(lineage.data / "recipients", RECIPIENTS, wild, seed=5, kafka=kafka)
    simulator.start()
    try:
        simulator.write_connectors(lineage.data / "connectors.yaml", lineage.data / "secrets")
        yield play(lineage, kafka, simulator)
    finally:
        simulator.stop()
        lineage.run("down")


def play(lineage: Lineage, kafka: Kafka, simulator: RecipientSimulator) -> Story:
    rng = random.Random(11)
    pepper = (lineage.data / "secrets" / "pepper").read_bytes()
    public = (lineage.data / "secrets" / "controller-public.pem").read_bytes()
    users = [f"chaos-person-{n:05}@example.org" for n in range(ERASURES)]
    kept = [f"kept-person-{n:05}@example.org" for n in range(3)]
    with LineageProducer(kafka.bootstrap, pepper, public) as producer:
        for user in [*users, *kept]:
            disclose(producer, user, rng, rng.randint(1, 7))
        producer.flush()
        lineage("wait", "--timeout", "180")
        found = find_sealed(kafka, [alias(pepper, user) for user in [*users, *kept]])
        sealed = {user: [one.sealed for one in found[alias(pepper, user)]] for user in [*users, *kept]}
        killer = Killer(lineage.data, 3)
        killer.start()
        intake = ErasureIntake(kafka)
        # Of them a request stays open, as nobody has verified who they are.
        for user in kept:
            tell(intake, alias(pepper, user), uuid4(), "received")
        requests = {uuid4(): user for user in users}
        for request_id, user in requests.items():
            tell(intake, alias(pepper, user), request_id)
            if rng.random() < 0.2:
                # While it is being erased.
                disclose(producer, rng.choice(users), rng, 1)
        producer.flush()
        intake.close()
    killer.join(60 + 10 * KILLS)
    client = connect(json.loads((lineage.data / "stack.json").read_text())["clickhouse_url"])
    deadline = time.monotonic() + TERM_S + 180 + ERASURES
    while len(ended := everything_ended(client, requests)) < len(requests):
        assert time.monotonic() < deadline, f"{len(requests) - len(ended)} erasures do not end"
        time.sleep(1)
    log = read_log(kafka, requests.keys())
    return Story(lineage, users, pepper, requests, kafka, simulator.truth(), ended, killer.killed, kept, sealed, log)


def tell(intake: ErasureIntake, person: bytes, request_id: UUID, step: str = "verified") -> None:
    while True:
        try:
            intake.step(person, request_id, step, verified_by="test")
            return
        except IntakeError:
            # The broker has been killed: as any client would, once more.
            time.sleep(0.5)


def everything_ended(client: Client, requests: dict[UUID, str]) -> dict[UUID, dict[str, Any]]:
    found = erasure_requests(client, limit=100_000)
    return {UUID(d["request_id"]): d for d in found if d["ended_at"] is not None and UUID(d["request_id"]) in requests}


def test_parts_were_killed_and_recipients_misbehaved(story: Story) -> None:
    assert len(story.killed) == KILLS
    shown = Counter(what for recipient in story.truth.values() for what in recipient["shown"])
    assert {"error_500", "drop"} <= shown.keys(), shown
    states = Counter(t["state"] for d in story.ended.values() for t in recipients(d))
    assert states["completed"] > 0
    assert states["failed"] > 0


def test_whoever_got_data_is_a_target_in_a_final_state(story: Story) -> None:
    assert story.log.subjects.keys() == story.requests.keys()
    for request_id, document in story.ended.items():
        assert {t["id"] for t in recipients(document)} == set(story.log.count(request_id)), request_id
        assert all(t["state"] in FINAL for t in document["targets"])
        complete = all(t["state"] == "completed" for t in document["targets"])
        assert document["state"] == ("completed" if complete else "partially_completed")
        assert document["ended_at"] <= document["due_at"], "late"


def test_the_final_states_are_true(story: Story) -> None:
    heard, unheard = 0, []
    for request_id, document in story.ended.items():
        for target in recipients(document):
            if target["id"] not in RECIPIENTS:
                assert target["state"] == "failed"
                continue
            did = commands(story.truth, target["id"]).get(last_key(request_id, target))
            where = f"{request_id} {target['id']} ({RECIPIENTS[target['id']]}): {target['state']}, {target['detail']}"
            if target["state"] == "completed":
                assert did is not None, where
                assert did["deleted_at"] is not None, where
                assert did["first_seen"] >= story.log.last_judged(request_id, target["id"]), f"asked too soon: {where}"
                assert Grade[target["grade"]] >= Grade.claimed, where
                heard += 1
            elif did is not None and did["deleted_at"] is not None and RECIPIENTS[target["id"]] != "ddrf":
                # Deleted, but not said in time: nothing of what was said came through.
                assert "term" in target["ground"], where
                told = [c for c in did["callbacks"] if c["status"] == "completed" and c["result"] == "delivered"]
                assert all(c["at"] > target["ended_at"] - SAYING_MS for c in told), where
                if RECIPIENTS[target["id"]] != "kafka" and did["deleted_at"] <= target["ended_at"] - LAST_MOMENT_MS:
                    unheard.append(where)
    assert len(unheard) <= UNHEARD * heard, unheard


def test_nobody_is_asked_twice_but_with_the_same_key_or_for_new_data(story: Story) -> None:
    allowed: defaultdict[str, set[UUID]] = defaultdict(set)
    for request_id, document in story.ended.items():
        counts = story.log.count(request_id)
        for target in recipients(document):
            assert target["round"] < counts[target["id"]], "asked again without new data"
            allowed[target["id"]] |= keys(request_id, target)
    for name in RECIPIENTS:
        assert commands(story.truth, name).keys() <= allowed[name], name


def test_alarms_are_of_those_who_got_data_after_their_word(story: Story) -> None:
    for request_id, document in story.ended.items():
        assert {alarm.split()[0] for alarm in document["alarms"]} == contradicted(story.log, document), request_id


def test_certificates_verify_and_name_nobody(story: Story) -> None:
    key: Any = load_pem_public_key((story.lineage.data / "secrets" / "certificate-public.pem").read_bytes())
    for request_id, document in story.ended.items():
        checked = verify(document["certificate"], [key])
        assert (checked.valid, checked.trusted, checked.request_id) == (True, True, str(request_id))
        said = json.dumps(checked.claims)
        assert story.requests[request_id] not in said
        assert alias(story.pepper, story.requests[request_id]).hex() not in said
        assert str(story.log.subjects[request_id]) not in said


def test_nothing_survives(story: Story) -> None:
    client = story.client()
    eventually(lambda: not any(survivors(client, list(story.log.subjects.values())).values()), 30)
    assert not any(find_sealed(story.kafka, [alias(story.pepper, u) for u in story.users]).values())
    for user in story.users[:5]:
        answer = story.lineage("subject", user)
        # Somebody who got more data afterwards is somebody else now, and all of it is a violation.
        assert all(e["verdict"] != "lawful" for e in answer["events"])


def test_no_user_id_is_in_the_files(story: Story) -> None:
    wanted = {user.encode() for user in [*story.users, *story.kept]}
    data = story.lineage.data
    assert not found_in(wanted, data / "kafka", data / "clickhouse", data / "logs")


def test_erased_people_leave_the_files_of_clickhouse(story: Story) -> None:
    folder = story.lineage.data / "clickhouse"
    erased = [form for subject in story.log.subjects.values() for form in forms(subject.bytes)]
    assert not eventually_gone(erased, [folder], 120)
    kept = subjects_of_aliases(story.client(), [alias(story.pepper, user) for user in story.kept])
    for subject in kept.values():
        assert found_in(forms(subject.bytes), folder), "the search must be able to find somebody"


def test_their_link_and_identifiers_leave_the_files_of_kafka(story: Story) -> None:
    """Once compaction has come by, within the hour; here it is made to come at once."""
    log = story.lineage.data / "kafka" / "log"
    links, requests, identities = ([*log.glob(f"{topic}-*")] for topic in FORGETFUL)
    subjects = [subject.bytes for subject in story.log.subjects.values()]
    sealed = {user: [middle(one) for one in found] for user, found in story.sealed.items()}
    assert all(sealed.values())
    beat = hurry_compaction(story.kafka)
    assert not eventually_gone(subjects, [*links, *requests], 180, beat)
    assert not eventually_gone([alias(story.pepper, user) for user in story.users], requests, 180, beat)
    assert not eventually_gone([one for user in story.users for one in sealed[user]], identities, 180, beat)

    aliases = [alias(story.pepper, user) for user in story.kept]
    for person, subject in subjects_of_aliases(story.client(), aliases).items():
        assert found_in([subject.bytes], *links)
        assert found_in([person], *requests)
    assert all(found_in(sealed[user], *identities) for user in story.kept)


def middle(sealed: bytes) -> bytes:
    """Of sealed bytes some that no compression takes apart."""
    return sealed[len(sealed) // 2 :][:24]


def test_verification_finds_nothing_wrong(story: Story) -> None:
    answer = story.lineage("verify")
    assert answer["different"] == 0, answer["differences"][:5]
