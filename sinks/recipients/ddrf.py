"""IAB Tech Lab's Data Deletion Request Framework 1.0 towards a recipient: signed requests, signed acknowledgements.

The framework proves that a request was received and accepted. It has no message that says that data was deleted: so a
recipient asked this way stays acknowledged until a person confirms, and fails at the end of the term without. Version
2.0 renames the tokens and is not spoken here.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID, uuid4

import orjson
from joserfc import jwk, jws, jwt
from joserfc.errors import JoseError

from processors.erasure_commands import Answer, Command, Grade
from sinks.recipients.connector import CallbackRefused
from sinks.recipients.identifiers import known_there
from sinks.recipients.transport import TransientError, Transport, TransportError

VERSION = "1.0"
_ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"]
_SUPPORTED_SECONDS = 86_400.0
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


class DdrfConnector:
    """One party. `url`: its dsrdelete.json; `issuer`: our domain, where our own dsrdelete.json shows our public key;
    `private_key`: PEM, RSA. Raises `ValueError` when there is no usable key."""

    protocol = "ddrf"

    def __init__(
        self,
        url: str,
        transport: Transport,
        *,
        issuer: str,
        private_key: str | None,
        headers: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not private_key:
            raise ValueError("`key` must name the secret with our RSA private key (PEM): requests are signed with it")
        try:
            self._key = jwk.RSAKey.import_key(private_key)
        except (JoseError, ValueError, TypeError):
            raise ValueError("the secret that `key` names holds no RSA private key in PEM") from None
        self._url = url
        self._transport = transport
        self._issuer = issuer
        self._headers = dict(headers or {})
        self._clock = clock
        self._resource: tuple[float, dict[str, Any]] | None = None

    async def dispatch(self, command: Command) -> Answer:
        """Sends an rqJWT for each identifier that the party supports; all of them must be accepted."""
        try:
            resource = await self._party()
            supported = [(one["type"], one["format"]) for one in resource["identifiers"]]
            identities = known_there(command.identities, supported)
            if not identities:
                kinds = ", ".join(sorted({kind for kind, _ in supported})) or "nothing"
                return Answer("unsupported", detail=f"knows the person by none of: {kinds}")
            answer = Answer("retry", detail="nothing was sent")
            for identity in identities:
                answer = await self._ask(resource, command, identity)
                if answer.outcome != "acknowledged":
                    return answer
            return answer
        except TransportError as error:
            return Answer("retry", detail=str(error), retry_after=_after(error))
        except (KeyError, TypeError, ValueError, JoseError) as error:
            # What the library says may quote the token.
            return Answer("retry", detail=f"dsrdelete.json or acknowledgement unusable: {type(error).__name__}")

    async def check(self, command: Command, reference: str) -> Answer:
        """There is nothing to ask: the framework knows no status."""
        return Answer("acknowledged", Grade.acknowledged, "accepted, signed; a person must confirm the deletion")

    async def callback(self, headers: Mapping[str, str], body: bytes, callback_url: str) -> tuple[UUID, Answer]:
        raise CallbackRefused(404, "this protocol has no callbacks")

    async def close(self) -> None:
        await self._transport.close()

    async def _party(self) -> dict[str, Any]:
        if self._resource is not None and self._clock() - self._resource[0] < _SUPPORTED_SECONDS:
            return self._resource[1]
        reply = await self._transport.request("GET", self._url, headers=self._headers)
        if reply.status != 200:
            raise TransientError(f"dsrdelete.json: HTTP {reply.status}")
        resource: dict[str, Any] = orjson.loads(reply.body)
        self._resource = self._clock(), resource
        return resource

    async def _ask(self, resource: Mapping[str, Any], command: Command, identity: Mapping[str, str]) -> Answer:
        token = self._request(command, identity)
        reply = await self._transport.request(
            "POST",
            resource["endpoint"],
            headers={**self._headers, "Content-Type": "application/json"},
            body=orjson.dumps({"rqJWT": token}),
        )
        evidence = hashlib.sha256(reply.body).hexdigest()
        claims = self._acknowledgement(resource, reply.body)
        if claims.get("rqJWT") != token:
            return Answer("retry", detail="its acknowledgement is of another request", evidence=evidence)
        code = claims.get("raResultCode")
        if code == ACCEPTED and reply.status == 202:
            return Answer(
                "acknowledged",
                Grade.acknowledged,
                "accepted, signed; a person must confirm the deletion",
                reference=str(command.idempotency_key),
                evidence=evidence,
            )
        detail = f"result code {code}: {_CODES.get(code, 'not one of the framework')}"  # type: ignore[arg-type]
        if code == UNSUPPORTED:
            return Answer("unsupported", detail=detail, evidence=evidence)
        if code in (BAD_SIGNATURE, BAD_TIME) or code not in _CODES:
            # Keys are renewed and clocks are set.
            self._resource = None
            return Answer("retry", detail=detail, evidence=evidence)
        return Answer("failed", detail=detail, evidence=evidence)

    def _request(self, command: Command, identity: Mapping[str, str]) -> str:
        """rqJWT around idJWT (sections 3.1 and 3.2). The idJWT's `jti` is the request's global id."""
        subject = {
            "identifierType": identity["identity_type"],
            "identifierFormat": identity["identity_format"],
            "identifierValue": identity["identity_value"],
        }
        now = int(self._clock())
        common = {"version": VERSION, "iss": self._issuer, "sub": subject, "iat": now}
        inner = self._signed({**common, "jti": str(command.idempotency_key), "iat": command.submitted_at // 1000})
        return self._signed({**common, "jti": str(uuid4()), "idJWT": inner})

    def _signed(self, claims: dict[str, Any]) -> str:
        return jwt.encode({"typ": "JWT", "alg": "RS256"}, claims, self._key)

    def _acknowledgement(self, resource: Mapping[str, Any], body: bytes) -> dict[str, Any]:
        """The claims of an acJWT that one of the party's published keys has signed. Raises `JoseError`."""
        token = body.decode("ascii").strip()
        if token.startswith("{"):
            token = orjson.loads(token)["acJWT"]
        keys = resource["publicKey"]
        keys = keys if isinstance(keys, list) else [keys]
        kid = jws.extract_compact(token.encode()).headers().get("kid")
        wrong: Exception = ValueError("no key")
        for published in sorted(keys, key=lambda key: key.get("kid") != kid):
            try:
                return dict(jwt.decode(token, jwk.import_key(published), algorithms=_ALGORITHMS).claims)
            except (JoseError, ValueError) as error:
                wrong = error
        raise wrong


def _after(error: TransportError) -> float | None:
    return error.retry_after if isinstance(error, TransientError) else None
