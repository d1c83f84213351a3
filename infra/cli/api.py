"""`lineage api`: the API's server, in the foreground; and `lineage api token …`: who may call it."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from infra.cli.main import told
from infra.cli.oidc import oidc
from infra.cli.options import json_option, located, say, table, write_json
from infra.settings import Settings
from processors.api_clients import ROLES
from streams.documents import format_instant

log = logging.getLogger("lineage.api")


@click.group(invoke_without_command=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--ready-file", type=click.Path(path_type=Path), hidden=True)
@located
@click.pass_context
def api(context: click.Context, host: str, port: int, ready_file: Path | None, settings: Settings) -> None:
    """Serve the API until Ctrl-C: OpenDSR 2.0 requests, recipients' callbacks, /metrics, /healthz, /readyz.

    It speaks HTTP: put what speaks TLS to the world before it. `lineage up` starts one by itself.

    \b
    Examples:
      lineage api --port 8080
      lineage api token create --name shop --role eraser --verifies-identity
    """
    if context.invoked_subcommand is not None:
        if any(context.params[name] is not None for name in ("data", "kafka", "clickhouse")):
            raise click.UsageError("give --data behind the subcommand: lineage api token list --data DIR")
        return
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr, force=True
    )
    # With a traceback for each attempt; what comes of it is told by us.
    logging.getLogger("clickhouse_driver").setLevel(logging.ERROR)
    # The server takes them while it serves, and hands them on when it has ended.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        _serve(settings, host, port, ready_file)
    except Exception as error:
        log.exception("api stops")
        # The last line is what `lineage status` shows.
        log.error("%s", " ".join(told(error).split()))
        sys.exit(1)


def _serve(settings: Settings, host: str, port: int, ready_file: Path | None) -> None:
    from infra.api.app import build_app
    from infra.api.server import bind, serve
    from sinks.recipients.configuration import ConnectorsFile

    connectors = ConnectorsFile(settings.connectors_file(), settings.named_secret, log.error).current
    bound = bind(host, port)
    own_host, own_port = bound.getsockname()[:2]
    address = f"[{own_host}]:{own_port}" if ":" in own_host else f"{own_host}:{own_port}"

    def ready() -> None:
        log.info("api at http://%s, process %d", address, os.getpid())
        if ready_file is not None:
            ready_file.write_text(f"{os.getpid()}\n")

    serve(build_app(settings, connectors, f"http://{address}"), bound, ready)
    log.info("api stopped")


api.add_command(oidc)


@api.group()
def token() -> None:
    """Make, list and revoke the tokens of those who may call the API.

    Example: lineage api token create --name shop --role eraser
    """


@token.command("create")
@click.option("--name", required=True, help="The client's name; for OpenDSR the controller id.")
@click.option("--role", "roles", multiple=True, required=True, type=click.Choice(ROLES), help="What it may do.")
@click.option("--verifies-identity", is_flag=True, help="It asks only for people whose identity it has verified.")
@click.option("--days", type=click.IntRange(1), help="The token expires after so many days.")
@json_option
@located
def create(
    settings: Settings, name: str, roles: tuple[str, ...], verifies_identity: bool, days: int | None, as_json: bool
) -> None:
    """Make a token. It is shown this once; what is kept is its SHA-256. A client may have several.

    Example: lineage api token create --name shop --role eraser --verifies-identity --days 365
    """
    from infra.api.authentication import create_token

    made = create_token(settings.api_clients(), name, roles, verifies_identity=verifies_identity, days=days)
    if as_json:
        write_json({"name": name, "token": made})
        return
    say(f"send it as `Authorization: Bearer TOKEN`; it is not shown again; clients: {settings.api_clients()}")
    click.echo(made)


@token.command("list")
@json_option
@located
def list_tokens(settings: Settings, as_json: bool) -> None:
    """List the clients and what they may do.

    Example: lineage api token list
    """
    from infra.api.authentication import load

    path = settings.api_clients()
    found: list[dict[str, Any]] = [
        {
            "name": client.id,
            "id": client.token_sha256[:8],
            "roles": sorted(client.roles),
            "verifies_identity": client.verifies_identity,
            "expires_at": None if client.expires_at is None else format_instant(client.expires_at),
        }
        for client in (load(path) if path.exists() else [])
    ]
    if as_json:
        write_json({"tokens": found})
        return
    rows = [
        [
            x["name"],
            x["id"],
            ", ".join(x["roles"]),
            "yes" if x["verifies_identity"] else "no",
            x["expires_at"] or "never",
        ]
        for x in found
    ]
    for line in table(rows, ["name", "id", "roles", "verifies identity", "expires"]):
        click.echo(line)


@token.command("revoke")
@click.argument("name")
@click.option("--id", "token_id", help="Only the token of this id (see list).")
@json_option
@located
def revoke(settings: Settings, name: str, token_id: str | None, as_json: bool) -> None:
    """Revoke a client's tokens. The API refuses them from the next request on.

    Example: lineage api token revoke shop
    """
    from infra.api.authentication import revoke as revoke_tokens

    gone = revoke_tokens(settings.api_clients(), name, token_id)
    if not gone:
        raise click.ClickException(f"{name} has no such token: lineage api token list")
    if as_json:
        write_json({"revoked": gone})
    else:
        say(f"{gone} revoked")
