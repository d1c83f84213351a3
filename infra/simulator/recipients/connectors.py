"""The connectors.yaml with which an erasure controller reaches simulated recipients."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from infra.simulator.recipients.site import Site

# The private key that DDRF requests are signed with.
REQUESTER_SECRET = "simulated-requester"
DOCUMENT = Path(__file__).with_name("vendor.yaml")


def connectors_document(site: Site, protocols: Mapping[str, str], public_url: str | None) -> str:
    """The document as text: paths absolute, secrets by name. `manual` recipients have no entry: they are asked as the
    registry says."""
    entries = {name: _entry(site, name, protocol) for name, protocol in protocols.items() if protocol != "manual"}
    document: dict[str, Any] = {"public_url": public_url} if public_url else {}
    document |= {"allow_private": True, "recipients": entries}
    return "# Simulated recipients: lineage recipients simulate. None of them exists.\n" + yaml.safe_dump(
        document, sort_keys=False, allow_unicode=True, width=120
    )


def _entry(site: Site, name: str, protocol: str) -> dict[str, Any]:
    home = site.home(name)
    authority = str(site.certificates.authority())
    tls = {"ca": authority} if site.url.startswith("https:") else {}
    secret = f"${{secret:{secret_name(name)}}}"
    match protocol:
        case "opendsr":
            return {
                "protocol": "opendsr",
                "url": f"{home}/opendsr/v2",
                "domain": site.host,
                "ca": authority,
                "headers": {"Authorization": f"Bearer {secret}"},
            }
        case "ddrf":
            return {
                "protocol": "ddrf",
                "url": f"{home}/dsrdelete.json",
                "issuer": "controller.example",
                "key": REQUESTER_SECRET,
            } | tls
        case "http":
            return {
                "protocol": "http",
                "document": str(DOCUMENT),
                "settings": {"url": f"{home}/http"},
                "secrets": {"token": secret_name(name)},
            } | tls
        case _:
            return {"protocol": "kafka", "public_key": str(site.certificates.sealing_key(name))}


def secret_name(recipient: str) -> str:
    """The name of the secret that holds a recipient's token."""
    return f"simulated-{recipient}"


def write_connectors(path: Path, document: str, secrets_folder: Path, secrets: Mapping[str, str]) -> None:
    """Writes the document, and each secret as a file that nobody else can read."""
    secrets_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, value in secrets.items():
        target = secrets_folder / name
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(value)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document, "utf-8")
