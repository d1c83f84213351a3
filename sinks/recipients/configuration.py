"""connectors.yaml: how each recipient is asked to erase. Read once, refused as a whole when anything in it is wrong.

Opens no connection. Secrets are named in it and never stand in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jsonschema import Draft202012Validator

from schemas import schema_dir
from sinks.recipients.connector import Connector
from sinks.recipients.ddrf import DdrfConnector
from sinks.recipients.documents import document_connector
from sinks.recipients.guarded import Guarded, Limits
from sinks.recipients.opendsr import OpenDsrConnector
from sinks.recipients.opendsr_signatures import load_authorities
from sinks.recipients.transport import RefusedAddressError, Transport, check_url
from sinks.recipients.yaml_places import line_of, read_yaml

_SECRET = re.compile(r"\$\{secret:([^}]+)\}")


class ConfigurationError(ValueError):
    """connectors.yaml cannot be used; the text says where and why."""


@dataclass(frozen=True)
class KafkaTarget:
    """A recipient that takes its commands from the topic `erasure-commands`. `public_key`: PEM, X25519."""

    public_key: bytes
    protocol: str = "kafka"


@dataclass(frozen=True)
class ManualTask:
    """A recipient that a person must ask. `remind_days`, `expire_days`: since the task was made; `identity_types`: what
    it knows the person by, empty: all that is known."""

    contact: str
    remind_days: tuple[float, ...] = (5, 10)
    expire_days: float = 14
    identity_types: tuple[str, ...] = ()
    protocol: str = "manual"


Way = Connector | KafkaTarget | ManualTask


@dataclass(frozen=True)
class Connectors:
    """Every way there is. `public_url`: where recipients reach our API, None: the local one."""

    recipients: Mapping[str, Way] = field(default_factory=dict)
    public_url: str | None = None
    allow_private: bool = False

    def of(self, recipient: str) -> Way | None:
        """The way to a recipient; None: nothing is said of it."""
        return self.recipients.get(recipient)

    async def close(self) -> None:
        for way in self.recipients.values():
            if not isinstance(way, KafkaTarget | ManualTask):
                await way.close()


class ConnectorsFile:
    """A connectors.yaml that may be edited, appear or go while others use it: `current` is as it was last usable.

    An unusable edit is told to `complain` once and changes nothing. Connectors that were replaced end with their calls.
    """

    def __init__(self, path: Path, read_secret: Callable[[str], str], complain: Callable[[str], None]) -> None:
        """Raises `ConfigurationError` when the file is there and cannot be used, and what `read_secret` raises."""
        self._path = path
        self._read_secret = read_secret
        self._complain = complain
        self._seen = self._stamp()
        self._connectors = load_connectors(path if self._seen else None, read_secret)

    def current(self) -> Connectors:
        """What the file says now."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._connectors = load_connectors(self._path if stamp else None, self._read_secret)
            except Exception as error:
                self._complain(f"{error}: what was there before goes on counting")
        return self._connectors

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size


def load_connectors(path: Path | None, read_secret: Callable[[str], str]) -> Connectors:
    """What a connectors.yaml says; None: nothing. `read_secret`: the content of a secret by its name.

    File names in it are taken from its own folder. Raises `ConfigurationError`, and what `read_secret` raises.
    """
    if path is None:
        return Connectors()
    try:
        text = path.read_text(encoding="utf-8")
        document = read_yaml(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {type(error).__name__}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not YAML: {error}") from None
    schema = json.loads((schema_dir() / "connectors" / "connectors.schema.json").read_text(encoding="utf-8"))
    wrong = sorted(Draft202012Validator(schema).iter_errors(document), key=lambda error: list(map(str, error.path)))
    if wrong:
        at = list(wrong[0].absolute_path)
        where = ".".join(map(str, at)) or "the document"
        raise ConfigurationError(f"{path}, line {line_of(text, at)}: {where}: {wrong[0].message}")
    allow_private, public_url = document.get("allow_private", False), document.get("public_url")
    recipients = {}
    for name, entry in (document.get("recipients") or {}).items():
        try:
            recipients[name] = _way(entry, path.parent, allow_private, public_url, read_secret)
        except (ValueError, OSError, RefusedAddressError) as error:
            line = line_of(text, ["recipients", name])
            raise ConfigurationError(f"{path}, line {line}: recipients.{name}: {error}") from None
    return Connectors(recipients, public_url, allow_private)


def _way(
    entry: Mapping[str, Any],
    folder: Path,
    allow_private: bool,
    public_url: str | None,
    read_secret: Callable[[str], str],
) -> Way:
    match entry["protocol"]:
        case "kafka":
            return KafkaTarget(_public_key(folder / entry["public_key"]))
        case "manual":
            return ManualTask(
                contact=entry.get("contact", ""),
                remind_days=tuple(entry.get("remind_days", (5, 10))),
                expire_days=entry.get("expire_days", 14),
                identity_types=tuple(entry.get("identities", ())),
            )
    ca = folder / entry["ca"] if "ca" in entry else None
    transport = Transport(allow_private=allow_private, ca=ca, timeout=entry.get("timeout_seconds", 20))
    limits = Limits(per_second=entry.get("rate_per_second", 0.0), at_once=entry.get("concurrency", 8))
    return Guarded(_connector(entry, folder, ca, transport, public_url, read_secret), limits)


def _connector(
    entry: Mapping[str, Any],
    folder: Path,
    ca: Path | None,
    transport: Transport,
    public_url: str | None,
    read_secret: Callable[[str], str],
) -> Connector:
    if "url" in entry:
        check_url(entry["url"], transport.allow_private)
    authorities = load_authorities(ca.read_bytes()) if ca else None
    headers = {name: _header(name, value, read_secret) for name, value in entry.get("headers", {}).items()}
    match entry["protocol"]:
        case "opendsr":
            return OpenDsrConnector(
                entry["url"],
                entry["domain"],
                transport,
                headers=headers,
                authorities=authorities,
                regulation=entry.get("regulation"),
            )
        case "ddrf":
            return DdrfConnector(
                entry["url"],
                transport,
                issuer=entry.get("issuer") or urlsplit(public_url or "").hostname or "",
                private_key=read_secret(entry["key"]) if "key" in entry else None,
                types=entry.get("types"),
                headers=headers,
            )
        case _:
            named = entry["document"]
            document = folder / named if "/" in named else named
            secrets = {name: read_secret(secret) for name, secret in entry.get("secrets", {}).items()}
            return document_connector(document, entry.get("settings", {}), secrets, transport, headers)


def _header(name: str, value: str, read_secret: Callable[[str], str]) -> str:
    """A header's value with its secrets in it. Raises `ValueError`."""
    if "${" in _SECRET.sub("", value):
        raise ValueError(f"headers.{name}: a secret is named as ${{secret:NAME}}")
    told = _SECRET.sub(lambda found: read_secret(found[1]), value)
    if not told.isprintable():
        raise ValueError(f"headers.{name}: its value or secret holds a line break or another control character")
    return told


def _public_key(path: Path) -> bytes:
    """The PEM of an X25519 public key. Raises `ValueError`, `OSError`."""
    pem = path.read_bytes()
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{path} holds no public key in PEM") from None
    if not isinstance(key, X25519PublicKey):
        raise ValueError(f"{path} holds a public key of another kind than X25519")
    return pem
