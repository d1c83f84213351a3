"""Callbacks between real processes: a simulated processor calls our API back, and our API is asked as a processor by
our own connector."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from confluent_kafka.admin import AdminClient

from infra.simulator.recipients import Profile, RecipientSimulator
from processors.erasure_commands import Command, Grade, idempotency_key
from sinks.clickhouse import migrate
from sinks.clickhouse.client import connect
from sinks.recipients.opendsr import OpenDsrConnector
from sinks.recipients.opendsr_signatures import load_authorities
from sinks.recipients.transport import Transport
from streams.kafka import Kafka
from streams.opendsr.callbacks import callback_url
from streams.scan import scan
from streams.serdes import Deserializer
from streams.topics import ERASURE_RECEIPTS, apply, plan
from tests.api_process import ApiProcess, api_process
from tests.kafka_fixture import KafkaForTests

FAST = Profile(start_s=(0.02, 0.03), complete_s=(0.1, 0.15), callback_retry_s=(0.02, 0.03), callback_tries=4)
EMAIL = {"identity_type": "email", "identity_format": "raw", "identity_value": "wang.fang@example.org"}


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecipientSimulator]:
    recipients = {"lumen": "opendsr", "glow": "opendsr", "vendor": "http", "old-agency": "manual"}
    with RecipientSimulator(tmp_path_factory.mktemp("recipients"), recipients, FAST) as running:
        yield running


@pytest.fixture(scope="module")
def api(
    kafka: KafkaForTests, clickhouse: Any, simulator: RecipientSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiProcess]:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    apply(admin, [change for change in plan(admin, partitions=4) if change.action == "create"])
    url = clickhouse.database().url
    client = connect(url)
    migrate.apply(client)
    client.disconnect()
    data = tmp_path_factory.mktemp("api")
    simulator.write_connectors(data / "connectors.yaml", data / "secrets")
    with api_process(data, kafka.bootstrap, url) as running:
        yield running


def receipts(api: ApiProcess, request_id: UUID) -> list[dict[str, Any]]:
    return [
        record
        for batch in scan(Kafka(api.settings.kafka().bootstrap), ERASURE_RECEIPTS)
        for message in batch
        if (record := Deserializer().decode(message.value())[1])["request_id"] == request_id.bytes
        and message.key() == request_id.bytes
    ]


def until(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def counted(api: ApiProcess) -> dict[str, float]:
    """Callbacks so far, by outcome."""
    lines = httpx.get(f"{api.url}/metrics").text.splitlines()
    found = (line.split('outcome="')[1].split('"} ') for line in lines if "callbacks_total{" in line)
    return {outcome: float(count) for outcome, count in found}


def ask(simulator: RecipientSimulator, recipient: str, key: UUID, url: str) -> None:
    """What a controller's dispatch does: an erasure with a callback URL."""
    body = {
        "regulation": "gdpr",
        "subject_request_id": str(key),
        "subject_request_type": "erasure",
        "submitted_time": "2026-05-01T10:00:00Z",
        "subject_identities": [EMAIL],
        "status_callback_urls": [url],
    }
    token = simulator.secrets[f"simulated-{recipient}"]
    answer = httpx.post(
        f"{simulator.url}/r/{recipient}/opendsr/v2/requests", json=body, headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.status_code == 201


def test_a_signed_callback_becomes_a_receipt(api: ApiProcess, simulator: RecipientSimulator) -> None:
    request_id = uuid4()
    key = idempotency_key(request_id, "lumen", 2)
    before = counted(api)
    ask(simulator, "lumen", key, callback_url(api.url, request_id, "lumen"))
    until(lambda: {"acknowledged", "completed"} <= {each["answer"] for each in receipts(api, request_id)})
    # In whatever order: both may be under way at once.
    found = receipts(api, request_id)
    completed = next(each for each in found if each["answer"] == "completed")
    assert {(each["target"], each["idempotency_key"]) for each in found} == {("lumen", key.bytes)}
    assert (completed["grade"], len(completed["evidence"]), completed["source"]) == ("signed", 64, "opendsr")
    until(lambda: counted(api)["accepted"] >= before["accepted"] + 2)


def test_a_callback_for_another_command_than_its_url_names_is_unknown(
    api: ApiProcess, simulator: RecipientSimulator
) -> None:
    """Rightly signed, for the right URL, and still of no command that was made for this request and target."""
    request_id = uuid4()
    before = counted(api)
    ask(simulator, "lumen", uuid4(), callback_url(api.url, request_id, "lumen"))
    until(lambda: counted(api)["unknown"] > before["unknown"])
    assert receipts(api, request_id) == []


def test_one_recipient_cannot_speak_for_another(api: ApiProcess, simulator: RecipientSimulator) -> None:
    request_id = uuid4()
    before = counted(api)
    # Glow knows the id and says so to lumen's address; host and authority are the same, the key is not.
    ask(simulator, "glow", idempotency_key(request_id, "lumen", 1), callback_url(api.url, request_id, "lumen"))
    until(lambda: counted(api)["refused"] > before["refused"])
    assert receipts(api, request_id) == []


def test_a_bad_signature_is_refused_and_changes_nothing(api: ApiProcess, simulator: RecipientSimulator) -> None:
    request_id = uuid4()
    before = counted(api)
    simulator.change("lumen", FAST.changed({"bad_signature": 1.0}))
    try:
        key = idempotency_key(request_id, "lumen", 1)
        ask(simulator, "lumen", key, callback_url(api.url, request_id, "lumen"))
        until(lambda: counted(api)["refused"] >= before["refused"] + 2)
        # Before it signs rightly again: it repeats what was not taken.
        assert receipts(api, request_id) == []
    finally:
        simulator.change("lumen", FAST)


@pytest.mark.parametrize("target", ["vendor", "old-agency", "nobody", "a%2Fb", "lumen/x"])
def test_who_has_no_way_to_call_back_is_unknown(api: ApiProcess, target: str) -> None:
    answer = httpx.post(f"{api.url}/opendsr/callbacks/{uuid4()}/{target}", content=b"{}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, 404)


def test_what_is_not_signed_is_refused_as_the_specification_says(api: ApiProcess) -> None:
    path = f"{api.url}/opendsr/callbacks/{uuid4()}/lumen"
    signed = {"X-OpenDSR-Processor-Domain": "localhost", "X-OpenDSR-Signature": "bm9uZQ=="}
    for headers in ({}, {"X-OpenDSR-Processor-Domain": "localhost"}, signed, signed | {"X-OpenDSR-Signature": "*"}):
        assert httpx.post(path, content=b"{}", headers=headers).status_code == 403
    assert httpx.post(f"{api.url}/opendsr/callbacks/5/lumen", content=b"{}").status_code == 404
    assert httpx.post(path, content=b"x" * (300 << 10), headers=signed).status_code == 413


def test_our_own_connector_asks_our_own_processor(api: ApiProcess, tmp_path: Path) -> None:
    """Controller and processor go by the same specification: discovery, signed answers, a repetition, the status."""
    token = api.token("upstream")
    authority = api.settings.data / "secrets" / "opendsr-ca.pem"
    user = {"identity_type": "controller_customer_id", "identity_format": "raw", "identity_value": "u-9"}
    request_id = uuid4()
    command = Command(
        request_id,
        "us",
        idempotency_key(request_id, "us", 1),
        1,
        int(time.time() * 1000),
        int(time.time() * 1000) + 86_400_000,
        identities=(user, EMAIL),
    )

    async def talk() -> None:
        connector = OpenDsrConnector(
            api.url.replace("127.0.0.1", "localhost") + "/opendsr/2.0",
            "localhost",
            Transport(allow_private=True),
            headers={"Authorization": f"Bearer {token}"},
            authorities=load_authorities(authority.read_bytes()),
        )
        try:
            first, again = [await connector.dispatch(command) for _ in range(2)]
            checked = await connector.check(command, first.reference)
        finally:
            await connector.close()
        for answer in (first, again, checked):
            assert (answer.outcome, answer.grade) == ("acknowledged", Grade.acknowledged), answer
        assert checked.detail == "pending"

    asyncio.run(talk())
