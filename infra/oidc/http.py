"""HTTP to the identity provider: bounded in size and time, no redirects, TLS always verified. Logs nothing."""

from __future__ import annotations

import http.client
import ipaddress
import json
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

TIMEOUT_SECONDS = 5.0
MOST_BYTES = 1 << 20


class ProviderAway(Exception):
    """The provider gave no usable answer. The text names no query and no body."""


class ProviderRefuses(Exception):
    """The provider answered with an error. `code`: its own word, e.g. invalid_grant; empty: it says none."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"status {status}")
        self.code = code


class ProviderHttp:
    """ca: file with the authorities to trust instead of the system's. Raises `OSError`: that file cannot be used."""

    def __init__(self, ca: Path | None = None, timeout: float = TIMEOUT_SECONDS) -> None:
        self._timeout = timeout
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
        self._outside = build_opener(_NoRedirect(), HTTPSHandler(context=context))
        # A proxy has another loopback.
        self._inside = build_opener(_NoRedirect(), HTTPSHandler(context=context), ProxyHandler({}))

    def get(self, url: str) -> Any:
        """A JSON document. Raises `ProviderAway`."""
        try:
            return self._ask(Request(url, headers={"Accept": "application/json"}))
        except ProviderRefuses as error:
            raise ProviderAway(f"{_place(url)} answered with {error}") from None

    def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Any:
        """The JSON that answers a form. Raises `ProviderAway`, `ProviderRefuses`."""
        body = urlencode(form).encode()
        return self._ask(Request(url, body, {"Accept": "application/json", **headers}, method="POST"))

    def _ask(self, request: Request) -> Any:
        url = request.full_url
        try:
            check_url(url)
            opener = self._inside if _is_loopback(urlsplit(url).hostname) else self._outside
            with opener.open(request, timeout=self._timeout) as answer:
                return json.loads(self._read(answer))
        except HTTPError as error:
            with error:
                if error.code < 500 and error.code not in (408, 429):
                    raise ProviderRefuses(error.code, self._code(error)) from None
            raise ProviderAway(f"{_place(url)} answered with status {error.code}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise ProviderAway(f"{_place(url)} cannot be reached ({type(reason).__name__})") from None
        except (ValueError, RecursionError):
            raise ProviderAway(f"{_place(url)} answered with something that is not JSON") from None

    def _read(self, answer: Any) -> bytes:
        """Raises `TimeoutError`, `ValueError`."""
        deadline = time.monotonic() + self._timeout
        read = bytearray()
        while chunk := answer.read1(1 << 16):
            read += chunk
            if time.monotonic() > deadline:
                raise TimeoutError
            if len(read) > MOST_BYTES:
                raise ValueError("too large")
        return bytes(read)

    def _code(self, error: HTTPError) -> str:
        try:
            told = json.loads(self._read(error))
        except (OSError, ValueError, RecursionError, http.client.HTTPException, AttributeError):
            return ""
        code = told.get("error") if isinstance(told, dict) else None
        return code if isinstance(code, str) else ""


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """What was sent is for one place only."""


def check_url(url: str) -> None:
    """Raises `ValueError`: neither https, nor http to this very machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise ValueError("this is no URL") from None
    if not host or not url.isprintable() or " " in url or parts.username is not None:
        raise ValueError("this is no URL of a provider")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise ValueError("it must be https: http is for loopback addresses only")


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
