"""`lineage doctor`: everything that must be there, each ok or failed with what to do. Changes nothing."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import click

from infra.cli.main import told
from infra.cli.options import json_option, located, write_json
from infra.settings import Settings

_SECONDS = 5.0


@dataclass(frozen=True)
class Finding:
    """One check. `detail`: what was found, or what is wrong; `remedy`: what to do, when it failed."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


class _Wrong(Exception):
    """What a check found is not as it must be."""


@click.command()
@json_option
@located
def doctor(as_json: bool, settings: Settings) -> None:
    """Check Python, Java, the broker's jars, the engine, Kafka, ClickHouse, topics, tables, policy, keys and parts.

    Exit code 1 when something must be done.

    Example: lineage doctor --kafka broker:9092
    """
    findings = []
    for finding in examine(settings):
        findings.append(finding)
        if not as_json:
            click.echo(f"{'ok    ' if finding.ok else 'FAILED'}  {finding.name:<12}{finding.detail}")
            if finding.remedy:
                click.echo(f"{'':20}→ {finding.remedy}")
    healthy = all(finding.ok for finding in findings)
    if as_json:
        write_json({"healthy": healthy, "checks": [asdict(finding) for finding in findings]})
    if not healthy:
        sys.exit(1)


def examine(settings: Settings) -> Iterator[Finding]:
    """One finding after the other."""
    extra = "pip install 'disclosure-lineage[local]'"
    yield Finding("python", True, platform.python_version())
    # What only the local stack needs does not matter to those who bring their own.
    if settings.kafka_bootstrap is None:
        yield _check("java", lambda: _java(settings), f"{extra}, set JAVA_HOME, or use your own Kafka: --kafka")
        yield _check("jars", _jars, "lineage up fetches them; without a network: --kafka HOST:PORT")
    if settings.clickhouse_url is None:
        yield _check("engine", _engine, f"{extra}, or use your own ClickHouse: --clickhouse URL")
        yield _check("stack", lambda: _stack(settings), f"lineage up --data {settings.data}")
    yield _check("keys", lambda: _keys(settings), "lineage up makes them, or set LINEAGE_PEPPER_FILE and the others")
    # Whoever has no identity provider needs none.
    if settings.oidc is not None or settings.oidc_file().exists():
        yield _check("oidc", lambda: _oidc(settings), "correct oidc.yaml (docs/permissions.md): lineage api oidc check")
    kafka = _check("kafka", lambda: _kafka(settings), "lineage up, or --kafka HOST:PORT of a broker that answers")
    yield kafka
    if kafka.ok:
        yield _check(
            "topics", lambda: _topics(settings), "lineage topics plan shows what, lineage topics apply does it"
        )
        yield _check("policy", lambda: _policy(settings), "lineage policy publish FILE")
        yield _check("recipients", lambda: _recipients(settings), "lineage recipients publish FILE")
    database = _check("clickhouse", lambda: _clickhouse(settings), "lineage up, or --clickhouse URL that answers")
    yield database
    if database.ok:
        yield _check("tables", lambda: _tables(settings), "lineage migrate apply")
    # Whoever asks nothing needs none.
    if settings.api_url or settings.stack() is not None:
        yield _check("api", lambda: _api(settings), "lineage status; LINEAGE_API_URL and LINEAGE_API_TOKEN_FILE")


def _check(name: str, look: Callable[[], str], remedy: str) -> Finding:
    try:
        return Finding(name, True, look())
    except Exception as error:
        return Finding(name, False, told(error).splitlines()[0], remedy)


def _java(settings: Settings) -> str:
    from infra.local.java import java_command

    return java_command(settings.java_home)[0]


def _jars() -> str:
    from infra.local.jars import default_cache_dir, kafka_version, read_lock

    folder = default_cache_dir()
    missing = [jar for jar in read_lock() if not jar.is_at(folder / jar.file_name)]
    if missing:
        raise _Wrong(f"{len(missing)} of {len(read_lock())} jars are not in {folder}")
    return f"Apache Kafka {kafka_version()}, {len(read_lock())} jars in {folder}"


def _engine() -> str:
    from importlib.metadata import version

    return f"chdb {version('chdb')}"


def _stack(settings: Settings) -> str:
    state = settings.stack()
    if state is None:
        raise _Wrong(f"no stack runs on {settings.data}")
    ill = [f"{name} is {part.state} ({part.error})" for name, part in state.parts.items() if part.state != "running"]
    if ill:
        raise _Wrong(", ".join(ill))
    return f"{', '.join(state.parts)} run on {settings.data}"


def _keys(settings: Settings) -> str:
    from processors.pseudonyms import check_pepper
    from streams.identities import key_id, load_public_key

    check_pepper(settings.pepper())
    return f"pepper; controller key {key_id(load_public_key(settings.controller_public_key()))}"


def _kafka(settings: Settings) -> str:
    kafka = settings.kafka()
    brokers = kafka.admin().list_topics(timeout=_SECONDS).brokers
    return f"{kafka.bootstrap}, {len(brokers)} brokers"


def _topics(settings: Settings) -> str:
    from streams.topics import CATALOGUE, TELEMETRY, plan

    admin = settings.kafka().admin()
    existing = admin.list_topics(timeout=_SECONDS).topics
    # However many partitions this cluster was made with, all must have as many.
    partitions = len(existing[TELEMETRY].partitions) if TELEMETRY in existing else 0
    changes = plan(admin, partitions or 1, _SECONDS)
    if changes:
        raise _Wrong(", ".join(f"{change.action} {change.topic}" for change in changes))
    return f"{len(CATALOGUE)} topics as in the catalogue, {partitions} partitions"


def _policy(settings: Settings) -> str:
    from streams.documents import format_instant
    from streams.publishing import published_policies

    records = published_policies(settings.kafka(), settings.registry())
    if not records:
        raise _Wrong("no policy is published: every event would be a violation")
    return ", ".join(f"version {r['version']} from {format_instant(r['effective_at'])}" for r in records)


def _recipients(settings: Settings) -> str:
    from streams.publishing import published_recipients

    records = published_recipients(settings.kafka(), settings.registry())
    # A company that shares with nobody has none.
    return f"{len({r['id'] for r in records})} recipients, {len(records)} entries"


def _clickhouse(settings: Settings) -> str:
    from infra.cli.options import clickhouse
    from sinks.clickhouse.client import execute

    with clickhouse(settings) as client:
        [(version,)] = execute(client, "SELECT version()")
    return f"ClickHouse {version}"


def _tables(settings: Settings) -> str:
    from infra.cli.options import clickhouse
    from sinks.clickhouse.migrate import migrations, plan

    with clickhouse(settings) as client:
        pending = plan(client)
    if pending:
        raise _Wrong(f"not applied: {', '.join(migration.name for migration in pending)}")
    return f"{len(migrations())} migrations applied"


def _oidc(settings: Settings) -> str:
    from infra.cli.oidc import look_at
    from infra.oidc.configuration import load_oidc
    from infra.oidc.provider import Provider

    found = load_oidc(settings.oidc_file(), settings.named_secret)
    if found is None:
        raise _Wrong("oidc.yaml is gone")
    return look_at(found, Provider(found))


def _api(settings: Settings) -> str:
    from infra.audit_client import ApiRefused, AuditClient, find_api

    place = find_api(settings)
    try:
        AuditClient(place).get("/recipients", limit=1)
    except ApiRefused as refused:
        # Its client is known, which is what is asked here.
        if refused.code != "forbidden":
            raise
    return f"the audit API at {place.url} takes the token in {place.token_file}"
