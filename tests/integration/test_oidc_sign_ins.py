"""Signing in at a real identity provider: what its answers must be, and how a sign-in is renewed and ends."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.oidc.configuration import OidcSettings, load_oidc
from infra.oidc.provider import Provider
from infra.oidc.sign_ins import SCHEME, Begun, SignIns
from processors.api_clients import AuthenticationUnavailable, Forbidden, Unauthorized
from tests.integration.test_oidc_provider import Clock, refused
from tests.oidc_fixture import CALLBACK, IdentityProvider

HOUR = 3600.0
BACK = f"http://127.0.0.1:1{CALLBACK}"
SIGN_IN = {"name": "Nano", "client_id": "pages", "client_secret": "a-secret"}


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    found = IdentityProvider(tmp_path_factory.mktemp("idp"), [BACK])
    found.start()
    yield found
    found.stop()


@pytest.fixture
def oidc(provider: IdentityProvider, tmp_path: Path) -> OidcSettings:
    provider.write_yaml(tmp_path / "oidc.yaml", sign_in=SIGN_IN)
    found = load_oidc(tmp_path / "oidc.yaml", {"a-secret": "pages-secret"}.__getitem__)
    assert found is not None
    assert "pages-secret" not in repr(found)
    return found


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def now() -> Clock:
    return Clock(time.time())


@pytest.fixture
def make(oidc: OidcSettings, clock: Clock, now: Clock) -> Callable[..., SignIns]:
    def made(**more: Any) -> SignIns:
        assert oidc.sign_in is not None
        settings = replace(oidc.sign_in, **more)
        return SignIns(Provider(oidc, clock), oidc.trust, settings, BACK, HOUR, 12 * HOUR, 100, now, clock)

    return made


def signed_in(provider: IdentityProvider, sign_ins: SignIns, user: str = "ada") -> str:
    """As a session holds it."""
    begun, code = went(provider, sign_ins, user)
    return sign_ins.complete(begun, code, None)


def went(provider: IdentityProvider, sign_ins: SignIns, user: str = "ada") -> tuple[Begun, str]:
    """Somebody at the provider, and the code that they come back with."""
    url, begun = sign_ins.begin("/")
    back = provider.log_in(url, user)
    assert back is not None
    assert str(back.copy_with(query=None)) == BACK
    assert back.params["state"] == begun.state
    return begun, back.params["code"]


def test_what_is_asked_of_the_provider(provider: IdentityProvider, make: Callable[..., SignIns]) -> None:
    sign_ins = make(parameters={"prompt": "login"})
    urls = [httpx.URL(sign_ins.begin("/")[0]) for _ in range(2)]
    for url in urls:
        assert str(url.copy_with(query=None)) == f"{provider.issuer}/authorize"
        asked = dict(url.params)
        assert {asked.pop(name) for name in ("state", "nonce", "code_challenge")} != {""}
        assert asked == {
            "prompt": "login",
            "response_type": "code",
            "client_id": "pages",
            "redirect_uri": BACK,
            "scope": "openid profile",
            "code_challenge_method": "S256",
        }
    for name in ("state", "nonce", "code_challenge"):
        assert urls[0].params[name] != urls[1].params[name]
        assert len(urls[0].params[name]) >= 32


def test_a_sign_in_lets_in_until_its_token_expires_or_it_ends(
    provider: IdentityProvider, make: Callable[..., SignIns], now: Clock, clock: Clock
) -> None:
    sign_ins = make()
    held = signed_in(provider, sign_ins)
    assert held.startswith(SCHEME)
    client = sign_ins.authenticate(held)
    assert (client.id, client.roles) == ("oidc:ada", {"auditor"})
    other = signed_in(provider, sign_ins, "otto")
    sign_ins.end(held)
    refused(lambda: sign_ins.authenticate(held))
    assert sign_ins.authenticate(other).id == "oidc:otto"
    clock.at += HOUR
    refused(lambda: sign_ins.authenticate(other))
    for never in (SCHEME, SCHEME + "x", ""):
        refused(lambda never=never: sign_ins.authenticate(never))  # type: ignore[misc]


def test_an_id_token_can_tell_the_roles(provider: IdentityProvider, make: Callable[..., SignIns]) -> None:
    bare = make(token="id")
    refused(lambda: signed_in(provider, bare), Forbidden)
    with_roles = make(token="id", parameters={"claims": '{"id_token": {"roles": null}}'})
    client = with_roles.authenticate(signed_in(provider, with_roles))
    assert (client.id, client.roles) == ("oidc:ada", {"auditor"})


def test_a_sign_in_is_renewed_before_it_expires(
    provider: IdentityProvider, make: Callable[..., SignIns], now: Clock, clock: Clock
) -> None:
    for sign_ins in (make(), make(token="id", parameters={"claims": '{"id_token": {"roles": null}}'})):
        held = signed_in(provider, sign_ins)
        first = sign_ins.authenticate(held).expires_at
        assert first is not None
        now.at = first / 1000 - 30
        # The provider's clock is the real one, so a newer token expires somewhat later.
        time.sleep(1.1)
        second = sign_ins.authenticate(held).expires_at
        assert second is not None
        assert second > first
        now.at = time.time()
        clock.at += 60


def test_what_the_provider_does_not_renew_is_out_when_it_expires(
    provider: IdentityProvider, make: Callable[..., SignIns], now: Clock, clock: Clock
) -> None:
    sign_ins = make()
    held = signed_in(provider, sign_ins)
    expires = (sign_ins.authenticate(held).expires_at or 0) / 1000
    [kept] = sign_ins._held.values()
    assert kept.refresh is not None
    provider.revoke(kept.refresh)
    asked = provider.asked_for_tokens()
    now.at = expires - 30
    assert sign_ins.authenticate(held).id == "oidc:ada"
    clock.at += 20
    assert sign_ins.authenticate(held).id == "oidc:ada"
    now.at = expires + 60
    assert refused(lambda: sign_ins.authenticate(held)) == "this token has expired"
    assert refused(lambda: sign_ins.authenticate(held)) == "sign in again"
    # A refresh token that was refused is not sent again.
    assert provider.asked_for_tokens() == asked + 1


def test_an_answer_that_is_not_to_this_sign_in_lets_nobody_in(
    provider: IdentityProvider, make: Callable[..., SignIns]
) -> None:
    sign_ins = make()
    begun, code = went(provider, sign_ins)
    assert "another issuer" in refused(lambda: sign_ins.complete(begun, code, "https://elsewhere.example"))
    assert sign_ins.authenticate(sign_ins.complete(begun, code, provider.issuer)).id == "oidc:ada"
    # A code counts once, and only with the verifier whose challenge it was asked for with.
    assert "begin again" in refused(lambda: sign_ins.complete(begun, code, None))
    begun, code = went(provider, sign_ins)
    other, _ = went(provider, sign_ins)
    assert "begin again" in refused(lambda: sign_ins.complete(other, code, None))
    # Somebody else's code, put into this sign-in's answer, has another nonce.
    begun, code = went(provider, sign_ins)
    swapped = replace(begun, nonce=other.nonce)
    assert "not the one that was begun" in refused(lambda: sign_ins.complete(swapped, code, None))
    refused(lambda: sign_ins.complete(begun, "x" * 100, None))


def test_who_has_no_role_here_is_not_let_in(provider: IdentityProvider, make: Callable[..., SignIns]) -> None:
    text = refused(lambda: signed_in(provider, make(), "mallory"), Forbidden)
    assert "gives no role here" in text
    sign_ins = make()
    assert provider.log_in(sign_ins.begin("/")[0], "ada", "wrong-password") is None


def test_a_wrong_secret_is_told_to_those_who_run_this(
    provider: IdentityProvider, make: Callable[..., SignIns], caplog: pytest.LogCaptureFixture
) -> None:
    sign_ins = make(client_secret="another-secret")
    text = refused(lambda: signed_in(provider, sign_ins), AuthenticationUnavailable)
    assert "(invalid_client): check oidc.yaml" in text
    assert "invalid_client" in caplog.text
    assert "another-secret" not in caplog.text + text


def test_while_the_provider_is_away_a_sign_in_goes_on_until_it_expires(
    provider: IdentityProvider, make: Callable[..., SignIns], now: Clock, clock: Clock
) -> None:
    sign_ins = make()
    held = signed_in(provider, sign_ins)
    begun, code = went(provider, sign_ins)
    expires = (sign_ins.authenticate(held).expires_at or 0) / 1000
    provider.stop()
    try:
        now.at = expires - 30
        assert sign_ins.authenticate(held).id == "oidc:ada"
        assert "cannot be reached" in refused(lambda: sign_ins.complete(begun, code, None), AuthenticationUnavailable)
        now.at, clock.at = expires + 60, clock.at + 20
        refused(lambda: sign_ins.authenticate(held), AuthenticationUnavailable)
        refused(lambda: make().begin("/"), AuthenticationUnavailable)
        assert make().leave_url(BACK) is None
    finally:
        provider.start()
    clock.at += 20
    assert sign_ins.leave_url("http://127.0.0.1:1/sign-in") == (
        f"{provider.issuer}/logout?client_id=pages&post_logout_redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Fsign-in"
    )


def test_no_more_are_kept_than_there_may_be(
    provider: IdentityProvider, oidc: OidcSettings, make: Callable[..., SignIns], now: Clock, clock: Clock
) -> None:
    assert oidc.sign_in is not None
    sign_ins = SignIns(Provider(oidc, clock), oidc.trust, oidc.sign_in, BACK, HOUR, 12 * HOUR, 2, now, clock)
    first, second = signed_in(provider, sign_ins), signed_in(provider, sign_ins)
    sign_ins.authenticate(first)
    third = signed_in(provider, sign_ins)
    refused(lambda: sign_ins.authenticate(second), Unauthorized)
    assert {sign_ins.authenticate(held).id for held in (first, third)} == {"oidc:ada"}
