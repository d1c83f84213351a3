"""The certificate of an erasure: what was asked, who was asked, what each one answered, what is gone and what is left.

A JWS in compact form (RFC 7515), signed with Ed25519 (RFC 9864). It carries its public key, so that anybody can check
it offline, long after the person is gone. Pure. Never holds an identifier of the person: neither user id, alias nor
subject, nor any hash of them.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from processors.erasure import FINAL, STORE
from processors.erasure_commands import Grade
from processors.erasure_remains import REMAINS, SEGMENT_DAYS, Remains

FORMAT = "lineage-erasure-certificate/1"
TYPE = "lineage-erasure-certificate"
# The one algorithm that is ever accepted; `EdDSA` and `none` are not.
ALGORITHM = "Ed25519"

CERTIFIED = ("completed", "partially_completed")

EVIDENCE = {
    Grade.none: "no evidence",
    Grade.dispatched: "sent, unanswered",
    Grade.acknowledged: "the recipient confirmed that it had the request",
    Grade.claimed: "the recipient's word",
    Grade.signed: "the recipient's signed word",
    Grade.verified: "checked independently of the recipient",
}
_ANSWERING = ("8", "a request is answered within thirty days after identity is verified")
_EXEMPTING = ("5", "legal requirements and technical limits may stand against a part of a request")
_BORN = {
    "minor": ("6", "data of minors without a guardian's consent is deleted"),
    "retention": ("4.2", "data is kept no longer than its purposes and the law need it"),
    "shutdown": ("4.2", "data is deleted when the service ends"),
    "leave": ("4.2", "data is kept no longer than its purposes and the law need it"),
    "withdrawal": ("4.2", "data is kept no longer than its purposes and the law need it"),
    "merger": ("3.2(2)", "a successor that does not take on the policy must ask for consent anew"),
}


class NotCertifiableError(ValueError):
    """Nothing that may be certified: it is not over, or something is left, or it would name the person."""


@dataclass(frozen=True)
class ErasedPlace:
    """One own place after the purge. `rows`: how many were removed. `survivors`: how many were counted there after.

    `until`: ms; when its bytes are gone from disk at the latest, None where they are gone.
    """

    place: str
    rows: int
    survivors: int
    until: int | None = None


@dataclass(frozen=True)
class Verified:
    """What became of a check. `signed_by`: the thumbprint (RFC 7638) of the key that signed, where the signature holds.

    `trusted`: whether that key is one of those given. `claims` and `request_id` are of what is signed; None where
    the signature does not hold.
    """

    valid: bool
    reason: str
    request_id: str | None = None
    signed_by: str | None = None
    trusted: bool = False
    claims: Mapping[str, Any] | None = None


def certificate(
    state: Mapping[str, Any], erased_places: Sequence[ErasedPlace], issuer: str, issued_at: int, policy: str = ""
) -> dict[str, Any]:
    """The claims of the certificate of an erasure that is over.

    `state`: an ErasureState record as of its end, `alias` and `subject` still in it or not; ids in bytes or as UUID,
    times in ms. `issuer`: the domain or name of who erased. `issued_at`: ms. `policy`: its title and version, where
    clauses are found. Raises `NotCertifiableError`.
    """
    _check_over(state, erased_places)
    targets = [target for target in state["targets"] if not target["id"].startswith(STORE)]
    ended_at = state["ended_at"] or issued_at
    due_at = state["due_at"]
    claims = {
        "format": FORMAT,
        "issuer": issuer,
        "issued_at": _instant(issued_at),
        "request_id": str(_uuid(state["request_id"])),
        "state": state["state"],
        "origin": state["origin"],
        "regulation": state["regulation"],
        "policy": policy,
        "clauses": _clauses(state["origin"], targets),
        "identity_verified_by": state["verified_by"],
        "received_at": _instant(state["received_at"]),
        "verified_at": _instant(state["verified_at"]),
        "due_at": _instant(due_at),
        "erased_at": _instant(state["erased_at"]),
        "completed_at": _instant(ended_at),
        "in_time": due_at is None or ended_at <= due_at,
        "recipients": [_recipient(target) for target in targets],
        "own_stores": _stores(state["targets"], erased_places),
        "remains": [_remains(one, ended_at) for one in REMAINS],
        "alarms": list(state["alarms"]),
    }
    _check_nameless(claims, state)
    return claims


def _check_over(state: Mapping[str, Any], erased_places: Sequence[ErasedPlace]) -> None:
    if state["state"] not in CERTIFIED:
        raise NotCertifiableError(f"an erasure that is {state['state']} is not certified: it is not over")
    if state["erased_at"] is None:
        raise NotCertifiableError("the link to the person stands: erased_at is not fixed")
    if left := [one.place for one in erased_places if one.survivors]:
        raise NotCertifiableError(f"rows survive in {', '.join(left)}")
    open_ = [target["id"] for target in state["targets"] if target["state"] not in FINAL]
    if open_:
        raise NotCertifiableError(f"not in a final state: {', '.join(open_)}")
    unmet = [target["id"] for target in state["targets"] if target["state"] != "completed"]
    if unmet and state["state"] == "completed":
        raise NotCertifiableError(f"not completed, as these did not erase: {', '.join(unmet)}")
    # Own stores are either empty or the erasure is not over, whatever recipients do.
    kept = [t["id"] for t in state["targets"] if t["id"].startswith(STORE) and t["state"] != "completed"]
    if kept:
        raise NotCertifiableError(f"own stores are not purged: {', '.join(kept)}")


def _check_nameless(claims: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Texts come from elsewhere (grounds, alarms): none of them may carry an id of the person out."""
    written = json.dumps(claims, ensure_ascii=False).lower().replace("-", "")
    for name in ("alias", "subject"):
        value = state.get(name)
        if value is not None and _bytes(value).hex() in written:
            raise NotCertifiableError(f"the {name} stands in a text of this request")


def _clauses(origin: str, targets: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    cited = [_ANSWERING]
    if origin in _BORN:
        cited.append(_BORN[origin])
    if any(target["state"] == "exempt" for target in targets):
        cited.append(_EXEMPTING)
    return [{"clause": clause, "says": says} for clause, says in cited]


def _recipient(target: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "recipient": target["id"],
        "hop": target["hop"],
        "protocol": target["protocol"],
        "state": target["state"],
        "grade": target["grade"],
        "evidence": EVIDENCE[Grade[target["grade"]]],
        "ended_at": _instant(target["ended_at"]),
        "ground": target["ground"],
        "answers_sha256": list(target["evidence"]),
    }


def _stores(targets: Sequence[Mapping[str, Any]], places: Sequence[ErasedPlace]) -> list[dict[str, Any]]:
    """Every own store that was a target or purged; of what was not counted `rows_removed` is null."""
    ended = {t["id"].removeprefix(STORE): t["ended_at"] for t in targets if t["id"].startswith(STORE)}
    counted = {place.place: place for place in places}
    return [
        {
            "store": name,
            "state": "completed",
            "ended_at": _instant(ended.get(name)),
            "rows_removed": counted[name].rows if name in counted else None,
            "survivors": 0,
            "until": _instant(counted[name].until) if name in counted else None,
        }
        for name in dict.fromkeys([*ended, *counted])
    ]


def _remains(one: Remains, ended_at: int) -> dict[str, Any]:
    until = None
    if one.days is not None:
        until = ended_at + int(timedelta(days=one.days + SEGMENT_DAYS).total_seconds() * 1000)
    elif one.hours is not None:
        until = ended_at + int(timedelta(hours=one.hours).total_seconds() * 1000)
    return {"topics": list(one.topics), "what": one.what, "until": _instant(until), "why_no_one": one.why}


def sign(claims: Mapping[str, Any], private_key: Ed25519PrivateKey) -> str:
    """The certificate: one line of ASCII. The same claims and key give the same text."""
    key = OKPKey.import_key(private_key)
    header = {"alg": ALGORITHM, "typ": TYPE, "kid": key.thumbprint(), "jwk": key.as_dict(private=False)}
    payload = json.dumps(claims, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return jws.serialize_compact(header, payload, key, algorithms=[ALGORITHM])


def verify(text: str, trusted: Sequence[Ed25519PublicKey] | None = None) -> Verified:
    """Checks a certificate. One newline at its end is no part of it; every other change is noticed.

    `trusted`: the keys that may have signed; None: whoever did, `signed_by` tells, and `trusted` is False. Never
    raises for what the text holds.
    """
    text = text.removesuffix("\n")
    try:
        header, payload, _ = (_decoded(part) for part in _parts(text))
        key = _key(_object(header, "header"))
        jws.deserialize_compact(text, key, algorithms=[ALGORITHM])
        claims = _object(payload, "content")
        request_id = _request_id(claims)
    except _InvalidError as error:
        return Verified(False, str(error))
    except JoseError:
        return Verified(False, "the signature does not fit: the certificate was altered after it was signed")
    signed_by = key.thumbprint()
    if trusted is None:
        reason = "the signature fits; compare signed_by with the fingerprint that the issuer publishes"
        return Verified(True, reason, request_id, signed_by, False, claims)
    if signed_by not in {thumbprint(one) for one in trusted}:
        reason = "it was signed with another key than those trusted here"
        return Verified(False, reason, request_id, signed_by, False, claims)
    return Verified(True, "the signature fits, and the key is trusted", request_id, signed_by, True, claims)


def thumbprint(public_key: Ed25519PublicKey) -> str:
    """The fingerprint that people compare: RFC 7638, SHA-256, 43 characters."""
    return OKPKey.import_key(public_key).thumbprint()


def load_signing_key(pem: bytes) -> Ed25519PrivateKey:
    """Raises `ValueError` when the PEM holds no Ed25519 private key."""
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"certificates are signed with an Ed25519 key, and this is a {type(key).__name__}")
    return key


def load_verifying_key(pem: bytes) -> Ed25519PublicKey:
    """Raises `ValueError` when the PEM holds no Ed25519 public key."""
    key = serialization.load_pem_public_key(pem)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"certificates are checked with an Ed25519 key, and this is a {type(key).__name__}")
    return key


class _InvalidError(Exception):
    """Says why a text is no certificate."""


def _parts(text: str) -> list[str]:
    parts = text.split(".")
    if len(parts) != 3 or not text.isascii():
        raise _InvalidError("this is no certificate: three parts in base64url, joined by dots, are expected")
    return parts


def _decoded(part: str) -> bytes:
    try:
        decoded = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _InvalidError("a part is no base64url: the certificate was altered or cut") from None
    # The last character has bits to spare, which could be altered without altering what is decoded.
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != part.encode():
        raise _InvalidError("a part is not in the one form of base64url: the certificate was altered")
    return decoded


def _object(content: bytes, name: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _InvalidError(f"the {name} is no JSON object: the certificate was altered, or is something else")
    return found


def _key(header: Mapping[str, Any]) -> OKPKey:
    """The key in the header, if the header is exactly as `sign` writes it."""
    if header.get("alg") != ALGORITHM:
        raise _InvalidError(f"the algorithm is not {ALGORITHM}, which alone is accepted")
    if header.get("typ") != TYPE or set(header) != {"alg", "typ", "kid", "jwk"}:
        raise _InvalidError("the header is not that of an erasure certificate")
    jwk = header["jwk"]
    if not isinstance(jwk, dict) or set(jwk) != {"kty", "crv", "x"} or (jwk["kty"], jwk["crv"]) != ("OKP", ALGORITHM):
        raise _InvalidError("the key in the header is no Ed25519 public key")
    try:
        key = OKPKey.import_key(jwk)
        found = key.thumbprint()
    except (JoseError, ValueError, TypeError):
        raise _InvalidError("the key in the header is no Ed25519 public key") from None
    if found != header["kid"]:
        raise _InvalidError("kid is not the thumbprint of the key in the header: the certificate was altered")
    return key


def _request_id(claims: Mapping[str, Any]) -> str:
    if claims.get("format") != FORMAT:
        raise _InvalidError(f"what is signed is no {FORMAT}: it needs another version of this program")
    try:
        return str(UUID(claims["request_id"]))
    except (KeyError, ValueError, TypeError, AttributeError):
        raise _InvalidError("what is signed names no request") from None


def _instant(ms: int | None) -> str | None:
    if ms is None:
        return None
    at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _uuid(value: bytes | UUID) -> UUID:
    return value if isinstance(value, UUID) else UUID(bytes=value)


def _bytes(value: bytes | UUID) -> bytes:
    return value.bytes if isinstance(value, UUID) else value
