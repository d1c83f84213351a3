"""A simulated vendor, asked by its document: everything that it can answer, until it tells the truth."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from infra.simulator.recipients import Profile, RecipientSimulator
from processors.erasure_commands import Answer, Command, Grade
from sinks.recipients.configuration import Connectors, KafkaTarget, ManualTask, load_connectors
from tests.simulated_controller import EMAIL, FAST, asynchronous


def connected(simulator: RecipientSimulator, folder: Path) -> Connectors:
    simulator.write_connectors(folder / "connectors.yaml", folder / "secrets")
    return load_connectors(folder / "connectors.yaml", lambda name: (folder / "secrets" / name).read_text())


async def ended(connectors: Connectors, key: UUID) -> Answer:
    """As the controller does: sends until it is taken, then asks until it has ended."""
    now = int(time.time() * 1000)
    command = Command(uuid4(), "bright", key, 1, now, now + 86_400_000, identities=(EMAIL,))
    way = connectors.of("bright")
    assert way is not None
    assert not isinstance(way, KafkaTarget | ManualTask)
    reference: str | None = None
    async with asyncio.timeout(30):
        while True:
            answer = await (way.dispatch(command) if reference is None else way.check(command, reference))
            if answer.outcome not in ("retry", "acknowledged"):
                return answer
            if answer.outcome == "acknowledged":
                assert answer.grade == Grade.acknowledged
                reference = answer.reference
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("profile", "outcome"),
    [
        (replace(FAST, exempt=1.0), "exempt"),
        (replace(FAST, refuse=1.0), "failed"),
        (replace(FAST, identities=("ios_advertising_id",)), "unsupported"),
        (FAST, "completed"),
    ],
)
@asynchronous
async def test_what_a_vendor_can_say(tmp_path: Path, profile: Profile, outcome: str) -> None:
    with RecipientSimulator(tmp_path, {"bright": "http"}, profile) as simulator:
        connectors = connected(simulator, tmp_path)
        answer = await ended(connectors, uuid4())
        await connectors.close()
        assert answer.outcome == outcome
        assert (answer.grade == Grade.claimed) == (outcome == "completed")
        assert bool(answer.ground) == (outcome == "exempt")
        deleted = [entry for entry in simulator.truth()["bright"]["commands"] if entry["deleted_at"]]
        assert bool(deleted) == (outcome == "completed")


@asynchronous
async def test_misbehaviour_leads_to_the_truth_in_the_end(tmp_path: Path) -> None:
    rough = replace(FAST, error_500=0.05, error_503=0.03, retry_after_s=0, drop=0.1, malformed=0.03, forget=0.3)
    with RecipientSimulator(tmp_path, {"bright": "http"}, rough, seed=4) as simulator:
        connectors = connected(simulator, tmp_path)
        answers = await asyncio.gather(*(ended(connectors, UUID(int=number)) for number in range(1, 21)))
        await connectors.close()
        assert [answer.outcome for answer in answers] == ["completed"] * 20
        told = simulator.truth()["bright"]
        assert len(told["commands"]) == 20
        assert all(entry["deleted_at"] for entry in told["commands"])
        assert {"drop", "malformed", "forget"} <= told["shown"].keys()
