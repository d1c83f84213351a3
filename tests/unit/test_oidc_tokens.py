"""Which tokens of an identity provider are taken, and as whom: signatures, claims, kinds, roles and names."""

import base64
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from processors.api_clients import ApiClient, Forbidden, Unauthorized
from processors.oidc_tokens import (
    ALGORITHMS,
    LEEWAY_SECONDS,
    MOST_TOKEN,
    Trust,
    UnknownKey,
    check_sign_in,
    client_of,
    signed,
    usable_keys,
)

NOW = 1_800_000_000.0
ISSUER = "https://id.example.org/realms/company"
TRUST = Trust(
    ISSUER,
    "lineage",
    {"auditors": frozenset({"auditor"}), "shop": frozenset({"eraser", "clerk"})},
    ("realm_access.roles", "groups", "scope"),
    verifying=frozenset({"shop"}),
)
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "aud": "lineage",
    "sub": "ada",
    "iat": NOW - 10,
    "exp": NOW + 300,
    "realm_access": {"roles": ["auditors", "other"]},
}


@pytest.fixture(scope="module")
def keys() -> dict[str, Key]:
    """Algorithm → the provider's private key for it; the key's id is the algorithm."""
    rsa, okp = RSAKey.generate_key(2048, private=True), OKPKey.generate_key("Ed25519", private=True)
    return {
        "RS256": rsa,
        "PS256": rsa,
        "ES256": ECKey.generate_key("P-256", private=True),
        "EdDSA": okp,
        "Ed25519": okp,
    }


def published(keys: dict[str, Key], **more: Any) -> list[Key]:
    """As the provider publishes them."""
    return usable_keys(
        {"keys": [{**key.as_dict(private=False), "kid": name, "use": "sig", **more} for name, key in keys.items()]}
    )


def encode(keys: dict[str, Key], claims: dict[str, Any], **header: Any) -> str:
    algorithm = header.pop("alg", "RS256")
    given = {"alg": algorithm, "typ": "JWT", "kid": algorithm, **header}
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    present = {name: value for name, value in given.items() if value is not None}
    return jws.serialize_compact(present, json.dumps(claims), keys[algorithm], registry=registry)


def let_in(
    keys: dict[str, Key], claims: dict[str, Any], now: float = NOW, trust: Trust = TRUST, **header: Any
) -> ApiClient:
    return client_of(
        signed(encode(keys, claims, **header), published(keys), trust), trust, trust.audience, "access", now
    )


def refused(keys: dict[str, Key], claims: dict[str, Any], now: float = NOW, **header: Any) -> str:
    with pytest.raises(Unauthorized) as told:
        let_in(keys, claims, now, **header)
    return str(told.value)


# Signatures


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_of_the_list_is_taken(keys: dict[str, Key], algorithm: str, recwarn: Any) -> None:
    token = encode(keys, CLAIMS, alg=algorithm)
    recwarn.clear()
    assert signed(token, published(keys), TRUST).claims == CLAIMS
    # A key of the same kind that is another's.
    others = {name: type(key).generate_key(getattr(key, "curve_name", 2048)) for name, key in keys.items()}
    with pytest.raises(Unauthorized, match="signature"):
        signed(token, published(others), TRUST)
    assert not recwarn.list


def test_an_algorithm_that_the_trust_leaves_out_is_not_taken(keys: dict[str, Key]) -> None:
    only = Trust(ISSUER, "lineage", TRUST.roles, TRUST.role_claims, algorithms=("ES256",))
    assert let_in(keys, CLAIMS, trust=only, alg="ES256").id == "oidc:ada"
    with pytest.raises(Unauthorized, match="taken are: ES256"):
        let_in(keys, CLAIMS, trust=only, alg="RS256")


def test_none_and_the_public_key_as_a_secret_sign_nothing(keys: dict[str, Key]) -> None:
    body = encode(keys, CLAIMS).split(".")[1]
    for algorithm in ("none", "NONE", "", 7, None):
        header = _encoded({"alg": algorithm, "kid": "RS256"})
        for signature in ("", "AAAA"):
            with pytest.raises(Unauthorized, match="in a way that is not taken"):
                signed(f"{header}.{body}.{signature}", published(keys), TRUST)
    for secret in (keys["RS256"].as_pem(private=False), json.dumps(keys["RS256"].as_dict(private=False)).encode()):
        what = f"{_encoded({'alg': 'HS256', 'kid': 'RS256'})}.{body}"
        signature = base64.urlsafe_b64encode(hmac.digest(secret, what.encode(), "sha256")).decode().rstrip("=")
        with pytest.raises(Unauthorized, match="in a way that is not taken"):
            signed(f"{what}.{signature}", published(keys), TRUST)
    # Nor does a key that the token brings along, or that lies where it says.
    own = RSAKey.generate_key(2048, private=True)
    for header in (
        {"jwk": own.as_dict(private=False)},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5u": "http://127.0.0.1:1/"},
    ):
        with pytest.raises(Unauthorized, match="signature"):
            signed(encode({"RS256": own}, CLAIMS, **header), published(keys), TRUST)


def test_whatever_is_altered_does_not_hold(keys: dict[str, Key]) -> None:
    header, body, signature = encode(keys, CLAIMS).split(".")
    other = encode(keys, {**CLAIMS, "sub": "eve"}).split(".")
    for altered in (f"{header}.{other[1]}.{signature}", f"{header}.{body}.{other[2]}", f"{header}.{body}."):
        with pytest.raises(Unauthorized, match="signature"):
            signed(altered, published(keys), TRUST)
    # What must be understood to read it rightly (RFC 7515, section 4.1.11), and is not.
    what = f"{_encoded({'alg': 'RS256', 'kid': 'RS256', 'crit': ['b64'], 'b64': False})}.{body}"
    private = keys["RS256"].private_key.sign(what.encode(), PKCS1v15(), SHA256())
    signature = base64.urlsafe_b64encode(private).decode().rstrip("=")
    with pytest.raises(Unauthorized, match="signature"):
        signed(f"{what}.{signature}", published(keys), TRUST)


@given(st.text(max_size=200) | st.builds(".".join, st.lists(st.text(max_size=40), min_size=3, max_size=3)))
def test_garbage_is_refused_and_not_quoted(token: str) -> None:
    with pytest.raises((Unauthorized, UnknownKey)) as told:
        signed(token, [], TRUST)
    assert len(token) < 4 or token not in str(told.value)


def test_what_is_too_long_or_deep_is_refused(keys: dict[str, Key]) -> None:
    with pytest.raises(Unauthorized, match="too long"):
        signed("a" * (MOST_TOKEN + 1), published(keys), TRUST)
    deep = base64.urlsafe_b64encode(b"[" * 6000).decode()
    with pytest.raises(Unauthorized, match="header"):
        signed(f"{deep}.e30.AAAA", published(keys), TRUST)


def test_the_key_is_the_one_that_is_named(keys: dict[str, Key]) -> None:
    with pytest.raises(UnknownKey):
        let_in(keys, CLAIMS, kid="another")
    # Of two that fit none is guessed; of one, it is that one.
    assert let_in({"ES256": keys["ES256"]}, CLAIMS, alg="ES256", kid=None).id == "oidc:ada"
    with pytest.raises(UnknownKey):
        let_in(keys, CLAIMS, kid=None)
    with pytest.raises(Unauthorized, match="names its key"):
        signed(f"{_encoded({'alg': 'RS256', 'kid': ['RS256']})}.e30.AAAA", published(keys), TRUST)


def test_keys_for_something_else_are_left_out(keys: dict[str, Key]) -> None:
    assert published({"RS256": keys["RS256"]}, use="enc") == []
    assert published({"RS256": keys["RS256"]}, key_ops=["encrypt"]) == []
    assert published({"RS256": keys["RS256"]}, n="AQAB") == []
    with pytest.warns(match="2048"):
        small = RSAKey.generate_key(1024)
    oct_key = {"kty": "oct", "k": "c2VjcmV0", "kid": "HS256"}
    found = usable_keys({"keys": [small.as_dict(private=False), oct_key, {"kty": "ML-DSA"}, "x", {}]})
    assert found == []
    for wrong in (None, [], {}, {"keys": {}}):
        with pytest.raises(ValueError, match="JWK Set"):
            usable_keys(wrong)
    # A key for one algorithm is not used for another.
    with pytest.raises(UnknownKey):
        signed(encode(keys, CLAIMS), published({"RS256": keys["RS256"]}, alg="PS256"), TRUST)


# Claims


def test_a_token_of_another_or_for_another_is_refused(keys: dict[str, Key]) -> None:
    for issuer in (ISSUER + "/", "https://id.example.org", None, 5):
        assert "another issuer" in refused(keys, {**CLAIMS, "iss": issuer})
    for audience in ("lineage2", "LINEAGE", [], ["x", "y"], None, {"lineage": 1}):
        assert "another audience" in refused(keys, {**CLAIMS, "aud": audience})
    assert let_in(keys, {**CLAIMS, "aud": ["x", "lineage"]}).id == "oidc:ada"


def test_times(keys: dict[str, Key]) -> None:
    assert let_in(keys, CLAIMS, NOW + 300 + LEEWAY_SECONDS - 1).expires_at == int((NOW + 300) * 1000)
    assert "expired" in refused(keys, CLAIMS, NOW + 300 + LEEWAY_SECONDS)
    for name in ("nbf", "iat"):
        assert "not valid yet" in refused(keys, {**CLAIMS, name: NOW + LEEWAY_SECONDS + 1})
        assert let_in(keys, {**CLAIMS, name: NOW + LEEWAY_SECONDS - 1}).roles == {"auditor"}
    assert "when it expires" in refused(keys, {name: value for name, value in CLAIMS.items() if name != "exp"})
    for wrong in ("1800000000", True, [1], 1e300, 10**400):
        assert "is no time" in refused(keys, {**CLAIMS, "exp": wrong})


@pytest.mark.parametrize(
    ("claims", "header"),
    [
        ({"typ": "ID"}, {}),
        ({"typ": "Refresh"}, {}),
        ({"typ": "Logout"}, {}),
        ({"token_use": "id"}, {}),
        ({"token_use": "refresh"}, {}),
        ({"nonce": "n"}, {}),
        ({"at_hash": "h"}, {}),
        ({"events": {}}, {}),
        ({}, {"typ": "logout+jwt"}),
        ({}, {"typ": "dpop+jwt"}),
        ({"typ": "Bearer", "token_use": "refresh"}, {}),
    ],
)
def test_what_is_no_access_token_opens_nothing(keys: dict[str, Key], claims: Any, header: Any) -> None:
    assert "no access token" in refused(keys, {**CLAIMS, **claims}, **header)


def test_access_tokens_of_several_makes(keys: dict[str, Key]) -> None:
    for claims, header in (
        ({}, {"typ": None}),
        ({}, {"typ": "at+jwt"}),
        ({}, {"typ": "application/at+jwt"}),
        ({"typ": "Bearer", "nonce": "n"}, {}),
        ({"token_use": "access"}, {}),
    ):
        assert let_in(keys, {**CLAIMS, **claims}, **header).id == "oidc:ada"
    assert "bound to a key" in refused(keys, {**CLAIMS, "typ": "Bearer", "cnf": {"jkt": "x"}})


def test_roles_are_those_that_are_mapped(keys: dict[str, Key]) -> None:
    bare = {name: value for name, value in CLAIMS.items() if name != "realm_access"}
    found = let_in(keys, {**bare, "groups": ["shop"], "realm_access": {"roles": ["auditors"]}})
    assert (found.roles, found.verifies_identity) == ({"auditor", "eraser", "clerk"}, True)
    assert let_in(keys, {**bare, "scope": "openid auditors"}).roles == {"auditor"}
    assert let_in(keys, {**bare, "groups": "auditors"}).verifies_identity is False
    # A name with dots before a path of that name.
    assert let_in(keys, {**bare, "realm_access.roles": ["auditors"]}).roles == {"auditor"}
    for claims in (
        {},
        {"groups": ["auditor", "Auditors", 5, None, ["auditors"]]},
        {"groups": "x auditors"},
        {"groups": {"auditors": True}},
        {"realm_access": ["auditors"]},
        {"roles": ["auditors"]},
        {"auditors": "auditors"},
    ):
        with pytest.raises(Forbidden, match=r"no value of realm_access\.roles or groups or scope") as told:
            let_in(keys, {**bare, **claims})
        assert "auditors" not in str(told.value)


def test_names_are_never_those_of_api_tokens(keys: dict[str, Key]) -> None:
    named = Trust(ISSUER, "lineage", TRUST.roles, TRUST.role_claims, "preferred_username")
    assert let_in(keys, {**CLAIMS, "preferred_username": "shop"}, trust=named).id == "oidc:shop"
    for name in ("", " ", "a\nb", "x" * 201, 5, None, ["ada"]):
        assert "names nobody" in refused(keys, {**CLAIMS, "sub": name})


# Signing in


def test_a_sign_in_is_answered_by_its_own_id_token(keys: dict[str, Key]) -> None:
    access = "the-access-token"
    claims = {**CLAIMS, "aud": "pages", "nonce": "n1"}

    def checked(claims: dict[str, Any], **header: Any) -> None:
        check_sign_in(signed(encode(keys, claims, **header), published(keys), TRUST), TRUST, "pages", "n1", access, NOW)

    checked(claims)
    checked({**claims, "aud": ["pages", "x"], "azp": "pages", "typ": "ID"})
    for wrong, why in (
        ({"nonce": "n2"}, "begun here"),
        ({"nonce": None}, "begun here"),
        ({"nonce": "\ud800"}, "begun here"),
        ({"aud": "lineage"}, "audience"),
        ({"aud": ["pages", "x"]}, "another client"),
        ({"azp": "x"}, "another client"),
        ({"exp": NOW - 100}, "expired"),
        ({"iss": "https://evil.example"}, "issuer"),
        ({"typ": "Bearer"}, "no ID token"),
        ({"token_use": "access"}, "no ID token"),
        ({"at_hash": "x"}, "belong together"),
    ):
        with pytest.raises(Unauthorized, match=why):
            checked({**claims, **wrong})
    with pytest.raises(Unauthorized, match="no ID token"):
        checked(claims, typ="at+jwt")
    # Worked out with another program, of the access token above.
    checked({**claims, "at_hash": AT_HASH_256})
    checked({**claims, "at_hash": AT_HASH_512}, alg="EdDSA")
    with pytest.raises(Unauthorized, match="belong together"):
        checked({**claims, "at_hash": AT_HASH_256}, alg="EdDSA")


AT_HASH_256 = "uby9Z8Gb_H_x4fPjwNzguw"
AT_HASH_512 = "B7p8o12G5vm-9CEZGSanwzMw-leqyauPjU1ebdjBHYw"


def _encoded(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
