"""Access tokens of a real identity provider, and its keys: who is let in, rotation, what counts while it is away."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from infra.api.authentication import ClientsFile, create_token
from infra.cli.doctor import Finding, examine
from infra.cli.main import lineage
from infra.oidc.authentication import OidcTokens, authenticate_either
from infra.oidc.configuration import OidcError, OidcSettings, load_oidc
from infra.oidc.provider import FRESH_SECONDS, PAUSE_SECONDS, USABLE_SECONDS, Provider
from infra.settings import settings
from processors.api_clients import AuthenticationUnavailable, Forbidden, Unauthorized
from tests.oidc_fixture import AUDIENCE, IdentityProvider


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def now() -> Clock:
    return Clock(time.time())


@pytest.fixture
def oidc(identity_provider: IdentityProvider, tmp_path: Path) -> OidcSettings:
    identity_provider.write_yaml(tmp_path / "oidc.yaml")
    found = load_oidc(tmp_path / "oidc.yaml", str)
    assert found is not None
    return found


@pytest.fixture
def tokens(oidc: OidcSettings, clock: Clock, now: Clock) -> OidcTokens:
    return OidcTokens(Provider(oidc, clock), oidc.trust, now)


@pytest.fixture
def claims(identity_provider: IdentityProvider) -> dict[str, Any]:
    """Of a token that is let in, when the provider's key signs it."""
    return {
        "iss": identity_provider.issuer,
        "aud": AUDIENCE,
        "sub": "ada",
        "roles": ["lineage-auditor"],
        "iat": int(time.time()),
        "exp": int(time.time()) + 600,
    }


def refused(ask: Callable[[], Any], error: type[Exception] = Unauthorized) -> str:
    with pytest.raises(error) as told:
        ask()
    return str(told.value)


# Who is let in


def test_a_client_is_let_in_by_the_roles_that_are_mapped(
    identity_provider: IdentityProvider, tokens: OidcTokens
) -> None:
    shop = tokens.client(identity_provider.client_token("lineage:erase"))
    assert (shop.id, shop.roles, shop.verifies_identity) == ("oidc:shop", {"eraser"}, False)
    assert tokens.client(identity_provider.client_token("lineage:erase-verified")).verifies_identity
    assert "no value of roles or scope" in refused(lambda: tokens.client(identity_provider.client_token()), Forbidden)


def test_a_person_is_let_in_until_their_token_expires(
    identity_provider: IdentityProvider, tokens: OidcTokens, now: Clock
) -> None:
    token = identity_provider.user_tokens("otto", minutes=1)["access_token"]
    assert (tokens.client(token).id, tokens.client(token).roles) == ("oidc:otto", {"engineer", "overseer"})
    now.at += 59
    assert tokens.client(token).id == "oidc:otto"
    now.at += 60
    assert refused(lambda: tokens.client(token)) == "this token has expired"
    mallory = identity_provider.user_tokens("mallory")["access_token"]
    refused(lambda: tokens.client(mallory), Forbidden)


def test_a_refresh_token_of_the_provider_opens_nothing(identity_provider: IdentityProvider, tokens: OidcTokens) -> None:
    # Signed with the same key, of the same issuer, for the same audience, with the same roles.
    refresh = identity_provider.user_tokens("ada")["refresh_token"]
    assert "no access token" in refused(lambda: tokens.client(refresh))


def test_what_the_provider_never_issued_is_refused(
    identity_provider: IdentityProvider, tokens: OidcTokens, claims: dict[str, Any]
) -> None:
    assert tokens.client(identity_provider.sign(claims)).id == "oidc:ada"
    for wrong, why in (
        ({"iss": "https://elsewhere.example"}, "another issuer"),
        ({"aud": "another-api"}, "another audience"),
        ({"exp": int(time.time()) - 120}, "expired"),
        ({"nbf": int(time.time()) + 120}, "not valid yet"),
        ({"nonce": "n"}, "no access token"),
    ):
        assert why in refused(lambda wrong=wrong: tokens.client(identity_provider.sign({**claims, **wrong})))  # type: ignore[misc]
    assert "not among the provider's" in refused(lambda: tokens.client(identity_provider.sign(claims, kid="unknown")))
    header, _, signature = identity_provider.sign(claims).split(".")
    other = identity_provider.sign({**claims, "sub": "eve"}).split(".")[1]
    assert "signature" in refused(lambda: tokens.client(f"{header}.{other}.{signature}"))
    # The key is published for RS256 only.
    assert "not among the provider's" in refused(lambda: tokens.client(identity_provider.sign(claims, alg="PS256")))


def test_our_own_tokens_go_on_counting(identity_provider: IdentityProvider, tokens: OidcTokens, tmp_path: Path) -> None:
    file = tmp_path / "api-clients.json"
    either = authenticate_either(ClientsFile(file).authenticate, tokens)
    own = create_token(file, "ada", ["clerk"])
    assert (either(f"Bearer {own}").id, either(f"Bearer {own}").roles) == ("ada", {"clerk"})
    theirs = identity_provider.user_tokens("ada")["access_token"]
    assert (either(f"bearer  {theirs}").id, either(f"Bearer {theirs}").roles) == ("oidc:ada", {"auditor"})
    for garbage in (None, "", "Bearer", "Bearer nonsense", f"Bearer {own}x", f"Basic {theirs}", f"Bearer {theirs}x"):
        text = refused(lambda garbage=garbage: either(garbage))  # type: ignore[misc]
        assert own not in text
        assert "nonsense" not in text
    with pytest.raises(ValueError, match="oidc:"):
        create_token(file, "oidc:ada", ["auditor"])


# Its keys


def test_a_new_key_is_found_and_the_provider_is_not_asked_too_often(
    identity_provider: IdentityProvider, tokens: OidcTokens, clock: Clock, claims: dict[str, Any]
) -> None:
    before = identity_provider.user_tokens("ada")["access_token"]
    assert tokens.client(before).id == "oidc:ada"
    identity_provider.rotate()
    after = identity_provider.user_tokens("ada")["access_token"]
    asked = identity_provider.asked_for_keys()
    for _ in range(5):
        assert "not among the provider's" in refused(lambda: tokens.client(after))
    assert identity_provider.asked_for_keys() == asked
    clock.at += PAUSE_SECONDS
    assert tokens.client(after).id == "oidc:ada"
    assert tokens.client(before).id == "oidc:ada"
    assert identity_provider.asked_for_keys() == asked + 1


def test_keys_are_read_again_in_the_background(
    identity_provider: IdentityProvider, tokens: OidcTokens, clock: Clock
) -> None:
    token = identity_provider.user_tokens("ada")["access_token"]
    tokens.client(token)
    asked = identity_provider.asked_for_keys()
    clock.at += FRESH_SECONDS + 1
    deadline = time.monotonic() + 20
    while identity_provider.asked_for_keys() == asked:
        assert tokens.client(token).id == "oidc:ada"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_while_the_provider_is_away_known_keys_count_until_a_limit(
    identity_provider: IdentityProvider, oidc: OidcSettings, tokens: OidcTokens, clock: Clock, now: Clock
) -> None:
    token = identity_provider.user_tokens("ada", minutes=600)["access_token"]
    stranger = OidcTokens(Provider(oidc, clock), oidc.trust, now)
    assert tokens.client(token).id == "oidc:ada"
    identity_provider.stop()
    try:
        assert tokens.client(token).id == "oidc:ada"
        clock.at += USABLE_SECONDS - 1
        assert tokens.client(token).id == "oidc:ada"
        clock.at += 60
        for found in (tokens, stranger):
            text = refused(lambda found=found: found.client(token), AuthenticationUnavailable)  # type: ignore[misc]
            assert "cannot be asked now" in text
            assert "cannot be reached (ConnectionRefusedError)" in text
            assert token not in text
    finally:
        identity_provider.start()
    # The next attempt is not at once.
    refused(lambda: tokens.client(token), AuthenticationUnavailable)
    clock.at += PAUSE_SECONDS
    assert tokens.client(token).id == "oidc:ada"


def test_a_provider_that_calls_itself_otherwise_is_not_believed(
    identity_provider: IdentityProvider, tmp_path: Path
) -> None:
    identity_provider.write_yaml(tmp_path / "oidc.yaml", issuer=f"http://localhost:{identity_provider.port}")
    found = load_oidc(tmp_path / "oidc.yaml", str)
    assert found is not None
    token = identity_provider.user_tokens("ada")["access_token"]
    text = refused(lambda: OidcTokens(Provider(found), found.trust).client(token), AuthenticationUnavailable)
    assert "names another issuer" in text


# Its file


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"issuer": "http://id.example.org"}, "issuer: it must be https"),
        ({"issuer": "https://user@id.example.org"}, "no URL of a provider"),
        ({"algorithms": ["HS256"]}, "'HS256' is not one of"),
        ({"algorithms": ["none"]}, "'none' is not one of"),
        ({"roles": {"x": "administrator"}}, "roles.x"),
        ({"roles": {}}, "roles"),
        ({"verifies_identity": ["nobody"]}, "mapped to no role"),
        ({"sign_in": {}}, "'client_id' is a required property"),
        ({"sign_in": {"client_id": "x", "scopes": ["profile"]}}, "sign_in.scopes"),
        ({"sign_in": {"client_id": "x", "parameters": {"state": "x"}}}, "sign_in.parameters"),
        ({"ca": "missing.pem"}, "there is no file"),
        ({"verify": False}, "'verify' was unexpected"),
    ],
)
def test_a_wrong_file_says_where(identity_provider: IdentityProvider, tmp_path: Path, more: Any, why: str) -> None:
    identity_provider.write_yaml(tmp_path / "oidc.yaml", **more)
    with pytest.raises(OidcError) as told:
        load_oidc(tmp_path / "oidc.yaml", str)
    assert why in str(told.value)
    assert str(tmp_path / "oidc.yaml") in str(told.value)


# Its commands


def test_the_command_tells_as_whom_a_token_is_let_in_and_never_shows_it(
    identity_provider: IdentityProvider, tmp_path: Path
) -> None:
    def run(*arguments: str) -> tuple[int, Any]:
        ran = CliRunner().invoke(lineage, ["api", "oidc", "check", "--data", str(tmp_path), *arguments])
        for token in given:
            assert token not in ran.output
            assert token.split(".")[2] not in ran.output
        return ran.exit_code, json.loads(ran.stdout) if "--json" in arguments else ran.output or str(ran.exception)

    given: list[str] = []
    assert run()[0] == 1
    assert "does not exist" in run()[1]
    identity_provider.write_yaml(tmp_path / "oidc.yaml", sign_in={"client_id": "pages"})
    code, text = run()
    assert code == 0
    assert f"provider  {identity_provider.issuer}, " in text
    assert "6 values mapped to roles, sign-in as pages" in text
    given = [identity_provider.user_tokens("otto")["access_token"], identity_provider.client_token()]
    for token in given:
        (tmp_path / "token").write_text(f"{token}\n")
        code, answer = run("--token-file", str(tmp_path / "token"), "--json")
        if token == given[0]:
            assert code == 0
            assert answer["token"].pop("expires_at").endswith("Z")
            assert answer["token"] == {
                "name": "oidc:otto",
                "roles": ["engineer", "overseer"],
                "verifies_identity": False,
            }
        else:
            assert code == 1
            assert "gives no role here" in answer["token"]["refused"]
            assert run("--token-file", str(tmp_path / "token"))[0] == 1


def test_doctor_looks_at_the_provider(identity_provider: IdentityProvider, tmp_path: Path) -> None:
    def look(**environment: str) -> Finding:
        given = settings({**environment}, data=tmp_path, kafka="127.0.0.1:1", clickhouse="clickhouse://127.0.0.1:1/x")
        return next(finding for finding in examine(given) if finding.name == "oidc")

    identity_provider.write_yaml(tmp_path / "oidc.yaml")
    finding = look()
    assert finding.ok
    assert "6 values mapped to roles" in finding.detail
    identity_provider.write_yaml(tmp_path / "oidc.yaml", issuer="http://127.0.0.1:1")
    finding = look()
    assert (finding.ok, "cannot be reached" in finding.detail) == (False, True)
    assert "lineage api oidc check" in finding.remedy
    finding = look(LINEAGE_OIDC=str(tmp_path / "missing.yaml"))
    assert "LINEAGE_OIDC: there is no file" in finding.detail
