"""`lineage api oidc check`: whether the identity provider can be used, and as whom a token would be let in. Shows no
token and no claim of it but the name.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.cli.options import json_option, located, write_json
from infra.settings import Settings, SettingsError

if TYPE_CHECKING:
    from infra.oidc.configuration import OidcSettings
    from infra.oidc.provider import Provider


@click.group()
def oidc() -> None:
    """The identity provider that vouches for callers and visitors (oidc.yaml).

    Example: lineage api oidc check
    """


@oidc.command()
@click.option("--token-file", type=click.Path(path_type=Path), help="An access token to try; -: standard input.")
@json_option
@located
def check(settings: Settings, token_file: Path | None, as_json: bool) -> None:
    """Ask the provider for its keys; and tell as whom a token would be let in, without showing it.

    Exit code 1 when the provider cannot be used, or the token would be refused.

    Example: lineage api oidc check --token-file token.txt
    """
    from infra.oidc.configuration import load_oidc
    from infra.oidc.provider import Provider

    found = load_oidc(settings.oidc_file(), settings.named_secret)
    if found is None:
        raise SettingsError(f"no identity provider: {settings.oidc_file()} does not exist (docs/permissions.md)")
    provider = Provider(found)
    answer: dict[str, Any] = {"issuer": found.trust.issuer, "provider": look_at(found, provider)}
    if token_file is not None:
        answer["token"] = _tried(found, provider, token_file)
    if as_json:
        write_json(answer)
    else:
        click.echo(f"provider  {answer['provider']}")
        for name, value in answer.get("token", {}).items():
            click.echo(f"{name.replace('_', ' '):<10}{_shown(value)}")
    if answer.get("token", {}).get("refused"):
        sys.exit(1)


def look_at(settings: OidcSettings, provider: Provider) -> str:
    """What is found of a provider that can be used. Raises `ProviderAway`: it cannot."""
    from infra.oidc.http import ProviderAway

    known = provider.read()
    told = [
        f"{settings.trust.issuer}",
        f"{len(known.keys)} keys",
        f"{len(settings.trust.roles)} values mapped to roles",
    ]
    if settings.sign_in is not None:
        if known.endpoints.authorization is None or known.endpoints.token is None:
            raise ProviderAway("the provider names no endpoint to sign in at: leave sign_in out of oidc.yaml")
        if known.endpoints.challenge_methods and "S256" not in known.endpoints.challenge_methods:
            raise ProviderAway("the provider cannot do PKCE with S256, which signing in needs")
        told.append(f"sign-in as {settings.sign_in.client_id}")
    return ", ".join(told)


def _tried(settings: OidcSettings, provider: Provider, token_file: Path) -> dict[str, Any]:
    from infra.oidc.authentication import OidcTokens
    from processors.api_clients import Forbidden, Unauthorized
    from streams.documents import format_instant

    text = sys.stdin.read() if str(token_file) == "-" else token_file.read_text(encoding="utf-8", errors="replace")
    token = text.strip().removeprefix("Bearer ").strip()
    try:
        client = OidcTokens(provider, settings.trust).client(token)
    except (Unauthorized, Forbidden) as error:
        return {"refused": str(error)}
    return {
        "name": client.id,
        "roles": sorted(client.roles),
        "verifies_identity": client.verifies_identity,
        "expires_at": None if client.expires_at is None else format_instant(client.expires_at),
    }


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)
