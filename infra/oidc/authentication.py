"""Who calls: our own API tokens, and besides them access tokens of the identity provider."""

from __future__ import annotations

import time
from collections.abc import Callable

from infra.oidc.provider import Provider
from processors.api_clients import TOKEN_PREFIX, ApiClient
from processors.oidc_tokens import Trust, client_of

Authenticate = Callable[[str | None], ApiClient]


class OidcTokens:
    """As whom tokens of the provider are let in. clock: seconds since 1970, UTC."""

    def __init__(self, provider: Provider, trust: Trust, clock: Callable[[], float] = time.time) -> None:
        self._provider = provider
        self._trust = trust
        self._clock = clock

    def client(self, token: str) -> ApiClient:
        """Of an access token. Raises `Unauthorized`, `Forbidden`, `AuthenticationUnavailable`."""
        return client_of(self._provider.signed(token), self._trust, self._trust.audience, "access", self._clock())


def authenticate_either(own: Authenticate, oidc: OidcTokens) -> Authenticate:
    """Of a header `Authorization`: our own tokens have a prefix; all others are the provider's.

    Raises `Unauthorized`, `Forbidden`, `AuthenticationUnavailable`.
    """

    def authenticate(authorization: str | None) -> ApiClient:
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or token.startswith(TOKEN_PREFIX):
            return own(authorization)
        return oidc.client(token)

    return authenticate
