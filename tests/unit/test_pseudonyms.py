"""The alias and derived event ids: fixed for ever, keyed, and blind to what they were made of."""

import hashlib
import hmac
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.pseudonyms import alias, check_pepper, derive_event_id
from streams.identities import (
    Identity,
    SealError,
    SeenIdentities,
    generate_controller_keys,
    key_id,
    load_private_key,
    load_public_key,
    open_sealed,
    seal,
    user_identity,
)

PEPPER = bytes(range(32))


def test_alias_is_fixed() -> None:
    # Computed outside of this code: printf 'user-1' | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f
    assert alias(PEPPER, "user-1").hex() == "c49dc017978a22e182445ec29fd48df8"


@given(st.binary(min_size=16, max_size=80), st.text(st.characters(codec="utf-8")))
def test_alias_is_the_first_half_of_an_hmac(pepper: bytes, user: str) -> None:
    assert alias(pepper, user) == hmac.new(pepper, user.encode(), hashlib.sha256).digest()[:16]


def test_another_pepper_gives_another_alias() -> None:
    assert alias(PEPPER, "u") != alias(PEPPER[::-1], "u")


@given(st.binary())
def test_derived_ids_are_uuids_of_version_8(content: bytes) -> None:
    made = UUID(bytes=derive_event_id(PEPPER, content))
    assert (made.version, made.variant) == (8, "specified in RFC 4122")
    assert made.bytes == derive_event_id(PEPPER, content)
    assert made.bytes != derive_event_id(PEPPER[::-1], content)


def test_an_event_id_is_never_an_alias() -> None:
    text = "u"
    assert derive_event_id(PEPPER, text.encode())[:6] != alias(PEPPER, text)[:6]


def test_a_short_pepper_is_refused() -> None:
    with pytest.raises(ValueError, match="15 bytes"):
        check_pepper(bytes(15))


def test_sealed_identities_open_with_the_key_and_the_alias_only() -> None:
    private_pem, public_pem = generate_controller_keys()
    private, public = load_private_key(private_pem), load_public_key(public_pem)
    identities = [user_identity("user-1"), Identity("email", "raw", "zoë@example.org")]
    sealed = seal(public, b"a" * 16, identities)
    assert b"user-1" not in sealed
    assert open_sealed(private, b"a" * 16, sealed) == [
        {"identity_type": "controller_customer_id", "identity_format": "raw", "identity_value": "user-1"},
        {"identity_type": "email", "identity_format": "raw", "identity_value": "zoë@example.org"},
    ]
    other = load_private_key(generate_controller_keys()[0])
    for key, alias_bytes, value in (
        (other, b"a" * 16, sealed),
        (private, b"b" * 16, sealed),
        (private, b"a" * 16, sealed[:-1]),
        (private, b"a" * 16, b""),
    ):
        with pytest.raises(SealError):
            open_sealed(key, alias_bytes, value)
    assert key_id(public) == hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def test_keys_of_the_wrong_kind_are_refused() -> None:
    private_pem, public_pem = generate_controller_keys()
    with pytest.raises(ValueError, match=r"PEM|key|load"):
        load_public_key(private_pem)
    with pytest.raises(ValueError, match=r"PEM|key|load"):
        load_private_key(public_pem)


def test_identities_are_sealed_anew_only_when_there_are_more() -> None:
    seen = SeenIdentities(capacity=2, seconds=60)
    email = Identity("email", "raw", "a@example.org")
    phone = Identity("android_id", "raw", "d")
    assert seen.grown(b"a", "u", (), 0) == (user_identity("u"),)
    assert seen.grown(b"a", "u", (), 0) is None
    assert seen.grown(b"a", "u", (email,), 0) == (user_identity("u"), email)
    assert seen.grown(b"a", "u", (email,), 0) is None
    assert seen.grown(b"a", "u", (phone,), 0) == (user_identity("u"), email, phone)
    seen.grown(b"b", "v", (), 0)
    seen.grown(b"a", "u", (), 0)
    seen.grown(b"c", "w", (), 0)
    assert seen.grown(b"a", "u", (), 0) is None, "the last used are kept"
    assert seen.grown(b"b", "v", (), 0) is not None, "the least recently used is forgotten"


def test_identities_are_sealed_anew_after_a_while_as_an_erasure_may_have_taken_them() -> None:
    seen = SeenIdentities(capacity=2, seconds=60)
    email = Identity("email", "raw", "a@example.org")
    seen.grown(b"a", "u", (email,), 0)
    assert seen.grown(b"a", "u", (), 59_999) is None
    assert seen.grown(b"a", "u", (), 60_000) == (user_identity("u"),), "what is known of an erased person is not kept"
    assert seen.grown(b"a", "u", (), 119_999) is None
    assert seen.grown(b"a", "u", (email,), 119_999) == (user_identity("u"), email)
    assert seen.grown(b"a", "u", (), 120_000) is not None, "the time runs from the first"
