"""Random disclosure graphs through the whole stack: hops, circles, disclosures that come while the erasure runs,
recipients that nobody can call. Every recipient that got data ends as a target in its true final state.

LINEAGE_TEST_STACK_GRAPHS makes it larger (200 take some three minutes).
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from clickhouse_driver import Client
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from infra.simulator.recipients import Profile, RecipientSimulator
from infra.simulator.recipients.profiles import Profiles, named_profiles
from processors.erasure import FINAL, PUBLIC
from processors.erasure_certificate import verify
from processors.erasure_commands import Grade
from processors.pseudonyms import alias
from sinks.clickhouse.client import connect
from sinks.clickhouse.erasures import erasure_requests
from sinks.clickhouse.purge import survivors
from streams.erasure_intake import ErasureIntake
from streams.identities import Identity
from streams.kafka import Kafka
from streams.producer import LineageProducer
from streams.sealed_identities import find_sealed
from tests.erasure_log import ErasureLog, commands, contradicted, keys, last_key, read_log, recipients
from tests.integration.test_cli_stack import Lineage, eventually

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(1200)]

GRAPHS = int(os.environ.get("LINEAGE_TEST_STACK_GRAPHS", "12"))
TERM_S = 34 + GRAPHS // 3

# How they are asked, how they behave, and how each of them must end.
CALLED = {
    "opendsr-1": "opendsr",
    "opendsr-2": "opendsr",
    "opendsr-3": "opendsr",
    "http-1": "http",
    "http-2": "http",
    "kafka-1": "kafka",
    "kafka-2": "kafka",
    "ddrf-1": "ddrf",
    "refuser": "opendsr",
    "retainer": "http",
    "stranger-to-ids": "opendsr",
    "silent": "http",
    "mailer": "opendsr",
}
# A lost callback is made good by an inquiry, for which a short term has no time.
MILD = named_profiles()["mild"].changed({"late": 0.0, "slow": 0.02, "lose_callback": 0.05 if TERM_S > 90 else 0.0})
PROFILES = Profiles(
    MILD,
    {
        **dict.fromkeys(("kafka-1", "kafka-2"), MILD.changed({"lose_callback": 0.2 if TERM_S > 90 else 0.0})),
        # Knows people by what came with its own data only.
        "mailer": MILD.changed({"identities": ["email"]}),
        "refuser": Profile(refuse=1.0),
        "retainer": Profile(exempt=1.0),
        "stranger-to-ids": Profile(identities=("ios_advertising_id",)),
        "silent": Profile(never=1.0),
    },
)
GOOD = ("opendsr-1", "opendsr-2", "opendsr-3", "http-1", "http-2", "kafka-1", "kafka-2")
ENDS = {
    **dict.fromkeys((*GOOD, "mailer"), "completed"),
    # Its framework has no word for a deletion that is done.
    "ddrf-1": "failed",
    "refuser": "failed",
    "retainer": "exempt",
    "stranger-to-ids": "unsupported",
    "silent": "failed",
    # Of these three a person has to ask: one confirms, one lets it expire, one was never heard of.
    "clerk": "completed",
    "drawer": "failed",
    "unheard-of": "failed",
    "bureau": "exempt",
}
REGISTRY = """
recipients:
  - {id: bureau, kind: authority, effective_at: 2019-01-01T00:00:00Z, name: Bureau, country: CN}
"""


@dataclass(frozen=True)
class Edge:
    """`at`: seconds after the request; None: before it."""

    discloser: str
    recipient: str | None
    at: float | None


@dataclass
class Story:
    """What was done, and what came of it. `confirmed`: key → when the clerk's deletion was told (ms)."""

    lineage: Lineage
    pepper: bytes
    kafka: Kafka
    requests: dict[UUID, str] = field(default_factory=dict)
    doubles: list[UUID] = field(default_factory=list)
    confirmed: dict[UUID, int] = field(default_factory=dict)
    truth: dict[str, Any] = field(default_factory=dict)
    ended: dict[UUID, dict[str, Any]] = field(default_factory=dict)
    log: ErasureLog = field(default_factory=ErasureLog)

    def client(self) -> Client:
        return connect(json.loads((self.lineage.data / "stack.json").read_text())["clickhouse_url"])

    def takes_down(self, request_id: UUID) -> bool:
        """Whether somebody takes a publication of the person down."""
        return request_id.int % 2 == 0


def draw(rng: random.Random) -> list[Edge]:
    """A graph of one person: some of the recipients, in any order, onward and in circles, early and late."""
    names = rng.sample([*ENDS], rng.randint(1, 7))
    edges = [Edge("self", names[0], None)] if rng.random() < 0.9 else []
    for _ in range(rng.randint(0, 2 * len(names))):
        at = None if rng.random() < 0.6 else rng.choice((0.0, rng.uniform(0, 3), rng.uniform(0, TERM_S / 2)))
        if rng.random() < 0.08:
            edges.append(Edge("self", None, at))
            continue
        edges.append(Edge(rng.choice(("self", *names)), rng.choice(names), at))
    if len(names) > 1 and rng.random() < 0.3:
        edges += [Edge(a, b, None) for a, b in zip(names, [*names[1:], names[0]], strict=True)]
    # Now and then nobody has ever got anything.
    return [] if rng.random() < 0.05 else edges


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("graphs")
    lineage = Lineage(folder / "data")
    registry = folder / "recipients.yaml"
    registry.write_text(REGISTRY)
    os.environ["LINEAGE_ERASURE_TERM_DAYS"] = str(TERM_S / 86_400)
    try:
        done = lineage.run("up", "--background", "--recipients", str(registry), "--json")
        assert done.returncode == 0, done.stderr
    finally:
        del os.environ["LINEAGE_ERASURE_TERM_DAYS"]
    kafka = Kafka(json.loads((lineage.data / "stack.json").read_text())["kafka"])
    simulator = RecipientSimulator(lineage.data / "recipients", CALLED, PROFILES, seed=7, kafka=kafka)
    simulator.start()
    try:
        write_connectors(lineage.data, simulator)
        told = Story(lineage, (lineage.data / "secrets" / "pepper").read_bytes(), kafka)
        play(told)
        told.truth = simulator.truth()
        yield told
    finally:
        simulator.stop()
        lineage.run("down")


def write_connectors(data: Path, simulator: RecipientSimulator) -> None:
    path = data / "connectors.yaml"
    simulator.write_connectors(path, data / "secrets")
    document = yaml.safe_load(path.read_text())
    document["recipients"]["clerk"] = {"protocol": "manual", "contact": "clerk@clerk.example"}
    expiring = {"protocol": "manual", "remind_days": [2 / 86_400], "expire_days": 5 / 86_400}
    document["recipients"]["drawer"] = expiring
    path.write_text(yaml.safe_dump(document))


def play(story: Story) -> None:
    rng = random.Random(13)
    users = [f"graph-person-{n:05}@example.org" for n in range(GRAPHS)]
    graphs = {user: draw(rng) for user in users}
    public = (story.lineage.data / "secrets" / "controller-public.pem").read_bytes()
    intake = ErasureIntake(story.kafka)
    late: list[tuple[float, str, Edge]] = []
    with LineageProducer(story.kafka.bootstrap, story.pepper, public) as producer:
        for user, graph in graphs.items():
            for edge in graph:
                if edge.at is None:
                    disclose(producer, user, edge)
            # Not even the producer has been waited for: what overtakes what is left to chance.
            if rng.random() < 0.5:
                producer.flush()
            request_id = uuid4()
            story.requests[request_id] = user
            intake.step(alias(story.pepper, user), request_id, "verified", verified_by="test")
            if rng.random() < 0.1:
                story.doubles.append(uuid4())
                intake.step(alias(story.pepper, user), story.doubles[-1], "verified", verified_by="test")
            late += [(time.monotonic() + edge.at, user, edge) for edge in graph if edge.at is not None]
        late.sort(key=lambda one: one[0])
        client, deadline = story.client(), time.monotonic() + TERM_S + 120 + GRAPHS
        while len(story.ended) < len(story.requests) + len(story.doubles):
            assert time.monotonic() < deadline, "some erasures do not end"
            while late and late[0][0] <= time.monotonic():
                _, user, edge = late.pop(0)
                disclose(producer, user, edge)
            look(story, client, intake)
            time.sleep(0.2)
    intake.close()
    story.log = read_log(story.kafka, story.requests.keys())


def disclose(producer: LineageProducer, user: str, edge: Edge) -> None:
    activity = "publish" if edge.recipient is None else "share"
    identities = [Identity("email", "raw", user)] if edge.recipient == "mailer" else []
    producer.shared(
        user,
        edge.recipient,
        ["user.device"],
        activity=activity,
        discloser=edge.discloser,
        purpose="service",
        identities=identities,
    )


def look(story: Story, client: Client, intake: ErasureIntake) -> None:
    """Plays the person whom manual tasks are for; what they confirm they have seen done."""
    for document in erasure_requests(client, limit=100_000):
        request_id = UUID(document["request_id"])
        if document["ended_at"] is not None:
            story.ended[request_id] = document
            continue
        for target in recipients(document):
            does = target["id"] == "clerk" or (target["id"] == PUBLIC and story.takes_down(request_id))
            key = last_key(request_id, target)
            if does and target["state"] == "dispatched" and key not in story.confirmed:
                story.confirmed[key] = int(time.time() * 1000)
                intake.receipt(
                    request_id, target["id"], "completed", grade=Grade.claimed, source="manual", idempotency_key=key
                )


def test_whoever_got_data_is_a_target_in_a_final_state(story: Story) -> None:
    assert story.log.subjects.keys() == story.requests.keys()
    for request_id in story.requests:
        document = story.ended[request_id]
        assert {t["id"] for t in recipients(document)} == set(story.log.count(request_id)), request_id
        assert all(t["state"] in FINAL for t in document["targets"])
        complete = all(t["state"] == "completed" for t in document["targets"])
        assert document["state"] == ("completed" if complete else "partially_completed")
    assert {story.ended[request_id]["state"] for request_id in story.doubles} <= {"joined"}


def test_each_ends_as_it_behaved(story: Story) -> None:
    for request_id in story.requests:
        for target in recipients(story.ended[request_id]):
            expected = ENDS.get(target["id"]) or ("completed" if story.takes_down(request_id) else "failed")
            assert target["state"] == expected, f"{request_id} {target}"
            assert target["state"] == "completed" or target["ground"] or target["detail"], "failed without a reason"


def test_the_final_states_are_true(story: Story) -> None:
    for request_id in story.requests:
        for target in recipients(story.ended[request_id]):
            where = f"{request_id} {target}"
            last, key = story.log.last_judged(request_id, target["id"]), last_key(request_id, target)
            if target["id"] not in CALLED:
                confirmed = story.confirmed.get(key)
                assert (confirmed is not None and confirmed >= last) == (target["state"] == "completed"), where
                continue
            did = commands(story.truth, target["id"]).get(key)
            deleted = did is not None and did["deleted_at"] is not None
            if CALLED[target["id"]] == "ddrf":
                assert did is not None, where
                continue
            assert deleted == (target["state"] == "completed"), where
            if did is not None:
                assert did["first_seen"] >= last, f"asked before the data was there: {where}"


def test_nobody_is_asked_again_but_for_new_data(story: Story) -> None:
    allowed: defaultdict[str, set[UUID]] = defaultdict(set)
    for request_id in story.requests:
        counts = story.log.count(request_id)
        for target in recipients(story.ended[request_id]):
            assert target["round"] < counts[target["id"]]
            allowed[target["id"]] |= keys(request_id, target)
    for name in CALLED:
        assert commands(story.truth, name).keys() <= allowed[name]


def test_alarms_are_of_those_who_got_data_after_their_word(story: Story) -> None:
    for request_id in story.requests:
        document = story.ended[request_id]
        assert {alarm.split()[0] for alarm in document["alarms"]} == contradicted(story.log, document), request_id


def test_certificates_verify_and_name_nobody(story: Story) -> None:
    key: Any = load_pem_public_key((story.lineage.data / "secrets" / "certificate-public.pem").read_bytes())
    for request_id, user in story.requests.items():
        checked = verify(story.ended[request_id]["certificate"], [key])
        assert (checked.valid, checked.trusted, checked.request_id) == (True, True, str(request_id))
        said = json.dumps(checked.claims)
        for identifier in (user, alias(story.pepper, user).hex(), str(story.log.subjects[request_id])):
            assert identifier not in said


def test_nothing_survives(story: Story) -> None:
    client = story.client()
    eventually(lambda: not any(survivors(client, list(story.log.subjects.values())).values()), 30)
    assert not any(find_sealed(story.kafka, [alias(story.pepper, u) for u in story.requests.values()]).values())
    answer = story.lineage("verify")
    assert answer["different"] == 0, answer["differences"][:5]


def test_the_graphs_were_not_tame(story: Story) -> None:
    """The rest says little where nothing happens."""
    targets = [t for request_id in story.requests for t in recipients(story.ended[request_id])]
    assert any(t["round"] for t in targets)
    assert any((t["hop"] or 0) > 1 for t in targets)
    if GRAPHS >= 100:
        assert {t["id"] for t in targets} == {*ENDS, PUBLIC}
        assert any(t["hop"] is None for t in targets)
        assert any(d["alarms"] for d in story.ended.values())
        assert story.doubles
    shown = Counter(what for recipient in story.truth.values() for what in recipient["shown"])
    print(len(targets), Counter(t["state"] for t in targets), max(t["round"] for t in targets), shown)
