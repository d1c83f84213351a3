"""What is known of the identity provider: its endpoints and keys, kept in memory and read anew.

Keys are read when first needed, again in the background when they are some minutes old, and at once when a token names
one that is not known, though not more often than the provider deserves. While it is away the known ones go on counting
for some hours, then nobody is let in by it.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any
from urllib.parse import quote

from joserfc.jwk import Key

from infra.oidc.configuration import OidcSettings
from infra.oidc.http import TIMEOUT_SECONDS, ProviderAway, ProviderHttp, check_url
from processors.api_clients import AuthenticationUnavailable, Unauthorized
from processors.oidc_tokens import Signed, UnknownKey, signed, usable_keys

log = logging.getLogger(__name__)

FRESH_SECONDS = 600.0
USABLE_SECONDS = 4 * 3600.0
# Between two attempts, whatever tokens are sent.
PAUSE_SECONDS = 10.0
# Nor do many wait for one attempt: each of them holds a thread.
_WAIT_SECONDS = 1.0
WELL_KNOWN = "/.well-known/openid-configuration"


@dataclass(frozen=True)
class Endpoints:
    """Of the discovery document (OpenID Connect Discovery 1.0, section 3). `sends_issuer`: RFC 9207."""

    jwks: str
    authorization: str | None = None
    token: str | None = None
    end_session: str | None = None
    auth_methods: Sequence[str] = ("client_secret_basic",)
    challenge_methods: Sequence[str] = ()
    sends_issuer: bool = False


@dataclass(frozen=True)
class Known:
    """What was read of the provider. `at`: monotonic seconds."""

    endpoints: Endpoints
    keys: Sequence[Key]
    at: float


class Provider:
    """Thread-safe; asks nothing before it is asked. clock: seconds, monotonic."""

    def __init__(
        self,
        settings: OidcSettings,
        clock: Callable[[], float] = time.monotonic,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        """Raises `OSError`: the file of authorities cannot be used."""
        self._trust = settings.trust
        self._http = ProviderHttp(settings.ca, timeout)
        self._clock = clock
        self._known: Known | None = None
        self._tried_at = float("-inf")
        self._why_away = ""
        self._reading = Lock()

    def signed(self, token: str) -> Signed:
        """A token that the provider has signed; nothing else of it is checked. Raises `Unauthorized`,
        `AuthenticationUnavailable`."""
        known = self._current()
        try:
            return signed(token, known.keys, self._trust)
        except UnknownKey:
            known = self._newer_than(known)
        try:
            return signed(token, known.keys, self._trust)
        except UnknownKey:
            raise Unauthorized("this token is signed with a key that is not among the provider's") from None

    def endpoints(self) -> Endpoints:
        """Raises `AuthenticationUnavailable`."""
        return self._current().endpoints

    def read(self) -> Known:
        """What the provider says now; changes nothing. Raises `ProviderAway`: what is wrong with it."""
        begun = self._clock()
        issuer = self._trust.issuer
        endpoints = _endpoints(self._http.get(issuer.rstrip("/") + WELL_KNOWN), issuer)
        try:
            keys = usable_keys(self._http.get(endpoints.jwks))
        except ValueError:
            raise ProviderAway(f"{endpoints.jwks} has no keys that can be read") from None
        if not keys:
            raise ProviderAway(f"{endpoints.jwks} has no key that signs tokens")
        return Known(endpoints, keys, begun)

    def token_request(
        self, endpoints: Endpoints, form: Mapping[str, str], client_id: str, secret: str | None
    ) -> Mapping[str, Any]:
        """Asks for tokens (RFC 6749, sections 4.1.3 and 6). Raises `ProviderAway`, `ProviderRefuses`."""
        if endpoints.token is None:
            raise ProviderAway("the identity provider names no endpoint for tokens")
        headers: dict[str, str] = {}
        if secret is None:
            form = {**form, "client_id": client_id}
        elif "client_secret_basic" in endpoints.auth_methods or "client_secret_post" not in endpoints.auth_methods:
            # Each encoded as in a form (RFC 6749, section 2.3.1).
            pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form = {**form, "client_id": client_id, "client_secret": secret}
        answer = self._http.post(endpoints.token, form, headers)
        if not isinstance(answer, Mapping):
            raise ProviderAway("the identity provider answers with no tokens")
        return answer

    def _current(self) -> Known:
        known = self._known
        age = self._clock() - known.at if known else float("inf")
        if known is None or age > USABLE_SECONDS:
            return self._read_after(known)
        if age > FRESH_SECONDS and self._may_try() and self._reading.acquire(blocking=False):
            Thread(target=self._renew, name="oidc-keys", daemon=True).start()
        return known

    def _newer_than(self, known: Known) -> Known:
        """What is known after this, if it is time to ask again. Raises `AuthenticationUnavailable`."""
        return known if self._clock() - known.at < PAUSE_SECONDS else self._read_after(known)

    def _read_after(self, known: Known | None) -> Known:
        if not self._reading.acquire(timeout=_WAIT_SECONDS):
            raise AuthenticationUnavailable("the keys of the identity provider are just being read: try again")
        try:
            # Others may have asked meanwhile.
            if self._known is not None and self._known is not known:
                return self._known
            if self._may_try():
                self._try()
            if self._known is None or self._known is known:
                raise AuthenticationUnavailable(
                    f"the identity provider cannot be asked now, so nobody can be let in by it: {self._why_away}"
                )
            return self._known
        finally:
            self._reading.release()

    def _may_try(self) -> bool:
        return self._clock() - self._tried_at >= PAUSE_SECONDS

    def _try(self) -> None:
        """The lock is held by the one who calls this, or who started the thread that does."""
        self._tried_at = self._clock()
        try:
            self._known = self.read()
        except ProviderAway as error:
            self._why_away = str(error)
            log.warning("the identity provider is away: %s", error)

    def _renew(self) -> None:
        try:
            self._try()
        finally:
            self._reading.release()


def _endpoints(document: Any, issuer: str) -> Endpoints:
    """Raises `ProviderAway`: the document is not of this issuer, or leads somewhere unsafe."""
    if not isinstance(document, Mapping):
        raise ProviderAway("the identity provider's discovery document is no object")
    if document.get("issuer") != issuer:
        # Section 4.3: it must be the same, or one provider could speak for another.
        raise ProviderAway("the identity provider's discovery document names another issuer than oidc.yaml")
    urls = {name: _url(document, name) for name in ("jwks_uri", *_OPTIONAL)}
    if urls["jwks_uri"] is None:
        raise ProviderAway("the identity provider's discovery document names no jwks_uri")
    return Endpoints(
        urls["jwks_uri"],
        urls["authorization_endpoint"],
        urls["token_endpoint"],
        urls["end_session_endpoint"],
        _texts(document.get("token_endpoint_auth_methods_supported")) or ("client_secret_basic",),
        _texts(document.get("code_challenge_methods_supported")),
        document.get("authorization_response_iss_parameter_supported") is True,
    )


_OPTIONAL = ("authorization_endpoint", "token_endpoint", "end_session_endpoint")


def _url(document: Mapping[str, Any], name: str) -> str | None:
    url = document.get(name)
    if url is None:
        return None
    try:
        if not isinstance(url, str):
            raise ValueError("this is no URL")
        check_url(url)
    except ValueError as error:
        raise ProviderAway(f"{name} of the identity provider's discovery document: {error}") from None
    return url


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()
