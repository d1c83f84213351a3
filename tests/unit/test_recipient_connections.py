"""Our own connectors against simulated recipients, through the connectors.yaml that the simulator writes."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from infra.simulator.recipients import Profile, RecipientSimulator
from processors.erasure_commands import Answer, Command, Grade, idempotency_key
from sinks.recipients.configuration import Connectors, KafkaTarget, ManualTask, load_connectors
from sinks.recipients.connector import Connector
from streams.kafka import Kafka
from tests.simulated_controller import EMAIL, FAST, asynchronous

USER = {"identity_type": "controller_customer_id", "identity_format": "raw", "identity_value": "user-17"}
RECIPIENTS = {"lumen": "opendsr", "crashhound": "ddrf", "bright": "http", "agency": "manual"}


def command(target: str) -> Command:
    now = int(time.time() * 1000)
    return Command(uuid4(), target, uuid4(), 1, now, now + 86_400_000, identities=(EMAIL, USER))


def connected(simulator: RecipientSimulator, folder: Path) -> Connectors:
    """The connectors as a controller loads them."""
    simulator.write_connectors(folder / "connectors.yaml", folder / "secrets")
    return load_connectors(folder / "connectors.yaml", lambda name: (folder / "secrets" / name).read_text())


def way(connectors: Connectors, recipient: str) -> Connector:
    found = connectors.of(recipient)
    assert found is not None
    assert not isinstance(found, KafkaTarget | ManualTask)
    return found


async def last(connector: Connector, asked: Command, until: Callable[[Answer], bool]) -> Answer:
    """Dispatches until it is taken, then asks until it is as wanted."""
    async with asyncio.timeout(20):
        answer = await connector.dispatch(asked)
        while answer.outcome == "retry":
            answer = await connector.dispatch(asked)
        while not until(answer):
            await asyncio.sleep(0.05)
            answer = await connector.check(asked, answer.reference)
    return answer


@pytest.mark.parametrize("tls", [False, True])
@asynchronous
async def test_every_protocol_reaches_what_it_can_prove(tmp_path: Path, tls: bool) -> None:
    with RecipientSimulator(tmp_path, RECIPIENTS, FAST, tls=tls) as simulator:
        connectors = connected(simulator, tmp_path)
        assert connectors.allow_private
        assert connectors.of("agency") is None
        for target, outcome, grade in [
            ("lumen", "completed", Grade.signed),
            ("crashhound", "acknowledged", Grade.acknowledged),
            ("bright", "completed", Grade.claimed),
        ]:
            asked = command(target)
            answer = await last(
                way(connectors, target), asked, lambda answer, outcome=outcome: answer.outcome == outcome
            )  # type: ignore[misc]
            assert (answer.outcome, answer.grade) == (outcome, grade)
            entry = simulator.truth()[target]["commands"][0]
            assert entry["idempotency_key"] == str(asked.idempotency_key)
            assert entry["identifiers"] == simulator.hashes([EMAIL, USER])
            assert entry["times_taken"] == 1
        await connectors.close()


@asynchronous
async def test_misbehaviour_leads_to_the_truth_in_the_end(tmp_path: Path) -> None:
    # Rarely enough that the breaker, which waits for seconds, seldom opens.
    rough = replace(FAST, error_500=0.05, error_503=0.03, retry_after_s=0, drop=0.1, malformed=0.03, forget=0.3)
    with RecipientSimulator(tmp_path, RECIPIENTS, rough, seed=4) as simulator:
        connectors = connected(simulator, tmp_path)

        async def ask(target: str, number: int) -> None:
            # The same ids each time, so that chance decides the same.
            key = idempotency_key(UUID(int=number), target, 1)
            connector, asked = way(connectors, target), replace(command(target), idempotency_key=key)
            async with asyncio.timeout(30):
                answer = await connector.dispatch(asked)
                while answer.outcome != "completed":
                    assert answer.outcome in ("retry", "acknowledged")
                    await asyncio.sleep(0.05)
                    known = answer.outcome == "acknowledged"
                    answer = await (connector.check(asked, answer.reference) if known else connector.dispatch(asked))

        await asyncio.gather(*(ask("lumen", number) for number in range(20)))
        await connectors.close()
        told = simulator.truth()["lumen"]
        assert len(told["commands"]) == 20
        for entry in told["commands"]:
            assert entry["deleted_at"]
            assert entry["times_taken"] == entry["outcomes"].count("accepted")
            assert entry["identifiers"] == simulator.hashes([EMAIL, USER])
        assert {"error_500", "drop", "forget"} <= told["shown"].keys()


@asynchronous
async def test_nothing_follows_a_redirect(tmp_path: Path) -> None:
    with RecipientSimulator(tmp_path, RECIPIENTS, Profile(redirect=1.0)) as simulator:
        connectors = connected(simulator, tmp_path)
        for target in ("lumen", "crashhound"):
            assert (await way(connectors, target).dispatch(command(target))).outcome in ("retry", "failed")
            assert "redirect_followed" not in simulator.truth()[target]["shown"]
        await connectors.close()


def test_a_key_for_those_who_speak_kafka(tmp_path: Path) -> None:
    simulator = RecipientSimulator(tmp_path, {"glacier": "kafka"}, kafka=Kafka("127.0.0.1:1"))
    found = connected(simulator, tmp_path).of("glacier")
    assert isinstance(found, KafkaTarget)
    assert b"BEGIN PUBLIC KEY" in found.public_key
    simulator.stop()
