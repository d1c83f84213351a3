"""Tokens of an identity provider (OpenID Connect): which are taken, and as whom. Pure: fetches no key, reads no clock.

No error text quotes a token or a claim. Sources: RFC 7519 (JWT), RFC 8725 (what to beware of), RFC 9068 (access
tokens), OpenID Connect Core 1.0 sections 2 and 3.1.3.7 (ID tokens).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey, import_key

from processors.api_clients import OIDC_PREFIX, ApiClient, Forbidden, Unauthorized, digest

# Algorithm → type and curve of its keys. Signatures only: with `none` anybody signs, with HS256 whoever has the public
# key does.
ALGORITHMS: Mapping[str, tuple[str, str | None]] = {
    "RS256": ("RSA", None),
    "PS256": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "EdDSA": ("OKP", "Ed25519"),
    "Ed25519": ("OKP", "Ed25519"),
}
MOST_TOKEN = 16_384
# Clocks differ.
LEEWAY_SECONDS = 30.0
_MOST_HEADER = 8192
_MOST_NAME = 200
_LEAST_RSA_BITS = 2048

# access: for us, to be sent with each request. id: tells our pages who has signed in, and is for nothing else.
Kind = Literal["access", "id"]
# Of the two no one is taken for the other, nor a refresh, logout or other token for either. How they tell: the header's
# `typ` (RFC 9068), the claim `typ` (Keycloak), the claim `token_use` (Cognito and others).
_DECLARED: Mapping[Kind, Mapping[str, tuple[str, ...]]] = {
    "access": {"header": ("", "jwt", "at+jwt"), "typ": ("bearer", "jwt", "at+jwt"), "token_use": ("access",)},
    "id": {"header": ("", "jwt"), "typ": ("id", "jwt"), "token_use": ("id",)},
}
# An access token that does not say so has none of these, which belong to ID tokens.
_OF_ID_TOKENS = ("nonce", "at_hash", "c_hash")


class UnknownKey(Exception):
    """A token is signed with a key that is not among those given."""


@dataclass(frozen=True)
class Trust:
    """What is believed of whom.

    audience: what an access token must be for. role_claims: paths of claims, of which the values count; roles: such a
    value → our roles; verifying: values of which a client `verifies_identity`. name_claim: who is shown in looks.
    """

    issuer: str
    audience: str
    roles: Mapping[str, frozenset[str]]
    role_claims: Sequence[str]
    name_claim: str = "sub"
    verifying: frozenset[str] = frozenset()
    algorithms: Sequence[str] = tuple(ALGORITHMS)


@dataclass(frozen=True)
class Signed:
    """A token whose signature holds. Nothing else of it is checked yet."""

    token: str = field(repr=False)
    algorithm: str
    header: Mapping[str, Any] = field(repr=False)
    claims: Mapping[str, Any] = field(repr=False)


def usable_keys(document: Any) -> list[Key]:
    """The keys of a JWK Set (RFC 7517) that may sign tokens; those that are for something else are left out.

    Raises ValueError: this is no JWK Set.
    """
    entries = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(entries, list):
        raise ValueError("not a JWK Set")
    found = (_key(entry) for entry in entries if isinstance(entry, Mapping))
    return [key for key in found if key is not None]


def signed(token: str, keys: Iterable[Key], trust: Trust) -> Signed:
    """A token whose signature is by one of the keys. Raises `Unauthorized`, `UnknownKey`."""
    if len(token) > MOST_TOKEN:
        raise Unauthorized(f"this token is too long: the most are {MOST_TOKEN} characters")
    header = _header(token)
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in trust.algorithms or algorithm not in ALGORITHMS:
        raise Unauthorized(f"this token is signed in a way that is not taken; taken are: {', '.join(trust.algorithms)}")
    if kid is not None and not isinstance(kid, str):
        raise Unauthorized("this token names its key in a way that cannot be read")
    key = _choose(keys, kid, algorithm)
    try:
        found = jws.deserialize_compact(token, key, registry=_Signatures(algorithms=[algorithm]))
        claims = json.loads(found.payload)
    except (JoseError, ValueError, RecursionError):
        raise Unauthorized("the signature of this token does not hold") from None
    if not isinstance(claims, dict):
        raise Unauthorized("this token makes no claims")
    return Signed(token, algorithm, found.headers(), claims)


def client_of(token: Signed, trust: Trust, audience: str, kind: Kind, now: float) -> ApiClient:
    """As whom a token is let in. now: seconds since 1970, UTC. Raises `Unauthorized`; `Forbidden`: it has no role."""
    expires = _check(token, trust, audience, kind, now)
    name = _name(token.claims.get(trust.name_claim), trust.name_claim)
    values = {value for path in trust.role_claims for value in _values(token.claims, path)}
    roles = frozenset(role for value in values for role in trust.roles.get(value, ()))
    if not roles:
        raise Forbidden(
            f"this token is good, and gives no role here: no value of {' or '.join(trust.role_claims)} is mapped to one"
        )
    return ApiClient(name, digest(token.token), roles, int(expires * 1000), not values.isdisjoint(trust.verifying))


def check_sign_in(token: Signed, trust: Trust, client_id: str, nonce: str, access_token: str, now: float) -> None:
    """Whether an ID token answers the sign-in that was begun with this nonce. Raises `Unauthorized`."""
    _check(token, trust, client_id, "id", now)
    told, hashed = token.claims.get("nonce"), token.claims.get("at_hash")
    if not isinstance(told, str) or not hmac.compare_digest(told.encode("utf-8", "surrogatepass"), nonce.encode()):
        raise Unauthorized("this sign-in is not the one that was begun here")
    if hashed is not None and hashed != _half_hash(access_token, token.algorithm):
        raise Unauthorized("the provider's two tokens do not belong together")


def same_subject(one: Signed, other: Signed) -> bool:
    """Whether two tokens of one provider are about the same."""
    subject = one.claims.get("sub")
    return isinstance(subject, str) and subject != "" and subject == other.claims.get("sub")


def expiry(token: Signed) -> float:
    """Seconds since 1970, UTC. Raises `Unauthorized`."""
    return _moment(token.claims, "exp") or 0.0


def _check(token: Signed, trust: Trust, audience: str, kind: Kind, now: float) -> float:
    """Whether a token is of this kind, of the provider, for this audience and in time; when it expires."""
    claims = token.claims
    if claims.get("iss") != trust.issuer:
        raise Unauthorized("this token is of another issuer")
    _check_kind(token, kind)
    told = claims.get("aud")
    audiences = told if isinstance(told, list) else [told]
    if audience not in audiences:
        raise Unauthorized("this token is for another audience")
    if kind == "id" and claims.get("azp", audience if len(audiences) == 1 else None) != audience:
        raise Unauthorized("this token was issued to another client")
    expires, not_before, issued = _moment(claims, "exp"), _moment(claims, "nbf"), _moment(claims, "iat")
    if expires is None:
        raise Unauthorized("this token does not say when it expires")
    if now >= expires + LEEWAY_SECONDS:
        raise Unauthorized("this token has expired")
    if max(not_before or 0.0, issued or 0.0) > now + LEEWAY_SECONDS:
        raise Unauthorized("this token is not valid yet: do the clocks differ?")
    return expires


def _check_kind(token: Signed, kind: Kind) -> None:
    told = {
        "header": str(token.header.get("typ", "")).lower().removeprefix("application/"),
        **{name: str(token.claims[name]).lower() for name in ("typ", "token_use") if name in token.claims},
    }
    declared = _DECLARED[kind]
    if any(value not in declared[name] for name, value in told.items()) or "events" in token.claims:
        raise Unauthorized(_WRONG_KIND[kind])
    if kind == "id":
        return
    is_declared = told["header"] == "at+jwt" or told.get("typ") == "bearer" or "token_use" in told
    if not is_declared and any(name in token.claims for name in _OF_ID_TOKENS):
        raise Unauthorized(_WRONG_KIND[kind])
    if "cnf" in token.claims:
        # Whoever presents it would have to prove that they have a key, which nobody asks for here.
        raise Unauthorized("this token is bound to a key of its client; send one that is not")


_WRONG_KIND: Mapping[Kind, str] = {
    "access": "this is no access token: an ID token or a refresh token opens nothing here",
    "id": "this is no ID token",
}


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e11 or math.isnan(value):
        raise Unauthorized(f"the claim {name} of this token is no time")
    return float(value)


def _name(value: Any, claim: str) -> str:
    """`oidc:` and the claim's value. No API token has such a name, so neither can be taken for the other."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > _MOST_NAME:
        raise Unauthorized(f"the claim {claim} of this token names nobody")
    return f"{OIDC_PREFIX}{value}"


def _values(claims: Mapping[str, Any], path: str) -> list[str]:
    """The values of a claim: that of the very name, else along its dots. Scopes are separated by spaces (RFC 8693)."""
    found: Any = claims
    if path in claims:
        found = claims[path]
    else:
        for step in path.split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return found.split() if path in ("scope", "scp") else [found]
    return [value for value in found if isinstance(value, str)] if isinstance(found, list) else []


def _header(token: str) -> Mapping[str, Any]:
    """Raises `Unauthorized`."""
    parts = token.split(".")
    if len(parts) != 3 or len(parts[0]) > _MOST_HEADER:
        raise Unauthorized("this is neither a token of ours nor a signed one of the identity provider (a JWT)")
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[0] + "=" * (-len(parts[0]) % 4)))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unauthorized("the header of this token cannot be read")
    return found


def _choose(keys: Iterable[Key], kid: str | None, algorithm: str) -> Key:
    """The key that a header names; the only one that fits, where it names none. Raises `UnknownKey`."""
    kind, curve = ALGORITHMS[algorithm]
    fitting = [
        key
        for key in keys
        if key.key_type == kind
        and (curve is None or getattr(key, "curve_name", None) == curve)
        and (kind == "OKP" or key.get("alg") in (None, algorithm))
        and (kid is None or key.get("kid") == kid)
    ]
    if not fitting or (kid is None and len(fitting) > 1):
        raise UnknownKey
    return fitting[0]


def _key(entry: Mapping[str, Any]) -> Key | None:
    operations = entry.get("key_ops")
    if entry.get("use", "sig") != "sig" or (operations is not None and "verify" not in operations):
        return None
    try:
        key = import_key(dict(entry))
        if isinstance(key, RSAKey):
            return key if key.public_key.key_size >= _LEAST_RSA_BITS else None
        return key if isinstance(key, ECKey | OKPKey) else None
    except (JoseError, ValueError, TypeError, KeyError):
        return None


def _half_hash(access_token: str, algorithm: str) -> str:
    """`at_hash` (OpenID Connect Core 1.0, section 3.1.3.6)."""
    hashed = (hashlib.sha512 if ALGORITHMS[algorithm][0] == "OKP" else hashlib.sha256)(access_token.encode()).digest()
    return base64.urlsafe_b64encode(hashed[: len(hashed) // 2]).rstrip(b"=").decode()


class _Signatures(jws.JWSRegistry):
    """Headers may hold what we do not know (RFC 7515, section 4), e.g. certificates; never what is critical to know."""

    max_header_length = _MOST_HEADER

    def __init__(self, algorithms: Sequence[str]) -> None:
        super().__init__(algorithms=algorithms, strict_check_header=False)

    def get_alg(self, name: str) -> Any:
        # Ed25519 is the new name of what EdDSA does with such a key (RFC 9864): the old one is only warned of.
        allowed = self.allowed or ()
        return self.algorithms["Ed25519"] if name == "EdDSA" and name in allowed else super().get_alg(name)
