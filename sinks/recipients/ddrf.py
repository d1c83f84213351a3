"""IAB Tech Lab's Data Deletion Request Framework 1.0 towards a recipient: signed requests, signed acknowledgements.

The framework proves that a request was received and accepted. It has no message that says that data was deleted: so a
recipient asked this way stays acknowledged until a person confirms, and fails at the end of the term without. Version
2.0 renames the tokens and is not spoken here.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import orjson
from joserfc import jwk, jws, jwt
from joserfc.errors import JoseError

from processors.erasure_commands import Answer, Command, Grade
from sinks.recipients.connector import CallbackRefused, DiscoveryError
from sinks.recipients.identifiers import kinds_of, known_there, unknown_there
from sinks.recipients.transport import TransientError, Transport, TransportError, seconds_asked_for

VERSION = "1.0"
_ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"]
_FRESH_SECONDS = 86_400.0
# Section "Result Codes". Of the others a repetition makes nothing better.
ACCEPTED, BAD_SIGNATURE, UNSUPPORTED, BAD_TIME = 0, 2, 4, 6
_CODES = {
    1: "malformed",
    2: "signature not accepted",
    3: "token not accepted",
    4: "unsupported identifier",
    5: "identifier in a wrong format",
    6: "time not accepted",
}


@dataclass(frozen=True)
class Party:
    """What a dsrdelete.json says. `identifiers`: (type, format) in our words; `keys`: what it signs with."""

    endpoint: str
    identifiers: tuple[tuple[str, str], ...]
    keys: tuple[jwk.Key, ...]


class UnusableError(Exception):
    """Something of the party that does not say what it must; the text quotes nothing of it."""


class DdrfConnector:
    """One party. `url`: its dsrdelete.json; `issuer`: our domain, where our own dsrdelete.json shows our public key;
    `private_key`: PEM, RSA; `types`: its words for types of identifiers → ours. Raises `ValueError` when there is no
    usable key or issuer."""

    protocol = "ddrf"

    def __init__(
        self,
        url: str,
        transport: Transport,
        *,
        issuer: str,
        private_key: str | None,
        types: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not issuer:
            raise ValueError("`issuer` must name our domain: there recipients look for our public key")
        if not private_key:
            raise ValueError("`key` must name the secret with our RSA private key (PEM): requests are signed with it")
        try:
            key = jwk.RSAKey.import_key(private_key)
        except (JoseError, ValueError, TypeError):
            key = None
        if key is None or not key.is_private:
            raise ValueError("the secret that `key` names holds no RSA private key in PEM")
        self._key = key
        self._url = url
        self._transport = transport
        self._issuer = issuer
        self._types = dict(types or {})
        self._headers = dict(headers or {})
        self._clock = clock
        self._party: tuple[float, Party] | None = None

    async def dispatch(self, command: Command) -> Answer:
        """Sends an rqJWT for each identifier that the party supports; all of them must be accepted."""
        try:
            party = await self._announced()
            identities = known_there(command.identities, party.identifiers)
            if not identities:
                return unknown_there(party.identifiers)
            answers = [await self._ask(party, command, identity) for identity in identities]
        except TransportError as error:
            return Answer("retry", detail=str(error), retry_after=seconds_asked_for(error))
        except UnusableError as error:
            self._party = None
            return Answer("retry", detail=str(error))
        # What went worst counts; one identifier that it does not take after all spoils nothing.
        worst = ("retry", "failed", "acknowledged", "unsupported")
        return min(answers, key=lambda answer: worst.index(answer.outcome))

    async def check(self, command: Command, reference: str) -> Answer:
        """There is nothing to ask: the framework knows no status."""
        return Answer("acknowledged", Grade.acknowledged, "accepted, signed; a person must confirm the deletion")

    async def callback(self, headers: Mapping[str, str], body: bytes, callback_url: str) -> tuple[UUID, Answer]:
        raise CallbackRefused(404, "this protocol has no callbacks")

    async def discover(self) -> str:
        """What its dsrdelete.json says, in words. Raises `DiscoveryError`."""
        try:
            party = await self._announced()
        except (TransportError, UnusableError) as error:
            raise DiscoveryError(str(error)) from None
        return f"knows people by {kinds_of(party.identifiers)}; {len(party.keys)} keys"

    async def close(self) -> None:
        await self._transport.close()

    async def _announced(self) -> Party:
        if self._party is None or self._clock() - self._party[0] >= _FRESH_SECONDS:
            reply = await self._transport.request("GET", self._url, headers=self._headers)
            if reply.status != 200:
                raise TransientError(f"dsrdelete.json: HTTP {reply.status}")
            self._party = self._clock(), _party(reply.body, self._types)
        return self._party[1]

    async def _ask(self, party: Party, command: Command, identity: Mapping[str, str]) -> Answer:
        token = self._request(command, identity)
        reply = await self._transport.request(
            "POST",
            party.endpoint,
            headers={**self._headers, "Content-Type": "application/json"},
            body=orjson.dumps({"rqJWT": token}),
        )
        evidence = hashlib.sha256(reply.body).hexdigest()
        claims = _acknowledgement(party, reply.body)
        if claims.get("rqJWT") != token:
            return Answer("retry", detail="its acknowledgement is of another request", evidence=evidence)
        code = claims.get("raResultCode")
        if code == ACCEPTED and reply.status < 300:
            return Answer(
                "acknowledged",
                Grade.acknowledged,
                "accepted, signed; a person must confirm the deletion",
                reference=str(command.idempotency_key),
                evidence=evidence,
            )
        words = _CODES.get(code) if isinstance(code, int) else None
        if words is None:
            return Answer("retry", detail="an answer that the framework does not know", evidence=evidence)
        detail = f"result code {code}: {words}"
        if code == UNSUPPORTED:
            return Answer("unsupported", detail=detail, evidence=evidence)
        if code in (BAD_SIGNATURE, BAD_TIME):
            # Keys are renewed and clocks are set.
            return Answer("retry", detail=detail, evidence=evidence)
        return Answer("failed", detail=detail, evidence=evidence)

    def _request(self, command: Command, identity: Mapping[str, str]) -> str:
        """rqJWT around idJWT. The idJWT's `jti` is the same for every attempt, and another for each identifier: who has
        seen one does nothing again."""
        kind = identity["identity_type"]
        subject = {
            "identifierType": next((theirs for theirs, ours in self._types.items() if ours == kind), kind),
            "identifierFormat": identity["identity_format"],
            "identifierValue": identity["identity_value"],
        }
        told = hashlib.sha256("\0".join(subject.values()).encode()).hexdigest()[:16]
        common = {"version": VERSION, "iss": self._issuer, "sub": subject}
        inner = self._signed(
            {**common, "jti": f"{command.idempotency_key}/{told}", "iat": command.submitted_at // 1000}
        )
        return self._signed({**common, "jti": str(uuid4()), "iat": int(self._clock()), "idJWT": inner})

    def _signed(self, claims: dict[str, Any]) -> str:
        return jwt.encode({"typ": "JWT", "alg": "RS256", "kid": self._key.thumbprint()}, claims, self._key)


def _party(body: bytes, types: Mapping[str, str]) -> Party:
    """Raises `UnusableError`."""
    try:
        said = orjson.loads(body)
        endpoint, published = said["endpoint"], said["publicKey"]
        identifiers = [(one["type"], one["format"]) for one in said["identifiers"]]
        # A list, says the specification; a single key is understood as well.
        published = published if isinstance(published, list) else [published]
        keys = tuple(jwk.import_key(key) for key in published if key["kty"] in ("RSA", "EC", "OKP"))
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        raise UnusableError("dsrdelete.json: not what the framework says") from None
    if not isinstance(endpoint, str) or not all(isinstance(word, str) for one in identifiers for word in one):
        raise UnusableError("dsrdelete.json: not what the framework says")
    return Party(endpoint, tuple((types.get(kind, kind), form) for kind, form in identifiers), keys)


def _acknowledgement(party: Party, body: bytes) -> dict[str, Any]:
    """The claims of an acJWT, bare or as JSON, that one of the party's published keys has signed. Raises
    `UnusableError`."""
    try:
        token = body.decode("ascii").strip()
        if token.startswith("{"):
            token = orjson.loads(token)["acJWT"]
        kid = jws.extract_compact(token.encode()).headers().get("kid")
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        raise UnusableError("an answer without an acJWT") from None
    for key in sorted(party.keys, key=lambda key: key.kid != kid):
        try:
            return dict(jwt.decode(token, key, algorithms=_ALGORITHMS).claims)
        except (JoseError, ValueError):
            # Another key's signature, or an algorithm that is none of this key's.
            continue
    raise UnusableError("its acknowledgement is signed by none of its published keys")
