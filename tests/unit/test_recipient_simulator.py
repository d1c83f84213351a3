"""Simulated recipients over loopback: each protocol, each misbehaviour, and a register that tells the truth."""

import asyncio
import json
import signal
import ssl
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
import yaml
from cryptography.hazmat.primitives.hashes import SHA256

from infra.cli.main import main
from infra.simulator.recipients import Profile, RecipientSimulator
from tests.simulated_controller import EMAIL, FAST, asynchronous, controller, signed_by

RECIPIENTS = {"lumen": "opendsr", "crashhound": "ddrf", "bright": "http", "agency": "manual"}
Start = Callable[..., RecipientSimulator]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a simulator with changes to a fast profile; on the same folder when called again."""
    running: list[RecipientSimulator] = []

    def started(**changes: Any) -> RecipientSimulator:
        for one in running:
            one.stop()
        running[:] = [RecipientSimulator(tmp_path / "simulator", RECIPIENTS, replace(FAST, **changes), seed=1)]
        running[0].start()
        return running[0]

    yield started
    for one in running:
        one.stop()


@asynchronous
async def test_an_opendsr_processor_does_what_it_is_asked_and_says_so_signed(start: Start) -> None:
    async with controller(start()) as asking:
        key = str(uuid4())
        code, headers, body = await asking.request("lumen", key)
        assert code == 201
        answer = json.loads(body)
        assert answer["subject_request_id"] == key
        assert {"controller_id", "expected_completion_time", "received_time", "encoded_request"} <= answer.keys()
        certificate = await asking.certificate("lumen")
        assert asking.trusts(certificate)
        assert headers["X-OpenDSR-Processor-Domain"] == "localhost"
        assert signed_by(certificate, headers, body)
        await asking.until(lambda: len(asking.callbacks) == 2)
        assert asking.statuses == ["in_progress", "completed"]
        for raw, told in asking.callbacks:
            assert signed_by(certificate, told, raw)
            assert not signed_by(certificate, told, raw + b" ")
            assert json.loads(raw)["status_callback_url"] == asking.callback_url
        assert await asking.status("lumen", key) == "completed"
        truth = asking.entry("lumen", key)
        assert truth["state"] == "completed"
        assert truth["deleted_at"] >= truth["first_seen"] > 1_700_000_000_000
        assert truth["identifiers"] == asking.simulator.hashes([EMAIL])


@asynchronous
async def test_a_repeated_command_is_one_command(start: Start) -> None:
    async with controller(start(callback_tries=1)) as asking:
        key = str(uuid4())
        answers = [await asking.request("lumen", key) for _ in range(3)]
        assert [code for code, _, _ in answers] == [201, 201, 201]
        await asking.until(lambda: len(asking.callbacks) >= 2)
        await asyncio.sleep(0.1)
        assert len(asking.callbacks) == 2
        truth = asking.entry("lumen", key)
        assert (truth["times_seen"], truth["times_taken"]) == (3, 1)
        assert truth["outcomes"] == ["accepted", "repeated", "repeated"]
        other = EMAIL | {"identity_value": "someone.else@example.org"}
        await asking.request("lumen", key, subject_identities=[other])
        assert asking.entry("lumen", key)["identifiers"] == asking.simulator.hashes([other, EMAIL])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"regulation": "pipl"}, "regulation"),
        ({"subject_request_id": "A7551968-D5D6-44B2-9831-815AC9017798"}, "lowercase"),
        ({"subject_request_id": "a7551968-d5d6-14b2-9831-815ac9017798"}, "version 4"),
        ({"subject_request_type": "access"}, "erasure"),
        ({"submitted_time": "yesterday"}, "submitted_time"),
        ({"subject_identities": []}, "not empty"),
        ({"subject_identities": [{"identity_type": "email"}]}, "identity_format"),
    ],
)
@asynchronous
async def test_an_opendsr_request_that_breaks_the_specification_is_refused(
    start: Start, changes: dict[str, Any], says: str
) -> None:
    async with controller(start()) as asking:
        code, _, body = await asking.request("lumen", **changes)
        assert code == 400
        assert says in json.loads(body)["error"]["message"]
        assert asking.simulator.truth()["lumen"]["commands"] == []


@asynchronous
async def test_who_shows_no_token_is_not_heard(start: Start) -> None:
    simulator = start()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{simulator.url}/r/lumen/opendsr/v2/discovery") as answer,
    ):
        assert answer.status == 401
    assert simulator.truth()["lumen"]["shown"] == {"unauthorized": 1}


@asynchronous
async def test_only_what_is_pending_can_be_cancelled(start: Start) -> None:
    # Long enough to be cancelled on a machine that has other things to do.
    async with controller(start(start_s=(1.0, 1.0), complete_s=(1.3, 1.3))) as asking:
        early, late = str(uuid4()), str(uuid4())
        await asking.request("lumen", early)
        code, _, _ = await asking.call("DELETE", "lumen", f"opendsr/v2/requests/{early}")
        assert code == 202
        await asking.request("lumen", late)
        await asking.until(lambda: asking.entry("lumen", late)["state"] == "in_progress")
        code, _, _ = await asking.call("DELETE", "lumen", f"opendsr/v2/requests/{late}")
        assert code == 400
        await asking.until(lambda: asking.entry("lumen", late)["state"] == "completed")
        assert asking.entry("lumen", early)["state"] == "cancelled"
        assert asking.entry("lumen", early)["deleted_at"] is None
        assert await asking.status("lumen", str(uuid4())) == 404


@asynchronous
async def test_a_vendor_takes_a_job_and_does_it(start: Start) -> None:
    async with controller(start()) as asking:
        key = str(uuid4())
        body = {"identities": [EMAIL]}
        code, _, answer = await asking.call(
            "POST", "bright", "http/v1/deletions", json=body, headers={"Idempotency-Key": key}
        )
        assert code == 202
        job = json.loads(answer)
        assert job["status"] == "queued"
        await asking.until(lambda: asking.entry("bright", key)["state"] == "completed")
        code, _, answer = await asking.call("GET", "bright", f"http/v1/deletions/{job['job_id']}")
        assert (code, json.loads(answer)["status"]) == (200, "done")
        code, _, _ = await asking.call("GET", "bright", "http/v1/deletions/0-other")
        assert code == 404
        code, _, _ = await asking.call("POST", "bright", "http/v1/deletions", json=body)
        assert code == 400


@asynchronous
async def test_a_restart_goes_on_where_it_stopped(start: Start, tmp_path: Path) -> None:
    key, done, lost = str(uuid4()), str(uuid4()), str(uuid4())
    async with controller(start(late=0.0, complete_s=(0.05, 0.05))) as asking:
        await asking.request("lumen", done)
        await asking.until(lambda: asking.entry("lumen", done)["state"] == "completed")
        certificate = (await asking.certificate("lumen")).fingerprint(SHA256())
    async with controller(start(late=1.0)) as asking:
        await asking.request("lumen", key, status_callback_urls=[asking.callback_url])
        asking.simulator.stop()
        # Killed within a line.
        with (tmp_path / "simulator" / "journal.jsonl").open("ab") as journal:
            journal.write(b'{"recipient":"lumen","event":"asked","key":"' + lost.encode())
        again = start()
        asking.simulator = again
        assert asking.entry("lumen", key)["state"] in ("pending", "in_progress")
        assert asking.entry("lumen", done)["deleted_at"] is not None
        await asking.until(lambda: "completed" in asking.statuses)
        assert asking.entry("lumen", key)["state"] == "completed"
        assert len(again.truth()["lumen"]["commands"]) == 2
        assert (await asking.certificate("lumen")).fingerprint(SHA256()) == certificate
        assert (await asking.request("lumen", done))[0] == 201
        assert asking.entry("lumen", done)["outcomes"] == ["accepted", "repeated"]
    held = (tmp_path / "simulator" / "journal.jsonl").read_bytes()
    assert b"wang.fang" not in held
    assert b"email" in held


@asynchronous
async def test_profiles_change_while_it_runs(start: Start) -> None:
    async with controller(start()) as asking:
        url = f"{asking.simulator.url}/control/lumen"
        async with asking.session.post(url, data="error_503: 1\nretry_after_s: 7\n") as answer:
            assert (await answer.json())["error_503"] == 1
        code, headers, _ = await asking.request("lumen")
        assert (code, headers["Retry-After"]) == (503, "7")
        async with asking.session.post(url, json={"eror_503": 0}) as answer:
            assert answer.status == 400
            assert "did you mean `error_503`" in await answer.text()
        async with asking.session.post(url, json={"profile": "none"}) as answer:
            assert answer.status == 200
        assert (await asking.request("lumen"))[0] == 201
        async with asking.session.get(f"{asking.simulator.url}/control/truth") as answer:
            assert await answer.json() == asking.simulator.truth()


def test_a_taken_port_is_told(start: Start) -> None:
    port = int(start().url.rpartition(":")[2])
    other = RecipientSimulator(None, RECIPIENTS, Profile(), port=port)
    with pytest.raises(OSError, match="address"):
        other.start()
    other.stop()


def test_the_command_plays_a_registry_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "infra.cli.main", "recipients", "simulate", "--data", str(tmp_path), "--port", "0"]
    mix = "opendsr=2,pushwave=http,redpay=manual"
    connectors = tmp_path / "connectors.yaml"
    more = ["--protocols", mix, "--misbehave", "mild", "--write-connectors", str(connectors), "--json"]
    process = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        told = json.loads(process.stdout.readline())
        with urllib.request.urlopen(f"{told['url']}/control/truth") as answer:
            truth = json.load(answer)
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert told["url"] in said
    assert truth["lumen-analytics"] == {"commands": [], "shown": {}}
    assert told["recipients"]["redpay"] == "manual"
    assert "cyber-bureau" not in told["recipients"]
    written = yaml.safe_load(connectors.read_text())
    assert written["allow_private"] is True
    assert set(written["recipients"]) == {name for name, protocol in told["recipients"].items() if protocol != "manual"}
    for name, entry in written["recipients"].items():
        assert entry["protocol"] == told["recipients"][name]
        secret = tmp_path / "secrets" / f"simulated-{name}"
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert secret.read_text() not in connectors.read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--protocols", "nobody=http"], "RECIPIENT=PROTOCOL"),
        (["--misbehave", "badly"], "none, mild, wild or a file"),
        (["--protocols", "kafka=1"], "lineage up"),
    ],
)
def test_the_command_says_what_to_do(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LINEAGE_KAFKA", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(["recipients", "simulate", "--data", str(tmp_path), "--port", "0", *arguments])
    assert ended.value.code == 1
    assert says in capsys.readouterr().err


@asynchronous
async def test_https_with_a_certificate_of_its_own_authority(tmp_path: Path) -> None:
    with RecipientSimulator(tmp_path, RECIPIENTS, FAST, tls=True) as simulator:
        url = f"{simulator.url}/control/truth"
        assert url.startswith("https://localhost:")
        trusting = ssl.create_default_context(cafile=str(simulator.certification_authority))
        async with aiohttp.ClientSession() as session:
            async with session.get(url, ssl=trusting) as answer:
                assert await answer.json() == simulator.truth()
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(url)
        for entry in yaml.safe_load(simulator.connectors_yaml())["recipients"].values():
            assert entry["ca"] == str(simulator.certification_authority)
