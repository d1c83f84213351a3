"""Certificates: what they say, what they never say, and that no altered one is taken for true."""

import base64
import json
import uuid
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey

from processors.certificate_text import certificate_lines
from processors.erasure import Request, Target, to_record
from processors.erasure_certificate import (
    ErasedPlace,
    NotCertifiableError,
    certificate,
    load_signing_key,
    load_verifying_key,
    sign,
    thumbprint,
    verify,
)
from processors.erasure_remains import REMAINS
from streams.topics import CATALOGUE, DAY_MS

DAY = 86_400_000
START = 1_772_323_200_000  # 2026-03-01T00:00:00Z
ALIAS = bytes(range(16))
SUBJECT = uuid.UUID("3d7c6a52-5b0e-4a55-9e0f-6a2b8c1d4e5f")
REQUEST = uuid.UUID("0b9a8c7d-1111-4222-8333-444455556666")
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
PLACES = [ErasedPlace("lineage", 1234, 0), ErasedPlace("subjects", 1, 0, START + 4 * DAY)]


def record(*targets: Target, **changes: Any) -> dict[str, Any]:
    """An ErasureState that is over; the person's ids still in it."""
    request = Request(
        request_id=REQUEST,
        received_at=START,
        alias=ALIAS,
        subject=SUBJECT,
        state="completed",
        verified_by="one-time code",
        verified_at=START + DAY,
        due_at=START + 31 * DAY,
        erased_at=START + 2 * DAY,
        ended_at=START + 3 * DAY,
        targets=targets or (recipient("lumen-analytics"), store()),
    )
    return to_record(request) | changes


def recipient(name: str, state: str = "completed", grade: str = "signed", **rest: Any) -> Target:
    given: dict[str, Any] = {"hop": 1, "protocol": "opendsr", "ended_at": START + 2 * DAY, "evidence": ("ab" * 32,)}
    given |= rest
    return Target(id=name, state=state, grade=grade, **given)


def store(state: str = "completed") -> Target:
    return Target(id="store:lineage", hop=0, state=state, grade="verified", protocol="purge", ended_at=START + 3 * DAY)


def claims(*targets: Target, **changes: Any) -> dict[str, Any]:
    return certificate(record(*targets, **changes), PLACES, "aoxun.example", START + 3 * DAY, "Policy, version 3")


SIGNED = sign(claims(), KEY)


# --- what it says


def test_says_what_was_asked_and_what_became_of_it() -> None:
    kept = recipient("tax-office", "exempt", "claimed", hop=2, ground="PIPL 47: kept by law", protocol="manual")
    told = claims(recipient("lumen-analytics"), kept, store(), state="partially_completed", origin="minor")
    assert told["request_id"] == str(REQUEST)
    assert told["state"] == "partially_completed"
    assert [one["clause"] for one in told["clauses"]] == ["8", "6", "5"]
    assert told["identity_verified_by"] == "one-time code"
    assert told["verified_at"] == "2026-03-02T00:00:00.000Z"
    assert told["erased_at"] == "2026-03-03T00:00:00.000Z"
    assert told["completed_at"] == "2026-03-04T00:00:00.000Z"
    assert told["in_time"] is True
    assert told["recipients"][1] == {
        "recipient": "tax-office",
        "hop": 2,
        "protocol": "manual",
        "state": "exempt",
        "grade": "claimed",
        "evidence": "the recipient's word",
        "ended_at": "2026-03-03T00:00:00.000Z",
        "ground": "PIPL 47: kept by law",
        "answers_sha256": ["ab" * 32],
    }
    assert told["own_stores"] == [
        {
            "store": "lineage",
            "state": "completed",
            "ended_at": "2026-03-04T00:00:00.000Z",
            "rows_removed": 1234,
            "survivors": 0,
            "until": None,
        },
        {
            "store": "subjects",
            "state": "completed",
            "ended_at": None,
            "rows_removed": 1,
            "survivors": 0,
            "until": "2026-03-05T00:00:00.000Z",
        },
    ]


def test_without_exemption_clause_5_is_not_cited() -> None:
    assert [one["clause"] for one in claims()["clauses"]] == ["8"]


def test_late_is_said() -> None:
    late = claims(ended_at=START + 40 * DAY)
    assert late["in_time"] is False
    assert any("too late" in line for line in certificate_lines(late))


def test_every_topic_is_accounted_for() -> None:
    """What remains is said of every topic, with the retention that the catalogue declares."""
    of_nobody = {"policies", "recipients"}
    named = {topic for one in REMAINS for topic in one.topics}
    assert named == {topic.name for topic in CATALOGUE} - of_nobody, (
        "say in processors/erasure_remains.py what is left in each topic after an erasure, and for how long"
    )
    retention = {topic.name: topic.configs.get("retention.ms") for topic in CATALOGUE}
    for one in REMAINS:
        for topic in one.topics:
            if one.days is not None:
                assert retention[topic] == str(one.days * DAY_MS), topic
            elif one.hours is None:
                assert retention[topic] in (None, "-1"), topic


def test_text_for_people_tells_everything() -> None:
    failed = recipient("old-agency", "failed", "none", hop=None, ground="no answer within the term", evidence=())
    alarm = "lumen-analytics got data on 2026-03-02 after it had said completed"
    told = claims(recipient("lumen-analytics"), failed, store(), state="partially_completed", alarms=[alarm])
    text = "\n".join(certificate_lines(told))
    for part in (
        str(REQUEST),
        "partially completed",
        "lumen-analytics",
        "the recipient's signed word",
        "no answer within the term",
        "1,234 rows erased, 0 left",
        "no rebuild brings anything back; without limit",
        "until 2026-04-10 00:00 at the latest",
        "verified by one-time code",
        "aoxun.example",
        "Policy, version 3",
        "clause        8",
        "ab" * 32,
        "after it had said completed",
    ):
        assert part in text
    assert all(len(line) <= 130 for line in text.splitlines())


def test_text_says_when_nobody_had_the_data() -> None:
    assert "No recipient was ever given this person's data." in list(certificate_lines(claims(store())))


# --- what it never says


def test_names_no_person() -> None:
    content = json.dumps(claims()).lower() + json.dumps(json.loads(_part(SIGNED, 1))).lower()
    for secret in (ALIAS.hex(), str(SUBJECT), SUBJECT.hex, base64.b64encode(ALIAS).decode().lower()):
        assert secret not in content


@pytest.mark.parametrize("secret", [ALIAS.hex(), str(SUBJECT), SUBJECT.hex.upper()])
def test_a_text_that_names_the_person_is_not_certified(secret: str) -> None:
    with pytest.raises(NotCertifiableError, match="stands in a text") as refused:
        claims(alarms=[f"disclosure about {secret}"])
    assert secret not in str(refused.value)


def test_ids_may_be_gone_or_uuids() -> None:
    assert claims(alias=None, subject=None, request_id=REQUEST) == claims()


@pytest.mark.parametrize("state", ["received", "awaiting", "purging", "refused", "cancelled", "joined"])
def test_what_is_not_over_is_not_certified(state: str) -> None:
    with pytest.raises(NotCertifiableError, match=state):
        claims(state=state)


@pytest.mark.parametrize("state", ["waiting", "dispatched", "acknowledged"])
def test_a_recipient_that_was_merely_asked_is_not_certified(state: str) -> None:
    with pytest.raises(NotCertifiableError, match="lumen"):
        claims(recipient("lumen", state, "dispatched"), store(), state="partially_completed")


@pytest.mark.parametrize("state", ["failed", "unsupported", "exempt"])
def test_completed_is_not_said_where_somebody_did_not_erase(state: str) -> None:
    with pytest.raises(NotCertifiableError, match="lumen"):
        claims(recipient("lumen", state, "none"), store())


def test_own_stores_must_be_purged() -> None:
    with pytest.raises(NotCertifiableError, match="own stores"):
        claims(recipient("lumen"), store("failed"), state="partially_completed")
    with pytest.raises(NotCertifiableError, match="survive in lineage"):
        certificate(record(), [ErasedPlace("lineage", 5, 1)], "x", START)
    with pytest.raises(NotCertifiableError, match="erased_at"):
        claims(erased_at=None)


# --- signature


def _part(text: str, at: int) -> str:
    part = text.split(".")[at]
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()


def test_a_certificate_is_verified_with_nothing_but_itself() -> None:
    found = verify(SIGNED)
    assert (found.valid, found.request_id, found.trusted) == (True, str(REQUEST), False)
    assert found.signed_by == thumbprint(KEY.public_key())
    assert found.claims == json.loads(json.dumps(claims()))
    assert "fingerprint" in found.reason


def test_a_trusted_key_is_trusted_and_another_is_not() -> None:
    assert verify(SIGNED, [OTHER.public_key(), KEY.public_key()]).trusted
    found = verify(SIGNED, [OTHER.public_key()])
    assert (found.valid, found.trusted, found.signed_by) == (False, False, thumbprint(KEY.public_key()))
    assert "another key" in found.reason
    assert not verify(SIGNED, []).valid


def test_signing_is_repeatable() -> None:
    assert sign(claims(), KEY) == SIGNED


def test_a_newline_at_the_end_of_a_file_is_no_change() -> None:
    assert verify(SIGNED + "\n").valid
    assert not verify(SIGNED + "\n\n").valid
    assert not verify("\n" + SIGNED).valid


@given(st.integers(0, len(SIGNED) - 1), st.one_of(st.sampled_from("AZaz09-_.=+/ \n\r\x00é"), st.characters()))
def test_any_changed_character_is_noticed(at: int, character: str) -> None:
    if character != SIGNED[at]:
        found = verify(SIGNED[:at] + character + SIGNED[at + 1 :], [KEY.public_key()])
        assert not found.valid
        assert found.reason


def test_every_place_is_noticed_in_every_way() -> None:
    """Exhaustively where bits are to spare: the last character of each part, to every other of the alphabet."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    ends = [at - 1 for at, character in enumerate(SIGNED + ".") if character == "."]
    for at in ends:
        for character in alphabet.replace(SIGNED[at], ""):
            assert not verify(SIGNED[:at] + character + SIGNED[at + 1 :]).valid
    for at in range(len(SIGNED)):
        assert not verify(SIGNED[:at] + ("A" if SIGNED[at] != "A" else "B") + SIGNED[at + 1 :]).valid, at


@given(st.integers(0, len(SIGNED)), st.sampled_from("Aa0-_.= \n\t"))
def test_any_inserted_character_is_noticed(at: int, character: str) -> None:
    changed = SIGNED[:at] + character + SIGNED[at:]
    if changed != SIGNED + "\n":
        assert not verify(changed).valid


@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 40))
def test_any_cut_is_noticed(at: int, count: int) -> None:
    assert not verify(SIGNED[:at] + SIGNED[at + count :]).valid


@given(st.text())
def test_anything_else_is_no_certificate(text: str) -> None:
    found = verify(text)
    assert not found.valid
    assert (found.request_id, found.claims) == (None, None)


def forged(header: dict[str, Any], key: Any, content: bytes | None = None) -> str:
    """A text whose signature is right, made with whatever key and header."""
    payload = json.dumps(claims()).encode() if content is None else content
    algorithms = [header["alg"]]
    return jws.serialize_compact(header, payload, key, algorithms=algorithms)


def header_of(key: Any, **changes: Any) -> dict[str, Any]:
    jwk = key.as_dict(private=False)
    header = {"alg": "Ed25519", "typ": "lineage-erasure-certificate", "kid": key.thumbprint(), "jwk": jwk}
    return header | changes


def test_only_ed25519_is_accepted() -> None:
    okp = OKPKey.import_key(KEY)
    assert verify(forged(header_of(okp), okp)).valid
    unsigned = ".".join([_encoded({"alg": "none"} | {k: v for k, v in header_of(okp).items() if k != "alg"})] * 2) + "."
    assert "algorithm" in verify(unsigned).reason
    # The public key as an HMAC secret: the classic confusion.
    secret = OctKey.import_key(KEY.public_key().public_bytes_raw())
    assert "algorithm" in verify(forged(header_of(okp, alg="HS256"), secret)).reason
    curve = ECKey.import_key(generate_private_key(SECP256R1()))
    assert "algorithm" in verify(forged(header_of(curve, alg="ES256"), curve)).reason
    assert "no Ed25519" in verify(_with_header(header_of(curve))).reason


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
def test_the_old_name_of_the_algorithm_is_another_algorithm() -> None:
    okp = OKPKey.import_key(KEY)
    assert "algorithm" in verify(forged(header_of(okp, alg="EdDSA"), okp)).reason


def _encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _with_header(header: dict[str, Any]) -> str:
    return ".".join([_encoded(header), *SIGNED.split(".")[1:]])


def test_a_header_that_is_not_ours_is_refused() -> None:
    okp, other = OKPKey.import_key(KEY), OKPKey.import_key(OTHER)
    plain = header_of(okp)
    assert "kid" in verify(forged(plain | {"kid": other.thumbprint()}, okp)).reason
    assert "header" in verify(forged(plain | {"typ": "JWT"}, okp)).reason
    assert not verify(_with_header(plain | {"crit": ["b64"], "b64": False})).valid
    private = okp.as_dict(private=True)
    assert "no Ed25519" in verify(_with_header(plain | {"jwk": private})).reason
    wrong: list[Any] = [
        None,
        [],
        {},
        *(plain["jwk"] | change for change in ({"x": "short"}, {"x": 5}, {"crv": "X25519"})),
    ]
    for jwk in wrong:
        assert "no Ed25519" in verify(_with_header(plain | {"jwk": jwk})).reason
    # Another's key put in: the signature is not theirs.
    assert "signature" in verify(_with_header(header_of(other))).reason


@pytest.mark.parametrize(
    "content", [b"{}", b"[]", b"x", b"[" * 100_000, b'{"format": "lineage-erasure-certificate/2"}']
)
def test_what_is_signed_must_be_a_certificate(content: bytes) -> None:
    okp = OKPKey.import_key(KEY)
    assert not verify(forged(header_of(okp), okp, content)).valid


@pytest.mark.parametrize("request_id", [None, 7, "x", ["a"]])
def test_what_is_signed_must_name_a_request(request_id: object) -> None:
    okp = OKPKey.import_key(KEY)
    content = json.dumps(claims() | {"request_id": request_id}).encode()
    assert "names no request" in verify(forged(header_of(okp), okp, content)).reason


# --- keys


def test_keys_of_other_kinds_are_refused() -> None:
    private = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert sign(claims(), load_signing_key(private)) == SIGNED
    sealing = X25519PrivateKey.generate()
    pem = sealing.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ValueError, match="Ed25519"):
        load_signing_key(pem)
    public = sealing.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(ValueError, match="Ed25519"):
        load_verifying_key(public)
