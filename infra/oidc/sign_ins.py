"""People who have signed in at the identity provider: their tokens, in memory, until they leave. Shows no token.

Each request is checked with the provider's token anew. Before that expires it is renewed, if the provider allows it
(a refresh token); what the provider does not renew is out when it expires.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from urllib.parse import urlencode

from infra.oidc.configuration import SignInSettings
from infra.oidc.http import ProviderAway, ProviderRefuses
from infra.oidc.provider import Provider
from processors.api_clients import ApiClient, AuthenticationUnavailable, Forbidden, Unauthorized
from processors.oidc_tokens import Signed, Trust, check_sign_in, client_of, expiry, same_subject

log = logging.getLogger(__name__)

# What a session of the pages holds begins so; it is taken from those sessions only, never from a caller of the API.
SCHEME = "Sign-In "
RENEW_SECONDS = 60.0
_PAUSE_SECONDS = 10.0
_KEY_BYTES = 32


@dataclass(frozen=True)
class Begun:
    """A sign-in that is under way. Its browser keeps all of it, sealed. wanted: the page that it was for."""

    state: str
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    wanted: str


@dataclass
class _Held:
    """Who is signed in. `token`: what tells who they are and what they may."""

    token: Signed
    refresh: str | None = field(repr=False)
    seen_at: float
    begun_at: float
    tried_at: float = float("-inf")
    lock: Lock = field(default_factory=Lock, repr=False)


class SignIns:
    """Thread-safe. idle, whole, most: as long and as many as the sessions of the pages. now: seconds since 1970, UTC;
    clock: monotonic."""

    def __init__(
        self,
        provider: Provider,
        trust: Trust,
        settings: SignInSettings,
        redirect_uri: str,
        idle: float,
        whole: float,
        most: int,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._trust = trust
        self._settings = settings
        self._redirect_uri = redirect_uri
        self._idle, self._whole, self._most = idle, whole, most
        self._now = now
        self._clock = clock
        # The one seen longest ago first.
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._lock = Lock()

    def begin(self, wanted: str) -> tuple[str, Begun]:
        """Where the browser goes to sign in. Raises `AuthenticationUnavailable`."""
        begun = Begun(secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48), wanted)
        endpoint = self._provider.endpoints().authorization
        if endpoint is None:
            raise AuthenticationUnavailable("the identity provider names no endpoint to sign in at")
        challenge = base64.urlsafe_b64encode(hashlib.sha256(begun.verifier.encode()).digest()).rstrip(b"=").decode()
        parameters = {
            **self._settings.parameters,
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(self._settings.scopes),
            "state": begun.state,
            "nonce": begun.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        return _with_query(endpoint, parameters), begun

    def complete(self, begun: Begun, code: str, issuer: str | None) -> str:
        """What a session is to hold of whoever came back with this code. issuer: as the answer names it (RFC 9207).

        Raises `Unauthorized`, `Forbidden`, `AuthenticationUnavailable`.
        """
        endpoints = self._provider.endpoints()
        if issuer != self._trust.issuer and (issuer is not None or endpoints.sends_issuer):
            raise Unauthorized("the answer to this sign-in is of another issuer")
        answer = self._ask(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": self._redirect_uri,
                "code_verifier": begun.verifier,
            }
        )
        access, told = _text(answer, "access_token"), _text(answer, "id_token")
        if access is None or told is None:
            raise AuthenticationUnavailable("the identity provider does not answer with an ID and an access token")
        id_token = self._provider.signed(told)
        check_sign_in(id_token, self._trust, self._settings.client_id, begun.nonce, access, self._now())
        token = id_token if self._settings.token == "id" else self._provider.signed(access)
        if not same_subject(token, id_token):
            raise Unauthorized("the provider's two tokens are not about the same person")
        self._client(token)
        return SCHEME + self._keep(token, _text(answer, "refresh_token"))

    def authenticate(self, held: str) -> ApiClient:
        """Who is signed in, of what their session holds. Raises `Unauthorized`, `Forbidden`,
        `AuthenticationUnavailable`."""
        key = held.removeprefix(SCHEME)
        with self._lock:
            self._forget()
            found = self._held.get(key)
            if found is None:
                raise Unauthorized("sign in again")
            found.seen_at = self._clock()
            self._held.move_to_end(key)
        with found.lock:
            if expiry(found.token) - self._now() < RENEW_SECONDS:
                self._renew(found)
            token = found.token
        try:
            return self._client(token)
        except (Unauthorized, Forbidden):
            self.end(held)
            raise

    def end(self, held: str) -> None:
        with self._lock:
            self._held.pop(held.removeprefix(SCHEME), None)

    def leave_url(self, back: str) -> str | None:
        """Where one signs out at the provider, and comes back from; None: it tells no such place, or is away."""
        try:
            endpoint = self._provider.endpoints().end_session
        except AuthenticationUnavailable:
            return None
        # No hint of who it is: URLs are logged.
        parameters = {"client_id": self._settings.client_id, "post_logout_redirect_uri": back}
        return _with_query(endpoint, parameters) if endpoint else None

    def _client(self, token: Signed) -> ApiClient:
        kind = self._settings.token
        audience = self._trust.audience if kind == "access" else self._settings.client_id
        return client_of(token, self._trust, audience, kind, self._now())

    def _keep(self, token: Signed, refresh: str | None) -> str:
        key = secrets.token_urlsafe(_KEY_BYTES)
        with self._lock:
            self._forget()
            while len(self._held) >= self._most:
                self._held.popitem(last=False)
            self._held[key] = _Held(token, refresh, self._clock(), self._clock())
        return key

    def _forget(self) -> None:
        now = self._clock()
        for key, held in list(self._held.items()):
            if now - held.seen_at >= self._idle or now - held.begun_at >= self._whole:
                del self._held[key]

    def _renew(self, held: _Held) -> None:
        """A newer token, if there is one to be had. The lock of `held` is held."""
        if held.refresh is None or self._clock() - held.tried_at < _PAUSE_SECONDS:
            return
        held.tried_at = self._clock()
        try:
            answer = self._ask({"grant_type": "refresh_token", "refresh_token": held.refresh})
            told = _text(answer, "id_token" if self._settings.token == "id" else "access_token")
            if told is None:
                held.refresh = None
                return
            token = self._provider.signed(told)
            if not same_subject(token, held.token):
                raise Unauthorized("the provider renewed this sign-in for somebody else")
            held.token, held.refresh = token, _text(answer, "refresh_token") or held.refresh
        except Unauthorized:
            # What is there is good until it expires.
            held.refresh = None
        except AuthenticationUnavailable:
            if expiry(held.token) <= self._now():
                raise

    def _ask(self, form: Mapping[str, str]) -> Mapping[str, Any]:
        """Raises `Unauthorized`, `AuthenticationUnavailable`."""
        settings = self._settings
        try:
            return self._provider.token_request(
                self._provider.endpoints(), form, settings.client_id, settings.client_secret
            )
        except ProviderAway as error:
            raise AuthenticationUnavailable(f"nobody can sign in now: {error}") from None
        except ProviderRefuses as error:
            if error.code == "invalid_grant":
                raise Unauthorized("the provider does not know this sign-in, or not any more: begin again") from None
            # Its code tells who runs this what to mend, e.g. invalid_client; it is the provider's own word.
            code = error.code if error.code in _CODES else "an error of its own"
            log.error("the identity provider refuses to hand out tokens: %s, %s", error, code)
            raise AuthenticationUnavailable(
                f"the identity provider refuses to let these pages sign anybody in ({code}): check oidc.yaml"
            ) from None


# RFC 6749, section 5.2.
_CODES = ("invalid_request", "invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope")


def _with_query(url: str, parameters: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(parameters)}"


def _text(answer: Mapping[str, Any], name: str) -> str | None:
    value = answer.get(name)
    return value if isinstance(value, str) and value else None
