"""`lineage bench audit`: the parts it runs on, and how its figures are told. A real API process on a Kafka and a
ClickHouse of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from infra.cli.options import say, table
from infra.local.clickhouse import LocalClickHouse
from infra.local.jars import default_cache_dir, ensure_jars
from infra.local.java import java_command
from infra.local.kafka import LocalKafka
from infra.local.parts import Api
from infra.local.preparation import prepare
from infra.settings import Settings

_UP_SECONDS = 120.0
# Not what is measured.
_NO_LIMIT = "1000000"
_ROLES = {"auditor": "auditor", "clerk": "clerk", "overseer": "overseer", "eraser": "eraser"}


def measure_audit(folder: Path, settings: Settings, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Measures on parts below `folder`, which keeps the filled database. Ends what it started."""
    from benchmarks import audit
    from infra.api.authentication import create_token

    folder.mkdir(parents=True, exist_ok=True)
    jars = ensure_jars(default_cache_dir(), say, maven_repository=settings.maven_repository)
    broker = LocalKafka(folder / "kafka", jars=jars, java=java_command(settings.java_home))
    database = LocalClickHouse(folder / "clickhouse")
    api: Api | None = None
    try:
        say("starting Apache Kafka and ClickHouse")
        broker.start()
        database.start()
        own = replace(
            settings,
            data=folder,
            kafka_bootstrap=broker.bootstrap,
            clickhouse_url=database.url,
            secret_files={},
            connectors=None,
        )
        own.make_secrets()
        prepare(own.kafka(), database.url, None, say, (), (), own_cluster=True)
        tokens = {
            name: create_token(own.api_clients(), f"bench-{name}", [role], verifies_identity=role == "eraser", days=1)
            for name, role in _ROLES.items()
        }
        environment = {
            "LINEAGE_DATA": str(folder),
            "LINEAGE_KAFKA": broker.bootstrap,
            "LINEAGE_CLICKHOUSE": database.url,
            "LINEAGE_API_RATE": _NO_LIMIT,
        }
        api = Api(folder / "api", folder / "api.log", lambda: environment)
        say("starting the API")
        api.start()
        _wait_until_ready(api)
        target = audit.Target(
            database.url,
            f"http://{api.address}",
            broker.bootstrap,
            tokens,
            own.pepper(),
            own.controller_public_key(),
        )
        return audit.run(target, say, **sizes)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    finally:
        if api is not None:
            api.stop()
        database.stop()
        broker.stop()


def tell_audit(answer: Mapping[str, Any]) -> None:
    """The figures as a table."""
    columns = ("asked", "per_s", "p50_ms", "p95_ms", "p99_ms", "errors")
    lines = [
        [f"  {found['query']}" if "query" in found else found["system"]]
        + ["" if found[name] is None else f"{found[name]:,}" for name in columns]
        for found in answer["results"]
    ]
    for line in table(lines, ["", *columns]):
        click.echo(line)
    for peer, ratio in answer["ratios"].items():
        click.echo(f"{ratio:.1f} times as fast (p50) as {peer}")


def _wait_until_ready(api: Api) -> None:
    deadline = time.monotonic() + _UP_SECONDS
    while not api.is_ready():
        if api.pid is None or time.monotonic() > deadline:
            raise click.ClickException(f"the API did not start: {api.last_words()}")
        time.sleep(0.05)
