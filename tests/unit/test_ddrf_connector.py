"""DDRF as a requester: what a party gets, and what its acknowledgements are worth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import orjson
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from joserfc import jwk, jws, jwt

from processors.erasure_commands import Answer, Grade
from sinks.recipients.connector import CallbackRefused, DiscoveryError
from sinks.recipients.ddrf import DdrfConnector
from sinks.recipients.transport import Transport
from tests.unit.recipient_server import COMMAND, EMAIL, serving

PHONE = {"identity_type": "phone", "identity_format": "raw", "identity_value": "+8613800000000"}


@pytest.fixture(scope="module")
def pem() -> str:
    key = generate_private_key(65537, 2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


class Party:
    """A party whose answers a test decides. `codes`: type of identifier → result code; others are accepted."""

    def __init__(self, pem: str) -> None:
        self._requester = jwk.RSAKey.import_key(pem)
        self.key: jwk.Key = jwk.ECKey.generate_key("P-256", {"kid": "second"})
        self.identifiers: Any = [{"id": 1, "type": "email", "format": "sha256"}]
        self.codes: dict[str, Any] = {}
        self.changes: dict[str, Any] = {}
        self.resource_changes: dict[str, Any] = {}
        self.asked: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.signs: jwk.Key = self.key

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/dsrdelete.json":
            other = jwk.RSAKey.generate_key(2048, {"kid": "first"})
            resource = {
                "endpoint": f"{request.scheme}://{request.host}/delete",
                "identifiers": self.identifiers,
                "publicKey": [key.as_dict(private=False) for key in (other, self.key)],
                "vendorScriptRequirement": False,
            }
            return web.json_response(resource | self.resource_changes)
        token = orjson.loads(await request.read())["rqJWT"]
        assert jws.extract_compact(token.encode()).headers()["kid"] == self._requester.thumbprint()
        outer = dict(jwt.decode(token, self._requester).claims)
        self.asked.append((outer, dict(jwt.decode(outer["idJWT"], self._requester).claims)))
        code = self.codes.get(outer["sub"]["identifierType"], 0)
        claims = {"version": "1.0", "rqJWT": token, "jti": str(uuid4()), "iss": "p.example", "iat": 1}
        claims |= {"raResultCode": code} | self.changes
        algorithm = "RS256" if isinstance(self.signs, jwk.RSAKey) else "ES256"
        answer = jwt.encode({"typ": "JWT", "alg": algorithm, "kid": "second"}, claims, self.signs)
        return web.json_response({"acJWT": answer}, status=202 if code == 0 else 400)


def playing(
    pem: str, play: Callable[[Party, DdrfConnector], Awaitable[None]], types: dict[str, str] | None = None
) -> Party:
    party = Party(pem)

    async def run() -> None:
        async with serving(party.answer) as url:
            connector = DdrfConnector(
                f"{url}/dsrdelete.json",
                Transport(allow_private=True),
                issuer="us.example",
                private_key=pem,
                types=types,
            )
            await play(party, connector)
            await connector.close()

    asyncio.run(run())
    return party


def test_every_identifier_is_a_request_of_its_own(pem: str) -> None:
    command = replace(COMMAND, identities=(EMAIL, PHONE))

    async def play(party: Party, connector: DdrfConnector) -> None:
        party.identifiers = [{"type": "email", "format": "sha256"}, {"type": "msisdn", "format": "raw"}]
        for _ in range(2):
            answer = await connector.dispatch(command)
            assert (answer.outcome, answer.grade) == ("acknowledged", Grade.acknowledged)
            assert len(answer.evidence) == 64
            # There is no telling when it will be done, and nobody to ask.
            assert answer.check_after is None

    party = playing(pem, play, {"msisdn": "phone"})
    outer, inner = zip(*party.asked, strict=True)
    assert [claims["sub"]["identifierType"] for claims in outer] == ["msisdn", "email"] * 2
    assert outer[0]["sub"] == inner[0]["sub"]
    assert outer[1]["sub"]["identifierValue"].startswith("b5fb79bc07fa2404")
    assert {claims["iss"] for claims in (*outer, *inner)} == {"us.example"}
    # The same for every attempt, another for each identifier; transactions differ always.
    assert [claims["jti"] for claims in inner[:2]] == [claims["jti"] for claims in inner[2:]]
    assert len({claims["jti"] for claims in inner}) == 2
    assert all(claims["jti"].startswith(str(COMMAND.idempotency_key)) for claims in inner)
    assert len({claims["jti"] for claims in outer}) == 4
    assert inner[0]["iat"] == COMMAND.submitted_at // 1000
    assert abs(outer[0]["iat"] - time.time()) < 60


@pytest.mark.parametrize(
    ("email", "phone", "outcome"),
    [
        (0, 0, "acknowledged"),
        (0, 4, "acknowledged"),
        (4, 4, "unsupported"),
        (0, 1, "failed"),
        (3, 0, "failed"),
        (5, 4, "failed"),
        (0, 2, "retry"),
        (6, 1, "retry"),
        (99, 0, "retry"),
        ([], 0, "retry"),
    ],
)
def test_result_codes(email: object, phone: object, outcome: str, pem: str) -> None:
    async def play(party: Party, connector: DdrfConnector) -> None:
        party.identifiers = [{"type": "email", "format": "raw"}, {"type": "phone", "format": "raw"}]
        party.codes = {"email": email, "phone": phone}
        answer = await connector.dispatch(replace(COMMAND, identities=(EMAIL, PHONE)))
        assert answer.outcome == outcome
        assert "John" not in repr(answer)

    playing(pem, play)


@pytest.mark.parametrize(
    "key",
    [jwk.ECKey.generate_key("P-256"), jwk.RSAKey.generate_key(2048)],
    ids=["another of its kind", "of another kind"],
)
def test_an_acknowledgement_by_another_key_counts_for_nothing(key: jwk.Key, pem: str) -> None:
    async def play(party: Party, connector: DdrfConnector) -> None:
        party.signs = key
        answer = await connector.dispatch(COMMAND)
        assert (answer.outcome, answer.grade) == ("retry", Grade.none)
        # It has announced a new key since.
        party.key = key
        assert (await connector.dispatch(COMMAND)).outcome == "acknowledged"

    playing(pem, play)


def test_an_acknowledgement_of_another_request_counts_for_nothing(pem: str) -> None:
    async def play(party: Party, connector: DdrfConnector) -> None:
        party.changes = {"rqJWT": "e30.e30.e30"}
        assert (await connector.dispatch(COMMAND)).outcome == "retry"

    playing(pem, play)


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": 17},
        {"endpoint": "https://[broken"},
        {"endpoint": "ftp://party.example"},
        {"publicKey": ["key"]},
        {"publicKey": None},
        {"publicKey": [{"kty": "oct", "k": "c2VjcmV0"}]},
        {"identifiers": [{"type": 1, "format": "raw"}]},
        {"identifiers": "email"},
    ],
)
def test_a_resource_that_is_none(changes: dict[str, Any], pem: str) -> None:
    async def play(party: Party, connector: DdrfConnector) -> None:
        party.resource_changes = changes
        assert (await connector.dispatch(COMMAND)).outcome == "retry"

    playing(pem, play)


def test_who_announces_nothing_usable_is_found_out(pem: str) -> None:
    async def play(party: Party, connector: DdrfConnector) -> None:
        assert await connector.discover() == "knows people by email; 2 keys"

    async def broken(party: Party, connector: DdrfConnector) -> None:
        party.identifiers = None
        with pytest.raises(DiscoveryError):
            await connector.discover()

    assert playing(pem, play).asked == []
    playing(pem, broken)


def test_who_knows_the_person_by_nothing_is_told_nothing(pem: str) -> None:
    async def play(party: Party, connector: DdrfConnector) -> None:
        answer = await connector.dispatch(replace(COMMAND, identities=(PHONE,)))
        assert answer == Answer("unsupported", detail="knows the person by none of: email")

    assert playing(pem, play).asked == []


def test_there_is_nothing_to_ask_and_nobody_calls_back(pem: str) -> None:
    async def play(party: Party, connector: DdrfConnector) -> None:
        answer = await connector.check(COMMAND, "")
        assert (answer.outcome, answer.grade) == ("acknowledged", Grade.acknowledged)
        with pytest.raises(CallbackRefused) as refused:
            await connector.callback({}, b"", "")
        assert refused.value.status == 404

    playing(pem, play)


@pytest.mark.parametrize("which", ["none", "public", "other kind", "no issuer"])
def test_without_a_key_or_a_name_of_our_own_nothing_is_signed(which: str, pem: str) -> None:
    given: str | None = pem
    issuer = "us.example"
    match which:
        case "none":
            given = None
        case "public":
            given = jwk.RSAKey.import_key(pem).as_pem(private=False).decode()
        case "other kind":
            given = jwk.ECKey.generate_key("P-256").as_pem().decode()
        case _:
            issuer = ""
    with pytest.raises(ValueError, match=r"`key`|`issuer`"):
        DdrfConnector("https://p.example/dsrdelete.json", Transport(), issuer=issuer, private_key=given)
