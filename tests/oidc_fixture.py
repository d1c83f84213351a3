"""The fixture `identity_provider`: a real OpenID provider (nanoidp), a process of its own for the tests of a module."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from joserfc import jwt
from joserfc.jwk import RSAKey

AUDIENCE = "lineage-api"
CALLBACK = "/sign-in/oidc/callback"
# User → password and roles, as the provider knows them.
USERS: Mapping[str, tuple[str, list[str]]] = {
    "ada": ("ada-password", ["lineage-auditor", "something-else"]),
    "cleo": ("cleo-password", ["lineage-clerk"]),
    "otto": ("otto-password", ["lineage-overseer", "lineage-engineer"]),
    "mallory": ("mallory-password", ["someone"]),
}
OIDC_YAML: Mapping[str, Any] = {
    "audience": AUDIENCE,
    "role_claims": ["roles", "scope"],
    "roles": {
        "lineage-auditor": "auditor",
        "lineage-clerk": ["clerk"],
        "lineage-overseer": "overseer",
        "lineage-engineer": "engineer",
        "lineage:erase": "eraser",
        "lineage:erase-verified": "eraser",
    },
    "verifies_identity": ["lineage:erase-verified"],
}


class IdentityProvider:
    """The provider; `restart` it after `stop` at the same place, with the same keys."""

    def __init__(self, folder: Path, redirect_uris: list[str] | None = None) -> None:
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(redirect_uris or [])

    def configure(self, redirect_uris: list[str], **oauth: Any) -> None:
        """Writes its settings; it reads them when it starts."""
        scopes = ["openid", "profile", "lineage:erase", "lineage:erase-verified"]
        settings = {
            "config_version": 1,
            "server": {"host": "127.0.0.1", "port": self.port},
            "oauth": {
                "issuer": self.issuer,
                "audience": AUDIENCE,
                "refresh_token_rotation": True,
                "require_pkce": True,
                "scopes_supported": scopes,
                "clients": [
                    {"client_id": "shop", "client_secret": "shop-secret"},
                    {"client_id": "pages", "client_secret": "pages-secret", "redirect_uris": redirect_uris},
                ],
                **oauth,
            },
            "jwt": {"algorithm": "RS256", "keys_dir": str(self._folder / "keys")},
            "logging": {"verbose_logging": False},
        }
        users = {name: {"password": password, "roles": roles} for name, (password, roles) in USERS.items()}
        (self._folder / "keys").mkdir(parents=True, exist_ok=True)
        (self._folder / "settings.yaml").write_text(yaml.safe_dump(settings))
        (self._folder / "users.yaml").write_text(yaml.safe_dump({"config_version": 1, "users": users}))

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nanoidp", "--config", str(self._folder), "--port", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{self.issuer}/.well-known/openid-configuration").raise_for_status()
                return
            except httpx.HTTPError:
                assert self._process.poll() is None, (self._folder / "log").read_text()
                assert time.monotonic() < deadline, (self._folder / "log").read_text()
                time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def client_token(self, scope: str = "", client: str = "shop") -> str:
        """An access token of a client's own (RFC 6749, section 4.4)."""
        answer = httpx.post(
            f"{self.issuer}/token",
            data={"grant_type": "client_credentials", **({"scope": scope} if scope else {})},
            auth=(client, f"{client}-secret"),
        )
        return str(answer.raise_for_status().json()["access_token"])

    def user_tokens(self, user: str, minutes: int = 60) -> dict[str, str]:
        """access_token and, of a client that may have one, refresh_token of a user."""
        answer = httpx.post(
            f"{self.issuer}/api/users/{user}/token", json={"exp_minutes": minutes, "client_id": "pages"}
        )
        found: dict[str, str] = answer.raise_for_status().json()
        return found

    def log_in(self, url: str, user: str, password: str | None = None) -> httpx.URL | None:
        """As somebody at its login page, which is at `url`: where it sends them back to; None: it does not."""
        with httpx.Client() as browser:
            page = browser.get(url)
            assert page.status_code == 200, page.text
            hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
            answer = browser.post(url, data={**hidden, "username": user, "password": password or USERS[user][0]})
            return httpx.URL(answer.headers["location"]) if answer.is_redirect else None

    def rotate(self) -> None:
        """From now on it signs with another key; the one before is still published."""
        httpx.post(f"{self.issuer}/api/keys/rotate").raise_for_status()

    def revoke(self, token: str) -> None:
        """RFC 7009."""
        httpx.post(f"{self.issuer}/revoke", data={"token": token}, auth=("pages", "pages-secret")).raise_for_status()

    def asked_for_keys(self) -> int:
        """How often it was asked for its keys so far, by its own log; not by `jwks`."""
        return (self._folder / "log").read_text().count('"GET /.well-known/jwks.json HTTP')

    def asked_for_tokens(self) -> int:
        return (self._folder / "log").read_text().count("POST /token HTTP")

    def jwks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = httpx.get(f"{self.issuer}/.well-known/jwks.json?by=test").json()["keys"]
        return found

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        """A token of any claims, signed with the provider's own key: what it would never issue itself."""
        [pem] = [path for path in (self._folder / "keys").rglob("*.pem") if b"PRIVATE KEY" in path.read_bytes()]
        key = RSAKey.import_key(pem.read_text())
        algorithm = header.get("alg", "RS256")
        return jwt.encode(
            {"alg": algorithm, "typ": "JWT", "kid": self.jwks()[0]["kid"], **header},
            dict(claims),
            key,
            algorithms=[algorithm],
        )

    def write_yaml(self, path: Path, **more: Any) -> None:
        """An oidc.yaml that believes this provider."""
        path.write_text(json.dumps({"issuer": self.issuer, **OIDC_YAML, **more}), encoding="utf-8")


@pytest.fixture(scope="module")
def identity_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IdentityProvider]:
    """One for a module; tests that stop it start it again."""
    provider = IdentityProvider(tmp_path_factory.mktemp("idp"))
    provider.start()
    yield provider
    provider.stop()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
