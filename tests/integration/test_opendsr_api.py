"""The OpenDSR processor as a process on real Kafka and ClickHouse: what it answers, signs, and writes."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from confluent_kafka.admin import AdminClient
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.verification import PolicyBuilder, Store

from processors.erasure import DAY, Callback, Request, Target, to_record
from processors.partitioning import partition_of
from processors.pseudonyms import alias
from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect
from sinks.clickhouse.erasures import insert_erasure_states
from streams.identities import load_private_key, open_sealed
from streams.kafka import Kafka
from streams.scan import scan
from streams.serdes import Deserializer
from streams.topics import ERASURE_REQUESTS, IDENTITIES, apply, plan
from tests.api_process import ApiProcess, api_process
from tests.kafka_fixture import KafkaForTests

BASE = "/opendsr/2.0"
PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "opendsr" / "spec-2.0-examples.ndjson"
CALLBACK = "https://shop.example.org/opendsr"


@pytest.fixture(scope="module")
def api(kafka: KafkaForTests, clickhouse: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    apply(admin, [change for change in plan(admin, partitions=4) if change.action == "create"])
    url = clickhouse.database().url
    client = connect(url)
    migrate.apply(client)
    client.disconnect()
    with api_process(tmp_path_factory.mktemp("api"), kafka.bootstrap, url) as running:
        yield running


@pytest.fixture(scope="module")
def shop(api: ApiProcess) -> Iterator[httpx.Client]:
    """A client that vouches for people's identity."""
    with api.client(api.token("shop", verifies_identity=True)) as client:
        yield client


@pytest.fixture(scope="module")
def desk(api: ApiProcess) -> Iterator[httpx.Client]:
    """A client that does not."""
    with api.client(api.token("desk")) as client:
        yield client


def body(user: str, request_id: UUID | None = None, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "regulation": "gdpr",
        "subject_request_id": str(request_id or uuid4()),
        "subject_request_type": "erasure",
        "submitted_time": "2026-03-01T08:00:00Z",
        "subject_identities": [
            {"identity_type": "controller_customer_id", "identity_format": "raw", "identity_value": user}
        ],
        "status_callback_urls": [CALLBACK],
        "api_version": "2.0",
    }
    return {name: value for name, value in (given | changes).items() if value is not None}


def email(address: str) -> dict[str, str]:
    return {"identity_type": "email", "identity_format": "raw", "identity_value": address}


def steps(api: ApiProcess, request_id: UUID) -> list[dict[str, Any]]:
    """What stands in Kafka of a request, each with the alias that it lies under."""
    found = []
    for batch in scan(Kafka(api.settings.kafka().bootstrap), ERASURE_REQUESTS):
        for message in batch:
            record = Deserializer().decode(message.value())[1]
            if record["request_id"] == request_id.bytes:
                assert message.partition() == partition_of(message.key(), 4)
                found.append({**record, "alias": message.key()})
    return found


def project(api: ApiProcess, request: Request, version: int) -> None:
    """Puts a request into the projection, as the job `requests` does."""
    client = connect(api.settings.clickhouse())
    insert_erasure_states(client, [to_record(request)], [version], f"{request.request_id}:{version}")
    client.disconnect()


def verified(api: ApiProcess, answer: httpx.Response) -> dict[str, Any]:
    """The answer's body, once its signature has been checked from nothing but what discovery says."""
    found = httpx.get(f"{api.url}{BASE}/discovery").json()
    certificate = x509.load_pem_x509_certificate(httpx.get(found["processor_certificate"]).content)
    authority = x509.load_pem_x509_certificate((api.settings.data / "secrets" / "opendsr-ca.pem").read_bytes())
    domain = answer.headers["X-OpenDSR-Processor-Domain"]
    PolicyBuilder().store(Store([authority])).build_server_verifier(x509.DNSName(domain)).verify(certificate, [])
    key = certificate.public_key()
    assert isinstance(key, RSAPublicKey)
    signature = base64.b64decode(answer.headers["X-OpenDSR-Signature"], validate=True)
    key.verify(signature, answer.content, PKCS1v15(), hashes.SHA256())
    with pytest.raises(InvalidSignature):
        key.verify(signature, answer.content + b" ", PKCS1v15(), hashes.SHA256())
    answered: dict[str, Any] = answer.json()
    return answered


# The published examples


@pytest.fixture(scope="module")
def published() -> dict[str, dict[str, Any]]:
    if not PUBLISHED.exists():
        pytest.skip("no ../shared/data/opendsr beside the project")
    blocks = [json.loads(line) for line in PUBLISHED.read_text("utf-8").splitlines()]
    return {block["heading"].split()[0].rstrip("."): block for block in blocks}


def test_discovery_as_published(api: ApiProcess, published: dict[str, dict[str, Any]]) -> None:
    method, path, _ = published["6.1"]["start_line"].split()
    for base in ("", BASE):
        answer = httpx.request(method, f"{api.url}{base}{path}", headers={"Accept": "application/json"})
        assert answer.status_code == 200
        assert answer.json().keys() == published["6.4"]["body"].keys()
    found = answer.json()
    assert found["api_version"] == "2.0"
    assert found["supported_identities"] == [{"identity_type": "controller_customer_id", "identity_format": "raw"}]
    assert found["supported_subject_request_types"] == ["erasure"]
    assert httpx.URL(found["processor_certificate"]).host == httpx.URL(api.url).host


def test_the_published_request_is_refused_and_mended_is_taken(
    api: ApiProcess, shop: httpx.Client, published: dict[str, dict[str, Any]]
) -> None:
    example = published["7.2"]
    method, path, _ = example["start_line"].split()

    def send(content: str) -> httpx.Response:
        return shop.request(method, path, content=content, headers={"Content-Type": "application/json"})

    as_published = send(example["body_raw"])
    assert as_published.status_code == 400
    assert "not JSON" in as_published.json()["error"]["message"]
    mended = re.sub(r",(\s*[}\]])", r"\1", example["body_raw"])
    refused = send(mended)
    assert refused.status_code == 400
    # The specification requires a regulation, which its example has not; and we know nobody by an e-mail address.
    assert [each["reason"] for each in refused.json()["error"]["errors"]] == ["missing", "unsupported"]
    assert "johndoe" not in refused.text
    whole = json.loads(mended) | {"regulation": "gdpr", "subject_request_id": str(uuid4())}
    whole["subject_identities"].append(body("johndoe")["subject_identities"][0])
    taken = send(json.dumps(whole))
    assert taken.status_code == 201
    answer = verified(api, taken)
    assert answer.keys() == published["7.4"]["body"].keys()
    assert base64.b64decode(answer["encoded_request"]) == taken.request.content
    assert answer["subject_request_id"] == whole["subject_request_id"]
    status = shop.get(f"{path}/{whole['subject_request_id']}")
    assert verified(api, status).keys() >= published["8.4"]["body"].keys() - {"results_url", "results_count"}
    assert status.json()["request_status"] == "pending"
    cancelled = shop.delete(f"{path}/{whole['subject_request_id']}")
    assert cancelled.status_code == int(published["9.3"]["start_line"].split()[1])
    assert verified(api, cancelled).keys() == published["9.3"]["body"].keys()


def test_errors_as_published(shop: httpx.Client, published: dict[str, dict[str, Any]]) -> None:
    answer = shop.post("/requests", json=body("u", subject_request_id=None))
    error, example = answer.json()["error"], published["7.7"]["body"]["error"]
    assert answer.status_code == error["code"] == example["code"]
    assert error["message"] == example["message"]
    assert error.keys() == example.keys()
    assert error["errors"][0].keys() == example["errors"][0].keys()
    assert error["errors"][0]["message"] == example["errors"][0]["message"]
    assert answer.headers["cache-control"] == "no-store"


# What becomes of a request


def test_a_request_is_in_kafka_before_it_is_answered(api: ApiProcess, shop: httpx.Client) -> None:
    request_id, user = uuid4(), f"user-{uuid4()}"
    identities = [*body(user)["subject_identities"], email("someone@example.org")]
    answer = shop.post(f"{BASE}/requests", json=body(user, request_id, subject_identities=identities))
    assert answer.status_code == 201
    person = alias(api.settings.pepper(), user)
    received, verified_ = steps(api, request_id)
    assert (received["step"], verified_["step"]) == ("received", "verified")
    for step in (received, verified_):
        assert step["alias"] == person
        assert (step["origin"], step["regulation"], step["requester"]) == ("opendsr", "gdpr", "shop")
        assert step["callback_urls"] == [CALLBACK]
    assert "shop" in verified_["verified_by"]
    sealed = [
        (message, Deserializer().decode(message.value())[1])
        for batch in scan(Kafka(api.settings.kafka().bootstrap), IDENTITIES)
        for message in batch
        if message.key() is not None and message.key()[:16] == person
    ]
    [(message, record)] = sealed
    assert (len(message.key()), message.partition()) == (24, partition_of(person, 4))
    opened = open_sealed(load_private_key(api.settings.controller_private_key()), person, record["sealed"])
    assert sorted(opened, key=str) == sorted(identities, key=str)
    assert user.encode() not in message.value() + message.key()
    assert user not in api.log.read_text()


def test_who_does_not_vouch_for_identity_only_has_it_received(api: ApiProcess, desk: httpx.Client) -> None:
    request_id = uuid4()
    assert desk.post(f"{BASE}/requests", json=body("u-desk", request_id)).status_code == 201
    assert [step["step"] for step in steps(api, request_id)] == ["received"]


def test_a_repetition_is_the_same_request(api: ApiProcess, shop: httpx.Client) -> None:
    request_id = uuid4()
    given = body("u-again", request_id)
    first, second = (shop.post(f"{BASE}/requests", json=given) for _ in range(2))
    assert first.content == second.content
    assert len(steps(api, request_id)) == 2
    for change in ({"regulation": "ccpa"}, {"status_callback_urls": None}, body("u-other", request_id)):
        refused = shop.post(f"{BASE}/requests", json={**given, **change, "submitted_time": "2026-03-01T08:00:01Z"})
        assert (refused.status_code, refused.json()["error"]["errors"][0]["reason"]) == (400, "conflict")
    assert len(steps(api, request_id)) == 2


def test_a_repetition_is_known_from_the_projection_too(api: ApiProcess, shop: httpx.Client, desk: httpx.Client) -> None:
    """What another process accepted, or this one before it was started again."""
    request_id, user = uuid4(), "u-projected"
    request = Request(
        request_id,
        1_700_000_000_123,
        alias=alias(api.settings.pepper(), user),
        origin="opendsr",
        regulation="gdpr",
        requester="shop",
        callbacks=(Callback(CALLBACK),),
    )
    project(api, request, 1)
    for change in (body("u-stranger", request_id), {"regulation": "ccpa"}, {"status_callback_urls": []}):
        assert shop.post(f"{BASE}/requests", json=body(user, request_id) | change).status_code == 400
    assert desk.post(f"{BASE}/requests", json=body(user, request_id)).status_code == 400
    assert steps(api, request_id) == []
    same = shop.post(f"{BASE}/requests", json=body(user, request_id))
    assert same.status_code == 201
    assert same.json()["received_time"] == "2023-11-14T22:13:20.123Z"
    # It had been received and no more: now its identity is vouched for.
    assert [step["step"] for step in steps(api, request_id)] == ["verified"]


NOW = 1_760_000_000_000
STATES = {
    "received": "pending",
    "verified": "pending",
    "enumerating": "pending",
    "dispatching": "in_progress",
    "awaiting": "in_progress",
    "purging": "in_progress",
    "completed": "completed",
    "partially_completed": "completed",
    "cancelled": "cancelled",
    "refused": "cancelled",
}


@pytest.mark.parametrize(("state", "status"), STATES.items())
def test_states_are_told_in_opendsrs_words(api: ApiProcess, shop: httpx.Client, state: str, status: str) -> None:
    request = Request(
        uuid4(),
        NOW,
        alias=b"a" * 16,
        state=state,
        requester="shop",
        due_at=NOW + 30 * DAY,
        ground="a reason" if state in ("cancelled", "refused") else "",
        targets=(Target("lumen", hop=1, state="failed", grade="claimed", ground="insolvent"), Target("store:lineage")),
    )
    project(api, request, 1)
    answer = verified(api, shop.get(f"{BASE}/requests/{request.request_id}"))
    assert answer["request_status"] == status
    assert answer["controller_id"] == "shop"
    assert answer["expected_completion_time"] == "2025-11-08T08:53:20.000Z"
    detail = answer["extensions"]["localhost"]
    assert (detail["state"], detail.get("ground", "")) == (state, request.ground)
    assert detail["targets"][0] == {"target": "lumen", "state": "failed", "grade": "claimed", "ground": "insolvent"}
    cancelled = shop.delete(f"{BASE}/requests/{request.request_id}")
    if status == "pending":
        assert (cancelled.status_code, cancelled.json()["controller_id"]) == (202, "shop")
        [step] = steps(api, request.request_id)
        assert (step["step"], step["alias"], step["requester"]) == ("cancelled", b"a" * 16, "shop")
    else:
        assert cancelled.status_code == 400
        assert steps(api, request.request_id) == []


def test_a_request_that_joined_another_is_answered_by_it(api: ApiProcess, shop: httpx.Client) -> None:
    main = Request(uuid4(), NOW, alias=b"b" * 16, state="awaiting", requester="other", due_at=NOW + DAY)
    joined = Request(uuid4(), NOW, state="joined", joined=main.request_id, requester="shop", ended_at=NOW)
    project(api, main, 1)
    project(api, joined, 1)
    answer = shop.get(f"{BASE}/requests/{joined.request_id}").json()
    assert (answer["subject_request_id"], answer["request_status"]) == (str(joined.request_id), "in_progress")
    assert answer["extensions"]["localhost"]["state"] == "awaiting"
    refused = shop.delete(f"{BASE}/requests/{joined.request_id}")
    assert (refused.status_code, "joined" in refused.text) == (400, True)
    assert shop.get(f"{BASE}/requests/{main.request_id}").status_code == 404


def test_a_joined_request_that_is_sent_again_may_verify_the_other(api: ApiProcess, shop: httpx.Client) -> None:
    """As when the API died between the two steps, and the first one was joined with a request not yet verified."""
    request_id = uuid4()
    joined = Request(request_id, NOW, state="joined", regulation="gdpr", joined=uuid4(), requester="shop", ended_at=NOW)
    project(api, joined, 1)
    assert shop.post(f"{BASE}/requests", json=body("u-joined", request_id)).status_code == 201
    assert [step["step"] for step in steps(api, request_id)] == ["verified"]


def test_a_cancellation_is_asked_for_once(api: ApiProcess, shop: httpx.Client) -> None:
    request_id = uuid4()
    shop.post(f"{BASE}/requests", json=body("u-cancel", request_id))
    first, second = (shop.delete(f"{BASE}/requests/{request_id}") for _ in range(2))
    assert (first.status_code, first.content) == (202, second.content)
    assert [step["step"] for step in steps(api, request_id)] == ["received", "verified", "cancelled"]


def test_nobody_learns_of_anothers_requests(shop: httpx.Client, desk: httpx.Client) -> None:
    request_id = uuid4()
    assert shop.post(f"{BASE}/requests", json=body("u-private", request_id)).status_code == 201
    for client, path in ((desk, str(request_id)), (shop, str(uuid4())), (shop, str(request_id).upper()), (shop, "x")):
        assert client.get(f"{BASE}/requests/{path}").status_code == 404
        assert client.delete(f"{BASE}/requests/{path}").status_code == 404


# Who, and how much


def test_only_erasers_are_let_in(api: ApiProcess) -> None:
    path = f"{BASE}/requests/{uuid4()}"
    with api.client() as nobody, api.client("wrong") as stranger, api.client(api.token("eye", "auditor")) as auditor:
        for client, code in ((nobody, 401), (stranger, 401), (auditor, 403)):
            for answer in (client.post(f"{BASE}/requests", json=body("u")), client.get(path), client.delete(path)):
                assert (answer.status_code, answer.json()["error"]["code"]) == (code, code)
                assert "X-OpenDSR-Signature" not in answer.headers
        assert nobody.get(path).headers["www-authenticate"] == "Bearer"


def test_bodies_have_an_end(shop: httpx.Client) -> None:
    large = b" " * (300 << 10)
    assert shop.post(f"{BASE}/requests", content=large).status_code == 413
    # Without a length that is told beforehand.
    assert shop.post(f"{BASE}/requests", content=(large[:1000] for _ in range(300))).status_code == 413
    padded = json.dumps(body("u-padded")).encode() + b" " * (200 << 10)
    assert shop.post(f"{BASE}/requests", content=padded).status_code == 201


def test_without_clickhouse_nothing_is_taken_and_that_is_said(api: ApiProcess, tmp_path: Path) -> None:
    dead = "clickhouse://127.0.0.1:1/default?connect_timeout=1"
    with api_process(tmp_path, api.settings.kafka().bootstrap, dead) as lame:
        request_id = uuid4()
        with lame.client(lame.token("shop", verifies_identity=True)) as client:
            answer = client.post(f"{BASE}/requests", json=body("u", request_id))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert client.get("/readyz").json() == {"ready": False, "missing": ["clickhouse"]}
            assert client.get("/healthz").status_code == 200
            assert "lineage_erasure_projection_up 0.0" in client.get("/metrics").text
        assert steps(api, request_id) == []


def test_a_regulation_default_takes_the_published_form(api: ApiProcess, tmp_path: Path) -> None:
    found = api.settings
    with (
        api_process(tmp_path, found.kafka().bootstrap, found.clickhouse(), LINEAGE_OPENDSR_REGULATION="ccpa") as other,
        other.client(other.token("shop")) as client,
    ):
        request_id = uuid4()
        assert client.post("/requests", json=body("u", request_id, regulation=None)).status_code == 201
        assert [step["regulation"] for step in steps(api, request_id)] == ["ccpa"]


def test_metrics_tell_the_queue(kafka: KafkaForTests, clickhouse: Any, tmp_path: Path) -> None:
    url = clickhouse.database().url
    client = connect(url)
    migrate.apply(client)
    client.disconnect()
    with api_process(tmp_path, kafka.bootstrap, url) as api:
        now = int(api.log.stat().st_mtime * 1000)
        for number, days in enumerate((-1, 0.5, 4, 29)):
            targets = (Target("a", state="completed", grade="signed"), Target("b", state="acknowledged", grade="none"))
            request = Request(
                uuid4(),
                now,
                alias=bytes([number]) * 16,
                state="awaiting",
                due_at=now + int(days * DAY),
                targets=targets,
                alarms=("disclosed after completed",) if number == 1 else (),
            )
            project(api, request, 1)
        project(api, Request(uuid4(), now, state="completed", ended_at=now, due_at=now - DAY), 2)
        with api.client() as caller:
            text = caller.get("/metrics").raise_for_status().text
            assert caller.get("/readyz").json() == {"ready": True, "missing": []}
    found = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    expected = {
        'lineage_erasure_requests{state="awaiting"}': 4,
        'lineage_erasure_requests{state="completed"}': 1,
        'lineage_erasure_requests{state="purging"}': 0,
        "lineage_erasure_overdue": 1,
        'lineage_erasure_due_in_seconds_bucket{le="0.0"}': 1,
        'lineage_erasure_due_in_seconds_bucket{le="86400.0"}': 2,
        'lineage_erasure_due_in_seconds_bucket{le="432000.0"}': 3,
        'lineage_erasure_due_in_seconds_bucket{le="+Inf"}': 4,
        'lineage_erasure_targets{grade="signed",state="completed"}': 4,
        'lineage_erasure_targets{grade="none",state="acknowledged"}': 4,
        'lineage_erasure_targets{grade="none",state="failed"}': 0,
        "lineage_erasure_alarms": 1,
        'lineage_erasure_callbacks_total{outcome="accepted"}': 0,
        "lineage_erasure_projection_up": 1,
    }
    assert {name: float(found[name]) for name in expected} == expected
