"""`lineage schemas list|show|check`: the event contracts."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from infra.cli.options import json_option, say, table, write_json
from streams.compatibility import check_released
from streams.contracts import contracts
from streams.topics import CATALOGUE


@click.group()
def schemas() -> None:
    """List, show and check the event contracts.

    Example: lineage schemas show DataShared
    """


@schemas.command("list")
@json_option
def list_schemas(as_json: bool) -> None:
    """List the contracts with their fingerprints (CRC-64-AVRO) and topics.

    Example: lineage schemas list
    """
    found = [
        {
            "name": contract.name,
            "fingerprint": contract.fingerprint.hex(),
            "topics": [topic.name for topic in CATALOGUE if contract.name in topic.contracts],
            "fields": contract.field_names,
        }
        for contract in contracts().values()
    ]
    if as_json:
        write_json({"schemas": found})
        return
    rows = [[str(c["name"]), str(c["fingerprint"]), ", ".join(c["topics"]), ", ".join(c["fields"])] for c in found]
    for line in table(rows, ["contract", "fingerprint", "topics", "fields"]):
        click.echo(line)


@schemas.command("show")
@click.argument("name")
def show_schema(name: str) -> None:
    """Print a contract as Avro has it, in JSON.

    Example: lineage schemas show TelemetryCollected
    """
    if name not in contracts():
        raise click.ClickException(f"no contract {name}; there are {', '.join(contracts())}")
    write_json(contracts()[name].schema)


@schemas.command("check")
@json_option
def check_schemas(as_json: bool) -> None:
    """Check that what any released version wrote can still be read. Exit code 1 when it cannot.

    Example: lineage schemas check
    """
    result = check_released()
    if as_json:
        write_json(asdict(result) | {"compatible": not result.incompatible})
    for found in () if as_json else result.incompatible:
        for reason in found.reasons:
            click.echo(f"{found.contract} cannot read release {found.version}: {reason}")
    if result.incompatible:
        sys.exit(1)
    if not as_json:
        say(f"all {result.compared} released contracts can be read by the current ones")
