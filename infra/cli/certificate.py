"""`lineage certificate …`: certificates of erasure, shown and checked.

Checking is offline: it needs the file, and to know who signed a public key; neither Kafka nor ClickHouse nor a stack.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from infra.audit_client import AuditClient
from infra.cli.options import json_option, located, say, write_json
from infra.cli.over_api import over_api
from infra.settings import Settings, SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_PEM = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def certificate() -> None:
    """Show and check certificates of erasure.

    Example: lineage certificate verify certificate.jws
    """


@certificate.command("verify")
@click.argument("file", type=click.File("rb"))
@click.option("--key", "keys", type=_PEM, multiple=True, help="A public key that may have signed (PEM).")
@json_option
@located
def verify_certificate(file: BinaryIO, keys: tuple[Path, ...], as_json: bool, settings: Settings) -> None:
    """Check a certificate, offline: that nothing in it was altered, and who signed it. Exit code 0 only if it is valid.

    Who signed is known by --key, which may be given more than once; without it by the public key in the data
    directory's secrets, if there is one; without that compare the fingerprint yourself.

    \b
    Examples:
      lineage certificate verify certificate.jws
      lineage certificate verify certificate.jws --key issuer-public.pem --json
    """
    from processors.erasure_certificate import verify

    found = verify(file.read().decode("utf-8", "replace"), _trusted(keys, settings))
    if as_json:
        told = {name: getattr(found, name) for name in ("valid", "request_id", "reason", "signed_by", "trusted")}
        write_json(told | {"claims": found.claims})
    else:
        click.echo(f"{'valid' if found.valid else 'NOT VALID'}: {found.reason}")
        if found.signed_by:
            click.echo(f"signed by {found.signed_by}{' (trusted)' if found.trusted else ''}")
        if found.valid and found.claims is not None:
            click.echo("")
            for line in _lines(found.claims):
                click.echo(line)
    if not found.valid:
        sys.exit(1)


def _lines(claims: Mapping[str, Any]) -> list[str]:
    """What a certificate says, for people. Anybody may sign anything with a key of their own: it must not fail."""
    from processors.certificate_text import certificate_lines

    try:
        lines = list(certificate_lines(claims))
    except (LookupError, TypeError, ValueError, AttributeError):
        lines = ["what is signed is not laid out as a certificate: see --json"]
    return ["".join(c if c.isprintable() else "?" for c in line) for line in lines]


def _trusted(paths: tuple[Path, ...], settings: Settings) -> list[Ed25519PublicKey] | None:
    """The keys that may have signed; None where none is known."""
    from processors.erasure_certificate import load_verifying_key

    pems = {str(path): path.read_bytes() for path in paths}
    if not pems:
        try:
            pems = {"certificate-public.pem": settings.certificate_public_key()}
        except SettingsError:
            return None
    keys = []
    for name, pem in pems.items():
        try:
            keys.append(load_verifying_key(pem))
        except ValueError as error:
            raise click.ClickException(f"{name} is no public key that can be used: {error}") from error
    return keys


@certificate.command("show")
@click.argument("request", type=click.UUID)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the certificate to this file.")
@json_option
@over_api
def show_certificate(request: Any, output: Path | None, as_json: bool, api: AuditClient) -> None:
    """Show the certificate of a request that is over: the certificate itself, and what it says.

    The certificate is one line on standard output, or in FILE with --output; what it says, for people, goes to
    standard error.

    \b
    Examples:
      lineage certificate show 6f0c2a4e-51d7-4c39-9f0a-2d1f7f1f3c11 > certificate.jws
      lineage certificate show 6f0c2a4e-51d7-4c39-9f0a-2d1f7f1f3c11 --output certificate.jws
    """
    from infra.cli.erasure_queue import find_request
    from processors.erasure_certificate import verify

    found = find_request(api, request)
    text = found["certificate"]
    if not text:
        raise click.ClickException(
            f"request {found['request_id']} is {found['state']} and has no certificate"
            + ("" if found["ended_at"] else " yet: lineage requests shows what it waits for")
        )
    claims = verify(text).claims
    if output is not None:
        output.write_text(text + "\n", encoding="ascii")
        say(f"written to {output}")
    if as_json:
        write_json({"request_id": found["request_id"], "certificate": text, "claims": claims})
        return
    if output is None:
        click.echo(text)
        sys.stdout.flush()
    for line in _lines(claims or {}):
        say(line)


@certificate.command("key")
@json_option
@located
def show_key(as_json: bool, settings: Settings) -> None:
    """Show the public key that certificates are checked with, and its fingerprint: publish both.

    Example: lineage certificate key > certificate-public.pem
    """
    from processors.erasure_certificate import load_verifying_key, thumbprint

    pem = settings.certificate_public_key()
    fingerprint = thumbprint(load_verifying_key(pem))
    if as_json:
        write_json({"fingerprint": fingerprint, "public_key": pem.decode("ascii")})
        return
    click.echo(pem.decode("ascii"), nl=False)
    say(f"fingerprint (RFC 7638, SHA-256): {fingerprint}")
