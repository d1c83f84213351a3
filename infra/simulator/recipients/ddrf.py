"""Simulated parties of IAB Tech Lab's Data Deletion Request Framework 1.0: `dsrdelete.json`, and an endpoint that
checks rqJWT and idJWT and answers with an acJWT.

The framework knows a receipt and no completion: what is truly deleted shows in the simulator's truth only. A command is
the idJWT's `jti`: the framework's global request identifier.
"""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from joserfc import jwk, jws, jwt
from joserfc.errors import JoseError

from infra.simulator.recipients.recipient import Asked, Recipient
from infra.simulator.recipients.site import Site, hang_up, reply
from streams.identities import IDENTITY_FORMATS

_ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA", "Ed25519"]
# Section "Result Codes".
ACCEPTED, MALFORMED, BAD_SIGNATURE, BAD_TOKEN, UNSUPPORTED, BAD_FORMAT, BAD_TIME = range(7)
_CLOCK_SKEW = 300


class _RefusedError(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class DDRFParties:
    """The routes of every DDRF recipient of a site. `requester_keys`: URL of the dsrdelete.json of another requester
    than the one whose key the site has made."""

    def __init__(self, site: Site, requester_keys: str | None) -> None:
        self._site = site
        self._requester_keys = requester_keys
        self._own: jwk.Key = jwk.RSAKey.import_key(site.certificates.requester_key())
        self._known: list[jwk.Key] | None = None
        self._session: aiohttp.ClientSession | None = None

    def add_routes(self, app: web.Application) -> None:
        app.router.add_get("/r/{recipient}/dsrdelete.json", self._resource)
        app.router.add_post("/r/{recipient}/dsrdelete", self._delete)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _resource(self, request: web.Request) -> web.StreamResponse:
        recipient = self._site.find(request, "ddrf")
        about = ("dsrdelete.json", recipient.turn("dsrdelete.json", ""))
        error = recipient.error(*about)
        if error:
            return self._site.failed(recipient, error)
        kinds = [(kind, form) for kind in recipient.profile.identities for form in IDENTITY_FORMATS]
        resource = {
            "endpoint": f"{self._site.home(recipient.name)}/dsrdelete",
            "identifiers": [{"id": n, "type": kind, "format": form} for n, (kind, form) in enumerate(kinds, 1)],
            "publicKey": [self._key(recipient).as_dict(private=False, use="sig", alg="RS256")],
            "vendorScriptRequirement": False,
        }
        return await reply(request, recipient, about, 200, resource)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        recipient = self._site.find(request, "ddrf")
        text = (await request.text()).strip()
        wrapped = text.startswith("{")
        token = ""
        try:
            token = orjson.loads(text).get("rqJWT", "") if wrapped else text
            asked = await self._ask(recipient, token)
        except ValueError:
            asked, code, words = None, MALFORMED, "the body is no JSON"
        except _RefusedError as error:
            asked, code, words = None, error.code, str(error)
        if asked is None:
            recipient.note(f"refused_{code}")
            about: tuple[object, ...] = ("bad", recipient.turn("bad", ""))
        elif asked.drop:
            return hang_up(request)
        elif asked.taken:
            code, words, about = ACCEPTED, "", ("request", asked.entry.key, asked.turn)
        elif asked.outcome in ("refused", "exempt", "unsupported"):
            code, words = UNSUPPORTED, asked.entry.ground or "unsupported identifier type"
            about = ("request", asked.entry.key, asked.turn)
        else:
            return self._site.failed(recipient, asked.outcome)
        answer = self._acknowledgement(recipient, token, code, words, about)
        status = 202 if code == ACCEPTED else 400
        if wrapped:
            return await reply(request, recipient, about, status, {"acJWT": answer})
        return await reply(request, recipient, about, status, answer.encode(), content_type="application/jwt")

    async def _ask(self, recipient: Recipient, token: object) -> Asked:
        if not isinstance(token, str) or not token:
            raise _RefusedError(MALFORMED, "rqJWT is missing")
        outer = await self._claims(token)
        if not isinstance(outer.get("idJWT"), str):
            raise _RefusedError(MALFORMED, "idJWT is missing")
        inner = await self._claims(outer["idJWT"])
        for claims in (outer, inner):
            missing = {"version", "jti", "iss", "sub", "iat"} - claims.keys()
            if missing:
                raise _RefusedError(MALFORMED, f"{sorted(missing)[0]} is missing")
            if not isinstance(claims["iat"], int | float) or claims["iat"] > time.time() + _CLOCK_SKEW:
                raise _RefusedError(BAD_TIME, "iat is no time that has been")
        subject = outer["sub"]
        if isinstance(subject, str):
            # The table of the specification has a string, its examples an object.
            subject = orjson.loads(subject)
        if (
            not isinstance(subject, dict)
            or not {"identifierType", "identifierFormat", "identifierValue"} <= subject.keys()
        ):
            raise _RefusedError(MALFORMED, "sub names no identifier")
        identity = {
            "identity_type": str(subject["identifierType"]),
            "identity_format": str(subject["identifierFormat"]),
            "identity_value": str(subject["identifierValue"]),
        }
        if identity["identity_format"] not in IDENTITY_FORMATS:
            raise _RefusedError(BAD_FORMAT, "the identifier's format is not supported")
        # Our own connector says in a `jti` which identifier of a command it is.
        return recipient.ask(str(inner["jti"]).partition("/")[0], [identity])

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            jws.extract_compact(token.encode())
        except (JoseError, ValueError) as error:
            raise _RefusedError(BAD_TOKEN, f"no JWT: {type(error).__name__}") from None
        for key in [self._own, *await self._others()]:
            try:
                return dict(jwt.decode(token, key, algorithms=_ALGORITHMS).claims)
            except (JoseError, ValueError):
                # Another key's signature, or an algorithm that is none of this key's.
                continue
        raise _RefusedError(BAD_SIGNATURE, "the signature is not the requester's")

    async def _others(self) -> list[jwk.Key]:
        """The keys that another requester publishes, fetched once."""
        if self._known is None and self._requester_keys is not None:
            self._session = self._session or aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
            try:
                async with self._session.get(self._requester_keys) as answer:
                    resource = orjson.loads(await answer.read())
                self._known = list(jwk.KeySet.import_key_set({"keys": resource["publicKey"]}).keys)
            except (aiohttp.ClientError, TimeoutError, JoseError, ValueError, KeyError, TypeError) as error:
                raise _RefusedError(BAD_SIGNATURE, f"no keys of the requester: {type(error).__name__}") from None
        return self._known or []

    def _key(self, recipient: Recipient) -> jwk.RSAKey:
        key = self._site.certificates.signing_key(recipient.name)
        return _rsa(key, f"{recipient.name}-1")

    def _acknowledgement(
        self, recipient: Recipient, token: object, code: int, words: str, about: tuple[object, ...]
    ) -> str:
        claims = {
            "version": "1.0",
            "rqJWT": token if isinstance(token, str) else "",
            "jti": str(uuid4()),
            "iss": self._site.host,
            "iat": int(time.time()),
            "raResultCode": code,
            "raResultString": words,
        }
        key = self._key(recipient)
        header = {"typ": "JWT", "alg": "RS256", "kid": key.kid}
        if recipient.shows("bad_signature", *about):
            key = _rsa(generate_private_key(65537, 2048), str(key.kid))
        return jwt.encode(header, claims, key)


def _rsa(key: Any, kid: str) -> jwk.RSAKey:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return jwk.RSAKey.import_key(pem, {"kid": kid})
