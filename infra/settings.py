"""Where things are: an explicit option, else the environment, which is read here only, else the running local stack.

Everything else gets what it needs as arguments. Secrets are read when they are used, made only by `make_secrets`, and
never printed.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.local.opendsr_certificate import LOCAL_DOMAIN, issue_certificate
from infra.local.state import StackState, read_state
from streams.identities import generate_controller_keys
from streams.kafka import Kafka
from streams.registry import ConfluentRegistry
from streams.serdes import Registry

DEFAULT_DATA = Path(".lineage")
PEPPER_SIZE = 32


class SettingsError(Exception):
    """Something is nowhere to be found; the text says where it is looked for."""


@dataclass(frozen=True)
class Settings:
    """What was given: by option, else by the environment. What was not is asked of the stack in `data`."""

    data: Path
    kafka_bootstrap: str | None = None
    kafka_config: Mapping[str, Any] = field(default_factory=dict)
    clickhouse_url: str | None = None
    schema_registry: str | None = None
    java_home: Path | None = None
    maven_repository: str | None = None
    # Of the API: host:port; the domain that its OpenDSR certificate is for; regulation of requests that name none.
    api_address: str | None = None
    # Requests a second that the audit API takes of one client.
    api_rate: float = 50.0
    # Of the audit API that the commands ask, where it is not the stack's: URL; file of the token; why people are
    # looked at.
    api_url: str | None = None
    api_token_file: Path | None = None
    reason: str | None = None
    opendsr_domain: str = LOCAL_DOMAIN
    connectors: Path | None = None
    # Which identity provider vouches for callers and visitors; where the browsers of visitors reach the pages.
    oidc: Path | None = None
    public_url: str | None = None
    # Instead of the policy's `response_days`, to try things out.
    term_days: float | None = None
    opendsr_regulation: str = ""
    # Where secrets are that do not lie in the data folder: name → file.
    secret_files: Mapping[str, Path] = field(default_factory=dict)

    def stack(self) -> StackState | None:
        """The local stack that runs on the data folder."""
        return read_state(self.data)

    def kafka(self, log_level: int = 2) -> Kafka:
        """Raises `SettingsError` when no cluster is given and no stack runs.

        `log_level`: librdkafka's own, by default quiet: what goes wrong is told by what raises.
        """
        stack = None if self.kafka_bootstrap else self.stack()
        bootstrap = self.kafka_bootstrap or (stack.kafka if stack else None)
        if not bootstrap:
            raise SettingsError(
                f"no Kafka: start the local stack (lineage up --data {self.data}), or name a cluster with "
                "--kafka HOST:PORT or LINEAGE_KAFKA"
            )
        return Kafka(bootstrap, {"log_level": log_level, **self.kafka_config})

    def clickhouse(self) -> str:
        """The URL of ClickHouse. Raises `SettingsError` when none is given and no stack runs."""
        stack = None if self.clickhouse_url else self.stack()
        url = self.clickhouse_url or (stack.clickhouse_url if stack else None)
        if not url:
            raise SettingsError(
                f"no ClickHouse: start the local stack (lineage up --data {self.data}), or name a server with "
                "--clickhouse clickhouse://USER:PASSWORD@HOST:9000/DATABASE or LINEAGE_CLICKHOUSE"
            )
        return url

    def registry(self) -> Registry | None:
        """The schema registry that is given; none: single-object encoding. Raises `RegistryError`."""
        return ConfluentRegistry(self.schema_registry) if self.schema_registry else None

    def pepper(self) -> bytes:
        """What user ids are made pseudonymous with. Raises `SettingsError`."""
        return self._secret("pepper", "LINEAGE_PEPPER_FILE")

    def controller_public_key(self) -> bytes:
        """PEM. Raises `SettingsError`."""
        return self._secret("controller-public.pem", "LINEAGE_CONTROLLER_PUBLIC_KEY")

    def controller_private_key(self) -> bytes:
        """PEM. Raises `SettingsError`."""
        return self._secret("controller-private.pem", "LINEAGE_CONTROLLER_PRIVATE_KEY")

    def certificate_key(self) -> bytes:
        """PEM: what certificates of erasure are signed with. Raises `SettingsError`."""
        return self._secret("certificate-signing.pem", "LINEAGE_CERTIFICATE_KEY")

    def certificate_public_key(self) -> bytes:
        """PEM: what certificates of erasure are checked with. Raises `SettingsError`."""
        return self._secret("certificate-public.pem", "LINEAGE_CERTIFICATE_PUBLIC_KEY")

    def seal_key(self) -> bytes:
        """PEM: what the loader signs its seals of the log with. Raises `SettingsError`."""
        return self._secret("seal-signing.pem", "LINEAGE_SEAL_KEY")

    def seal_public_keys(self) -> bytes:
        """PEM, one key or more: what seals are checked with. Raises `SettingsError`."""
        return self._secret("seal-public.pem", "LINEAGE_SEAL_PUBLIC_KEY")

    def api(self) -> str:
        """host:port of the API, as its clients reach it. Raises `SettingsError` when none is given or runs."""
        stack = None if self.api_address else self.stack()
        address = self.api_address or (stack.api if stack else None)
        if not address:
            raise SettingsError("no API: start the local stack (lineage up), or name its host:port with LINEAGE_API")
        return address

    def opendsr_key(self) -> bytes:
        """PEM: what we sign with as an OpenDSR processor. Raises `SettingsError`."""
        return self._secret("opendsr-key.pem", "LINEAGE_OPENDSR_KEY")

    def opendsr_certificate(self) -> bytes:
        """PEM: the certificate of that key, issued for `opendsr_domain`. Raises `SettingsError`."""
        return self._secret("opendsr-certificate.pem", "LINEAGE_OPENDSR_CERTIFICATE")

    def api_clients(self) -> Path:
        """The file of those who may call the API; it need not exist."""
        return self._secret_path("api-clients.json")

    def connectors_file(self) -> Path:
        """Says how recipients are asked to erase; it need not exist."""
        return self.connectors or self.data / "connectors.yaml"

    def oidc_file(self) -> Path:
        """Says which identity provider is believed; unless it is named it need not exist. Raises `SettingsError`."""
        if self.oidc is not None and not self.oidc.is_file():
            raise SettingsError(f"LINEAGE_OIDC: there is no file {self.oidc}")
        return self.oidc or self.data / "oidc.yaml"

    def named_secret(self, name: str) -> str:
        """The secret that a document names, without the line break at its end. Raises `SettingsError`."""
        if not name or "/" in name or name.startswith("."):
            raise SettingsError(f"{name!r} is no name of a secret: it is that of a file in {self.data / 'secrets'}")
        path = self.data / "secrets" / name
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except FileNotFoundError:
            raise SettingsError(f"no secret {name}: {path} does not exist") from None

    def make_secrets(self) -> list[str]:
        """Makes the secrets that are neither given nor in the data folder yet; the names of those made."""
        made = []
        folder = self.data / "secrets"
        if not self._secret_path("pepper").exists() and "pepper" not in self.secret_files:
            write_secret(folder / "pepper", secrets.token_bytes(PEPPER_SIZE))
            made.append("pepper")
        opendsr = partial(issue_certificate, self.opendsr_domain)
        for what, generate, *keys in (
            ("controller keys", generate_controller_keys, "controller-private.pem", "controller-public.pem"),
            ("certificate keys", generate_signing_keys, "certificate-signing.pem", "certificate-public.pem"),
            ("seal keys", generate_signing_keys, "seal-signing.pem", "seal-public.pem"),
            ("OpenDSR certificate", opendsr, "opendsr-key.pem", "opendsr-certificate.pem", "opendsr-ca.pem"),
        ):
            if not any(key in self.secret_files or self._secret_path(key).exists() for key in keys):
                for name, pem in zip(keys, generate(), strict=True):
                    write_secret(folder / name, pem)
                made.append(what)
        return made

    def _secret_path(self, name: str) -> Path:
        return self.secret_files.get(name) or self.data / "secrets" / name

    def _secret(self, name: str, variable: str) -> bytes:
        path = self._secret_path(name)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            raise SettingsError(
                f"no {name}: {path} does not exist; `lineage up` makes it, or set {variable} to the file that holds it"
            ) from None


def settings(
    environment: Mapping[str, str] | None = None,
    *,
    data: str | Path | None = None,
    kafka: str | None = None,
    clickhouse: str | None = None,
) -> Settings:
    """Settings from options, else from the environment (this process's own by default). Raises `SettingsError`."""
    env = os.environ if environment is None else environment
    secret_files = {
        name: Path(env[variable])
        for name, variable in (
            ("pepper", "LINEAGE_PEPPER_FILE"),
            ("controller-public.pem", "LINEAGE_CONTROLLER_PUBLIC_KEY"),
            ("controller-private.pem", "LINEAGE_CONTROLLER_PRIVATE_KEY"),
            ("certificate-signing.pem", "LINEAGE_CERTIFICATE_KEY"),
            ("certificate-public.pem", "LINEAGE_CERTIFICATE_PUBLIC_KEY"),
            ("seal-signing.pem", "LINEAGE_SEAL_KEY"),
            ("seal-public.pem", "LINEAGE_SEAL_PUBLIC_KEY"),
            ("opendsr-key.pem", "LINEAGE_OPENDSR_KEY"),
            ("opendsr-certificate.pem", "LINEAGE_OPENDSR_CERTIFICATE"),
            ("api-clients.json", "LINEAGE_API_CLIENTS"),
        )
        if env.get(variable)
    }
    config = env.get("LINEAGE_KAFKA_CONFIG")
    java_home = env.get("JAVA_HOME")
    return Settings(
        data=Path(data or env.get("LINEAGE_DATA") or DEFAULT_DATA).absolute(),
        kafka_bootstrap=kafka or env.get("LINEAGE_KAFKA") or None,
        kafka_config=read_kafka_config(Path(config)) if config else {},
        clickhouse_url=clickhouse or env.get("LINEAGE_CLICKHOUSE") or None,
        schema_registry=env.get("LINEAGE_SCHEMA_REGISTRY") or None,
        api_address=env.get("LINEAGE_API") or None,
        api_url=env.get("LINEAGE_API_URL") or None,
        api_token_file=Path(env["LINEAGE_API_TOKEN_FILE"]) if env.get("LINEAGE_API_TOKEN_FILE") else None,
        reason=env.get("LINEAGE_REASON") or None,
        api_rate=_rate(env.get("LINEAGE_API_RATE")),
        opendsr_domain=env.get("LINEAGE_OPENDSR_DOMAIN") or LOCAL_DOMAIN,
        term_days=_positive(env, "LINEAGE_ERASURE_TERM_DAYS"),
        connectors=Path(env["LINEAGE_CONNECTORS"]) if env.get("LINEAGE_CONNECTORS") else None,
        oidc=Path(env["LINEAGE_OIDC"]) if env.get("LINEAGE_OIDC") else None,
        public_url=env.get("LINEAGE_PUBLIC_URL") or None,
        opendsr_regulation=env.get("LINEAGE_OPENDSR_REGULATION") or "",
        java_home=Path(java_home) if java_home else None,
        maven_repository=env.get("LINEAGE_MAVEN_REPOSITORY") or None,
        secret_files=secret_files,
    )


def _rate(given: str | None) -> float:
    try:
        rate = float(given or Settings.api_rate)
    except ValueError:
        rate = 0.0
    if not 0.0 < rate < 1e9:
        raise SettingsError("LINEAGE_API_RATE must be a number of requests a second, e.g. 50")
    return rate


def generate_signing_keys() -> tuple[bytes, bytes]:
    """A new Ed25519 key pair, as PEM: (private key, PKCS 8 unencrypted; public key, SubjectPublicKeyInfo)."""
    private = Ed25519PrivateKey.generate()
    return (
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
    )


def _positive(env: Mapping[str, str], variable: str) -> float | None:
    value = env.get(variable)
    if not value:
        return None
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < 36_500:
        raise SettingsError(f"{variable} is no number of days: {value}")
    return number


def read_kafka_config(path: Path) -> dict[str, Any]:
    """librdkafka settings from a file: a JSON object, or lines of `name=value` with `#` comments.

    Raises `SettingsError`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"LINEAGE_KAFKA_CONFIG: {path} cannot be read: {error.strerror}") from None
    if text.lstrip().startswith("{"):
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise SettingsError(f"LINEAGE_KAFKA_CONFIG: {path} is not JSON: {error}") from None
        return found
    config = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise SettingsError(f"LINEAGE_KAFKA_CONFIG: {path}:{number}: expected name=value")
        config[name.strip()] = value.strip()
    return config


def write_secret(path: Path, content: bytes) -> None:
    """Whole or not at all, and never readable for others, not even for an instant."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)
    draft.rename(path)
