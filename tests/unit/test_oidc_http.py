"""What an identity provider may answer with, and still take nothing down: over real sockets, and TLS."""

import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey

from infra.local.opendsr_certificate import LOCAL_DOMAIN, issue_certificate
from infra.oidc.configuration import OidcSettings
from infra.oidc.http import MOST_BYTES, ProviderAway, ProviderHttp, ProviderRefuses, check_url
from infra.oidc.provider import Provider
from processors.api_clients import AuthenticationUnavailable
from processors.oidc_tokens import Trust

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


class Odd:
    """A provider that answers as a test says; `asked`: what it was asked for, with bodies."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str, str]] = []
        odd = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                odd.asked.append((self.command, self.path, self.rfile.read(length).decode()))
                odd.answers.get(self.path, status(404))(self)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def provider(self, timeout: float = 1.0) -> Provider:
        return Provider(OidcSettings(Trust(self.url, "lineage", {}, ("roles",))), timeout=timeout)

    def describe(self, **more: Any) -> None:
        """Its discovery document, and a key."""
        key = {**RSAKey.generate_key(2048).as_dict(private=False), "kid": "k"}
        self.answers["/.well-known/openid-configuration"] = says(
            {"issuer": self.url, "jwks_uri": self.url + "/keys", **more}
        )
        self.answers["/keys"] = says({"keys": [key]})


@pytest.fixture
def odd() -> Iterator[Odd]:
    found = Odd()
    yield found
    found.server.shutdown()
    found.server.server_close()


def says(document: Any, code: int = 200, **headers: str) -> Answer:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()

    def answer(to: http.server.BaseHTTPRequestHandler) -> None:
        to.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            to.send_header(name, value)
        to.end_headers()
        to.wfile.write(body)

    return answer


def status(code: int, **headers: str) -> Answer:
    return says(b"", code, **headers)


def drips(to: http.server.BaseHTTPRequestHandler) -> None:
    """A byte now and then, for ever."""
    to.send_response(200)
    to.end_headers()
    for _ in range(200):
        try:
            to.wfile.write(b" ")
            to.wfile.flush()
        except OSError:
            return
        time.sleep(0.05)


def breaks_off(to: http.server.BaseHTTPRequestHandler) -> None:
    to.send_response(200)
    to.send_header("Content-Length", "100")
    to.end_headers()
    to.wfile.write(b"{")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (status(500), "status 500"),
        (status(404), "status 404"),
        (status(429), "status 429"),
        (status(302, Location="/keys"), "status 302"),
        (says(b"<html>"), "not JSON"),
        (says(b"\xff"), "not JSON"),
        (says(b"[" * 100_000), "not JSON"),
        (says(b" " * (MOST_BYTES + 1)), "not JSON"),
        (drips, "cannot be reached (TimeoutError)"),
        (breaks_off, "/d"),
    ],
)
def test_an_answer_that_cannot_be_used_is_told_as_such(odd: Odd, answer: Answer, why: str) -> None:
    odd.answers["/d"] = answer
    begun = time.monotonic()
    with pytest.raises(ProviderAway) as told:
        ProviderHttp(timeout=0.5).get(f"{odd.url}/d")
    assert why in str(told.value)
    assert time.monotonic() - begun < 3
    assert [path for _, path, _ in odd.asked] == ["/d"]


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"issuer": "X", "jwks_uri": 5},
        {"issuer": "X"},
        {"issuer": "X", "jwks_uri": "http://id.example.org/keys"},
        {"issuer": "X", "jwks_uri": "file:///etc/passwd"},
        {"issuer": "X", "jwks_uri": "/keys"},
        {"issuer": "X/", "jwks_uri": "X/keys"},
        {"issuer": "X", "jwks_uri": "X/keys", "token_endpoint": "http://id.example.org/token"},
        {"issuer": "X", "jwks_uri": "X/none"},
        {"issuer": "X", "jwks_uri": "X/empty"},
        {"issuer": "X", "jwks_uri": "X/wrong"},
    ],
)
def test_a_discovery_document_that_is_not_right_is_not_followed(odd: Odd, document: Any) -> None:
    odd.describe()
    odd.answers["/empty"], odd.answers["/wrong"] = says({"keys": []}), says({"keys": 5})
    told = json.loads(json.dumps(document).replace("X", odd.url))
    odd.answers["/.well-known/openid-configuration"] = says(told)
    with pytest.raises(ProviderAway):
        odd.provider().read()
    assert "/keys" not in [path for _, path, _ in odd.asked]


def test_many_do_not_wait_for_a_provider_that_hangs(odd: Odd) -> None:
    provider = odd.provider(timeout=4.0)
    odd.answers["/.well-known/openid-configuration"] = drips

    def ask() -> None:
        with pytest.raises(AuthenticationUnavailable, match="cannot be asked now"):
            provider.endpoints()

    first = threading.Thread(target=ask)
    first.start()
    time.sleep(0.2)
    begun = time.monotonic()
    with pytest.raises(AuthenticationUnavailable, match="just being read"):
        provider.endpoints()
    assert time.monotonic() - begun < 2.5
    first.join(20)
    # Nor is it asked again at once.
    begun = time.monotonic()
    ask()
    assert time.monotonic() - begun < 0.5
    assert len(odd.asked) == 1


@pytest.mark.parametrize(
    ("methods", "secret", "in_header", "in_body"),
    [
        (None, "s&c:+", True, False),
        (["client_secret_post"], "s&c:+", False, True),
        (["client_secret_post", "client_secret_basic"], "s&c:+", True, False),
        (["none"], None, False, False),
    ],
)
def test_how_a_client_says_who_it_is(
    odd: Odd, methods: Any, secret: str | None, in_header: bool, in_body: bool
) -> None:
    headers: list[str] = []

    def answer(to: http.server.BaseHTTPRequestHandler) -> None:
        headers.append(to.headers.get("Authorization", ""))
        says({"access_token": "t"})(to)

    more = {} if methods is None else {"token_endpoint_auth_methods_supported": methods}
    odd.describe(token_endpoint=odd.url + "/token", **more)
    odd.answers["/token"] = answer
    provider = odd.provider()
    assert provider.token_request(provider.endpoints(), {"code": "c"}, "pages", secret) == {"access_token": "t"}
    # `pages:s%26c%3A%2B`, in base64.
    assert headers == ["Basic cGFnZXM6cyUyNmMlM0ElMkI=" if in_header else ""]
    body = odd.asked[-1][2]
    assert ("client_secret=s%26c%3A%2B" in body) == in_body
    assert ("client_id=pages" in body) == (not in_header)
    odd.answers["/token"] = says({"error": "invalid_grant", "error_description": "x"}, 400)
    with pytest.raises(ProviderRefuses) as told:
        provider.token_request(provider.endpoints(), {"code": "c"}, "pages", secret)
    assert told.value.code == "invalid_grant"
    for wrong in (says([1], 400), says(b"x", 401), says({"error": 5}, 403)):
        odd.answers["/token"] = wrong
        with pytest.raises(ProviderRefuses) as told:
            provider.token_request(provider.endpoints(), {"code": "c"}, "pages", secret)
        assert told.value.code == ""


def test_tls_is_verified(odd: Odd, tmp_path: Path) -> None:
    odd.answers["/d"] = says({"fine": True})
    with tls(odd, LOCAL_DOMAIN, tmp_path) as (url, authority):
        assert ProviderHttp(authority).get(url) == {"fine": True}
        with pytest.raises(ProviderAway, match="SSLCertVerificationError"):
            ProviderHttp().get(url)
    with (
        tls(odd, "id.example.org", tmp_path) as (url, authority),
        pytest.raises(ProviderAway, match="SSLCertVerificationError"),
    ):
        ProviderHttp(authority).get(url)


@contextmanager
def tls(odd: Odd, domain: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The odd provider with a certificate for a domain: a URL of it, and the file of who issued that."""
    for name, pem in zip(("key", "certificate", "authority"), issue_certificate(domain), strict=True):
        (folder / name).write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate", folder / "key")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), odd.server.RequestHandlerClass)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"https://127.0.0.1:{server.server_port}/d", folder / "authority"
    finally:
        server.shutdown()
        server.server_close()


def test_urls() -> None:
    for url in ("https://id.example.org/x", "http://127.0.0.1:8080", "http://[::1]/", "http://localhost:1/x"):
        check_url(url)
    for url in (
        "http://id.example.org",
        "ftp://127.0.0.1",
        "https://",
        "https://a b",
        "https://u:p@id.example.org",
        "",
    ):
        with pytest.raises(ValueError, match=r"URL|https"):
            check_url(url)
    for url in ("http://127.0.0.1.example.org", "http://localhost.example.org", "http://0.0.0.0", "https://[::1"):
        with pytest.raises(ValueError, match=r"URL|https"):
            check_url(url)
