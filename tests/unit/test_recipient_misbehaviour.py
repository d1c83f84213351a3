"""Each misbehaviour of simulated recipients shows to whoever asks, and the register says what was really done."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwk, jwt
from joserfc.errors import BadSignatureError

from infra.simulator.recipients import MISBEHAVIOURS, Profile, Profiles, RecipientSimulator, load_profiles
from infra.simulator.recipients.mix import MixError, spread
from infra.simulator.recipients.profiles import Fate
from streams.documents import DocumentError
from tests.simulated_controller import EMAIL, FAST, Controller, asynchronous, controller, signed_by

RECIPIENTS = {"lumen": "opendsr", "crashhound": "ddrf", "bright": "http"}
Start = Callable[..., RecipientSimulator]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[RecipientSimulator] = []

    def started(**changes: Any) -> RecipientSimulator:
        running.append(RecipientSimulator(tmp_path, RECIPIENTS, replace(FAST, **changes), seed=3))
        running[-1].start()
        return running[-1]

    yield started
    for one in running:
        one.stop()


async def vendor(asking: Controller, key: str) -> tuple[int, dict[str, Any]]:
    code, _, body = await asking.call(
        "POST", "bright", "http/v1/deletions", json={"identities": [EMAIL]}, headers={"Idempotency-Key": key}
    )
    return code, json.loads(body)


async def job(asking: Controller, job_id: str) -> tuple[int, dict[str, Any]]:
    code, _, body = await asking.call("GET", "bright", f"http/v1/deletions/{job_id}")
    return code, json.loads(body)


@pytest.mark.parametrize(("name", "status"), [("error_500", 500), ("error_503", 503), ("error_429", 429)])
@asynchronous
async def test_errors_take_nothing(start: Start, name: str, status: int) -> None:
    async with controller(start(**{name: 1.0})) as asking:
        key = str(uuid4())
        code, headers, _ = await asking.request("lumen", key)
        assert code == status
        assert ("Retry-After" in headers) == (status != 500)
        truth = asking.entry("lumen", key)
        assert (truth["state"], truth["outcomes"], truth["times_taken"]) == ("unknown", [name], 0)
        assert asking.shown("lumen") == {name: 1}
        assert await asking.status("lumen", key) == status


@asynchronous
async def test_a_redirect_leads_where_no_identifier_should_go(start: Start) -> None:
    async with controller(start(redirect=1.0)) as asking:
        code, headers, _ = await asking.request("lumen")
        assert code == 307
        assert "redirect_followed" not in asking.shown("lumen")
        async with asking.session.post(headers["Location"], json={"a": 1}):
            assert asking.shown("lumen")["redirect_followed"] == 1


@asynchronous
async def test_a_dropped_answer_was_taken_all_the_same(start: Start) -> None:
    async with controller(start(drop=1.0)) as asking:
        key = str(uuid4())
        with pytest.raises(aiohttp.ClientError):
            await asking.request("lumen", key)
        await asking.until(lambda: "completed" in asking.statuses)
        assert asking.entry("lumen", key)["outcomes"] == ["accepted"]
        assert asking.entry("lumen", key)["deleted_at"]


@asynchronous
async def test_slow_answers_come_late(start: Start) -> None:
    async with controller(start(slow=1.0)) as asking:
        begun = asyncio.get_running_loop().time()
        assert (await asking.request("lumen"))[0] == 201
        assert asyncio.get_running_loop().time() - begun >= 0.3


@asynchronous
async def test_malformed_and_huge_bodies(start: Start) -> None:
    async with controller(start(malformed=1.0)) as asking:
        code, headers, body = await asking.request("lumen")
        assert code == 201
        with pytest.raises(json.JSONDecodeError):
            json.loads(body)
        # It is what the recipient sent: only its content is rubbish.
        asking.simulator.change("lumen", FAST)
        assert signed_by(await asking.certificate("lumen"), headers, body)
        asking.simulator.change("lumen", replace(FAST, huge=1.0))
        code, _, body = await asking.request("lumen")
        assert (code, len(body) >= 4 << 20) == (201, True)
        # Who reads no further is left in peace.
        url = f"{asking.simulator.url}/r/lumen/opendsr/v2/discovery"
        async with asking.session.get(url, headers=asking.headers("lumen")) as answer:
            await answer.content.read(100)
            answer.close()
        asking.simulator.change("lumen", FAST)
        assert (await asking.request("lumen"))[0] == 201


@asynchronous
async def test_refusals_and_exemptions(start: Start) -> None:
    async with controller(start(refuse=1.0)) as asking:
        key = str(uuid4())
        code, _, body = await asking.request("lumen", key)
        assert (code, json.loads(body)["error"]["errors"][0]["reason"]) == (400, "refused")
        assert (await asking.request("lumen", key))[0] == 400
        assert asking.entry("lumen", key)["state"] == "refused"
        assert (await vendor(asking, key))[0] == 422
        for name in ("lumen", "bright"):
            asking.simulator.change(name, replace(FAST, exempt=1.0))
        key = str(uuid4())
        code, _, body = await asking.request("lumen", key)
        assert (code, json.loads(body)["error"]["errors"][0]["reason"]) == (400, "exempt")
        assert asking.entry("lumen", key)["state"] == "exempt"
        _, told = await vendor(asking, key)
        await asking.until(lambda: asking.entry("bright", key)["state"] == "exempt")
        assert (await job(asking, told["job_id"]))[1]["status"] == "retained"
        assert "article 9" in (await job(asking, told["job_id"]))[1]["reason"]
        assert asking.entry("bright", key)["deleted_at"] is None


@asynchronous
async def test_who_knows_no_such_identity_cannot_be_asked(start: Start) -> None:
    async with controller(start(identities=("android_id",))) as asking:
        code, _, body = await asking.request("lumen")
        assert (code, json.loads(body)["error"]["errors"][0]["reason"]) == (400, "unsupported")
        _, _, body = await asking.call("GET", "lumen", "opendsr/v2/discovery")
        assert {i["identity_type"] for i in json.loads(body)["supported_identities"]} == {"android_id"}


@asynchronous
async def test_never_late_and_forgotten(start: Start) -> None:
    async with controller(start(never=1.0)) as asking:
        never, late, key = (str(uuid4()) for _ in range(3))
        await asking.request("lumen", never)
        asking.simulator.change("lumen", replace(FAST, late=1.0))
        await asking.request("lumen", late)
        asking.simulator.change("bright", replace(FAST, forget=1.0))
        _, first = await vendor(asking, key)
        await asking.until(lambda: asking.entry("bright", key)["forgotten"])
        assert (await job(asking, first["job_id"]))[0] == 404
        assert (asking.entry("bright", key)["state"], asking.entry("bright", key)["deleted_at"]) == ("forgotten", None)
        asking.simulator.change("bright", FAST)
        _, second = await vendor(asking, key)
        assert second["job_id"] != first["job_id"]
        await asking.until(lambda: asking.entry("bright", key)["state"] == "completed")
        assert asking.entry("bright", key)["times_taken"] == 2
        assert asking.entry("lumen", late)["state"] == "in_progress"
        await asking.until(lambda: asking.entry("lumen", late)["state"] == "completed")
        took = asking.entry("lumen", late)["completed_at"] - asking.entry("lumen", late)["accepted_at"]
        assert took >= 800
        assert await asking.status("lumen", never) == "in_progress"


@asynchronous
async def test_who_keeps_the_data_says_completed(start: Start) -> None:
    async with controller(start(keep=1.0)) as asking:
        key = str(uuid4())
        await asking.request("lumen", key)
        await asking.until(lambda: "completed" in asking.statuses)
        assert await asking.status("lumen", key) == "completed"
        truth = asking.entry("lumen", key)
        assert (truth["state"], truth["keeps_data"], truth["deleted_at"]) == ("completed", True, None)


@asynchronous
async def test_callbacks_lost_doubled_and_out_of_order(start: Start) -> None:
    async with controller(start(lose_callback=1.0)) as asking:
        lost, doubled, turned = (str(uuid4()) for _ in range(3))
        await asking.request("lumen", lost)
        await asking.until(lambda: len(asking.entry("lumen", lost)["callbacks"]) == 2)
        assert {told["result"] for told in asking.entry("lumen", lost)["callbacks"]} == {"lost"}
        assert asking.callbacks == []
        asking.simulator.change("lumen", replace(FAST, duplicate_callback=1.0))
        await asking.request("lumen", doubled)
        await asking.until(lambda: len(asking.callbacks) == 4)
        assert sorted(asking.statuses) == ["completed", "completed", "in_progress", "in_progress"]
        asking.callbacks.clear()
        asking.simulator.change("lumen", replace(FAST, reorder_callbacks=1.0))
        await asking.request("lumen", turned)
        await asking.until(lambda: len(asking.callbacks) == 2)
        assert asking.statuses == ["completed", "in_progress"]


@asynchronous
async def test_callbacks_are_repeated_until_they_are_taken(start: Start) -> None:
    async with controller(start()) as asking:
        asking.refusals = [500, 403]
        taken, refused = str(uuid4()), str(uuid4())
        await asking.request("lumen", taken)
        await asking.until(lambda: len(asking.callbacks) == 2)
        asking.refusals = [403] * 8
        await asking.request("lumen", refused)
        await asking.until(lambda: len(asking.entry("lumen", refused)["callbacks"]) == 2)
        assert {told["result"] for told in asking.entry("lumen", refused)["callbacks"]} == {"failed"}
        assert asking.refusals == []


@asynchronous
async def test_signatures_and_certificates_that_must_not_be_trusted(start: Start) -> None:
    async with controller(start(bad_signature=1.0)) as asking:
        certificate = await asking.certificate("lumen")
        _, headers, body = await asking.request("lumen")
        assert not signed_by(certificate, headers, body)
        await asking.until(lambda: len(asking.callbacks) == 2)
        assert not any(signed_by(certificate, told, raw) for raw, told in asking.callbacks)
        for name in ("self_signed", "wrong_domain"):
            asking.simulator.change("lumen", replace(FAST, **{name: 1.0}))
            other = await asking.certificate("lumen")
            assert not asking.trusts(other)
            _, headers, body = await asking.request("lumen")
            # The key is its own: only who vouches for it, or for whom, is wrong.
            assert signed_by(other, headers, body)
        assert asking.trusts(other, "elsewhere.invalid")


@asynchronous
async def test_chance_goes_by_the_seed_and_not_by_the_order(start: Start) -> None:
    fate, profile = Fate(5, "lumen"), Profile(drop=0.3)
    shown = [fate.shows(profile, "drop", number) for number in range(2_000)]
    assert shown == [Fate(5, "lumen").shows(profile, "drop", number) for number in range(2_000)]
    assert 0.25 < sum(shown) / 2_000 < 0.35
    assert shown != [Fate(6, "lumen").shows(profile, "drop", number) for number in range(2_000)]
    assert shown != [Fate(5, "bright").shows(profile, "drop", number) for number in range(2_000)]


def test_profiles_from_a_document(tmp_path: Path) -> None:
    path = tmp_path / "profiles.yaml"
    path.write_text("default: {profile: mild, drop: 0}\nrecipients:\n  lumen: {never: 1, complete_s: [1, 2]}\n")
    profiles = load_profiles(path)
    assert profiles.of("lumen") == Profile(never=1, complete_s=(1, 2))
    assert profiles.of("bright") == replace(load_profiles("mild").default, drop=0)
    assert load_profiles("none") == Profiles()
    assert {name for name in MISBEHAVIOURS if getattr(load_profiles("wild").default, name) == 0} == set()
    path.write_text("default: {drop: 2}\nrecipients: {lumen: {nevr: 1}}\n")
    with pytest.raises(DocumentError) as refused:
        load_profiles(path)
    assert [problem.path for problem in refused.value.problems] == ["default.drop", "recipients.lumen.nevr"]


def test_protocols_are_spread_evenly() -> None:
    registry = [{"id": f"r{n}", "kind": "partner"} for n in range(18)] + [{"id": "bureau", "kind": "authority"}]
    spoken = spread(registry)
    assert "bureau" not in spoken
    assert sorted(spoken.values()).count("opendsr") == 8
    assert set(list(spoken.values())[:9]) == {"opendsr", "http", "ddrf", "kafka", "manual"}
    assert spread(registry, "http=1, r3=kafka, bureau=opendsr")["r3"] == "kafka"
    assert set(spread(registry, "r3=kafka")) == {"r3"}
    with pytest.raises(MixError, match="r99"):
        spread(registry, "r99=http")


class Requester:
    """Who signs DDRF requests, and publishes its key as a simulated requester does."""

    def __init__(self) -> None:
        self.key = _jwk(generate_private_key(65537, 2048))

    def token(self, jti: str, key: jwk.RSAKey | None = None, **changes: Any) -> str:
        subject = {"identifierType": "email", "identifierFormat": "raw", "identifierValue": EMAIL["identity_value"]}
        claims = {"version": "1.0", "iss": "app.example", "sub": subject, "iat": int(time.time())}
        header = {"typ": "JWT", "alg": "RS256", "kid": "k"}
        identity = jwt.encode(header, claims | {"jti": jti}, self.key)
        return jwt.encode(header, claims | {"jti": str(uuid4()), "idJWT": identity} | changes, key or self.key)


def _jwk(key: RSAPrivateKey) -> jwk.RSAKey:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return jwk.RSAKey.import_key(pem, {"kid": "k"})


@asynchronous
async def test_a_ddrf_party_checks_what_it_gets_and_acknowledges_it(tmp_path: Path) -> None:
    from aiohttp import web

    requester = Requester()
    app = web.Application()
    resource = {"publicKey": [requester.key.as_dict(private=False)]}

    async def publish(_: web.Request) -> web.Response:
        return web.json_response(resource)

    app.router.add_get("/dsrdelete.json", publish)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    keys = f"http://127.0.0.1:{runner.addresses[0][1]}/dsrdelete.json"
    simulator = RecipientSimulator(None, RECIPIENTS, FAST, requester_keys=keys)
    simulator.start()
    try:
        async with controller(simulator) as asking:
            _, _, body = await asking.call("GET", "crashhound", "dsrdelete.json")
            published = json.loads(body)
            assert published["endpoint"] == f"{simulator.url}/r/crashhound/dsrdelete"
            known = jwk.KeySet.import_key_set({"keys": published["publicKey"]})

            async def ask(token: str) -> tuple[int, dict[str, Any]]:
                code, _, body = await asking.call("POST", "crashhound", "dsrdelete", json={"rqJWT": token})
                return code, jwt.decode(json.loads(body)["acJWT"], known, algorithms=["RS256"]).claims

            jti = str(uuid4())
            token = requester.token(jti)
            code, claims = await ask(token)
            assert (code, claims["raResultCode"], claims["rqJWT"]) == (202, 0, token)
            await asking.until(lambda: asking.entry("crashhound", jti)["deleted_at"] is not None)
            code, _, body = await asking.call("POST", "crashhound", "dsrdelete", data=token)
            assert code == 202
            assert jwt.decode(body.decode(), known, algorithms=["RS256"]).claims["raResultCode"] == 0
            assert asking.entry("crashhound", jti)["outcomes"] == ["accepted", "repeated"]

            stranger = _jwk(generate_private_key(65537, 2048))
            for refused, result in [
                (requester.token(str(uuid4()), stranger), 2),
                ("no token", 3),
                ("", 1),
                (requester.token(str(uuid4()), iat=4_000_000_000), 6),
            ]:
                code, claims = await ask(refused)
                assert (code, claims["raResultCode"]) == (400, result)
            assert len(simulator.truth()["crashhound"]["commands"]) == 1
            simulator.change("crashhound", replace(FAST, identities=("android_id",)))
            assert (await ask(requester.token(str(uuid4()))))[1]["raResultCode"] == 4
            simulator.change("crashhound", replace(FAST, bad_signature=1.0))
            with pytest.raises(BadSignatureError):
                await ask(requester.token(str(uuid4())))
    finally:
        simulator.stop()
        await runner.cleanup()
