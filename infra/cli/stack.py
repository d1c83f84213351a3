"""`lineage up`, `down`, `status`, `wait`: the local stack from the command line."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event
from typing import Any

import click

from infra.audit_client import TOKEN_FILE
from infra.cli.options import ProgressLine, json_option, located, say, table, write_json
from infra.local.child_process import owner_pid
from infra.local.state import StackState, read_state
from infra.settings import Settings
from infra.stopping import set_by_signals

_BACKGROUND_SECONDS = 300.0
_DOWN_SECONDS = 90.0
_LAG_SECONDS = 5.0


@click.command()
@click.option("--background", is_flag=True, help="Return once everything runs.")
@click.option("--policy", "policies", multiple=True, type=click.Path(path_type=Path), help="Publish this policy.")
@click.option("--recipients", multiple=True, type=click.Path(path_type=Path), help="Publish these recipients.")
@json_option
@located
def up(
    background: bool, policies: tuple[Path, ...], recipients: tuple[Path, ...], as_json: bool, settings: Settings
) -> None:
    """Start the local stack, on this machine, for real: Apache Kafka, ClickHouse, tagger, loader, links.

    Without --background it stays until Ctrl-C. A second start goes on with the data of the first. What dies is
    started again. Topics and tables are created, and said so; where no policy was ever published, the one that
    ships is.

    \b
    Examples:
      lineage up
      lineage up --background --data /srv/lineage --policy our-policy.yaml --recipients our-recipients.yaml
      lineage up --kafka broker:9092 --clickhouse clickhouse://user:secret@db:9000/lineage
    """
    if background:
        state = _up_in_background(settings, policies, recipients)
        if as_json:
            write_json(_with_lag(state, settings))
        return
    from infra.local.stack import Stack

    stop = Event()
    set_by_signals(stop, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    stack = Stack(settings, say, policies, recipients)
    stack.run(stop, lambda state: _show_up(state, as_json, settings))


def _show_up(state: StackState, as_json: bool, settings: Settings) -> None:
    say(f"everything runs; pages at http://{state.api}/, sign in with {settings.data / 'secrets' / TOKEN_FILE}")
    if as_json:
        write_json(_with_lag(state, settings))
        sys.stdout.flush()


def _up_in_background(settings: Settings, policies: tuple[Path, ...], recipients: tuple[Path, ...]) -> StackState:
    """Starts `lineage up` as a process of its own and follows it until all parts run."""
    pid = owner_pid(settings.data) if settings.data.is_dir() else None
    if pid is not None:
        raise click.ClickException(
            f"a stack runs already on {settings.data} (process {pid}); `lineage status` shows it, "
            "`lineage down` stops it"
        )
    logs = settings.data / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "infra.cli.main", "up", "--data", str(settings.data)]
    for path in policies:
        command += ["--policy", str(path.absolute())]
    for path in recipients:
        command += ["--recipients", str(path.absolute())]
    environment = dict(os.environ)
    # Not on the command line, which everybody on the machine may read.
    if settings.kafka_bootstrap:
        environment["LINEAGE_KAFKA"] = settings.kafka_bootstrap
    if settings.clickhouse_url:
        environment["LINEAGE_CLICKHOUSE"] = settings.clickhouse_url
    log = logs / "stack.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + _BACKGROUND_SECONDS
    with log.open(encoding="utf-8", errors="replace") as told:
        last = ""
        while True:
            code = child.poll()
            state = read_state(settings.data)
            for line in told.read().splitlines():
                last = line
                if code is None:
                    say(line)
            if code is not None:
                raise click.ClickException(f"the stack did not start: {last.removeprefix('lineage: ')} (log: {log})")
            if state is not None and state.pid == child.pid and state.ready:
                return state
            if time.monotonic() > deadline:
                child.terminate()
                raise click.ClickException(f"the stack is not up after {_BACKGROUND_SECONDS:.0f} s; see {log}")
            time.sleep(0.05)


@click.command()
@json_option
@located
def down(as_json: bool, settings: Settings) -> None:
    """Stop the local stack, cleanly. Its data stays.

    Example: lineage down --data /srv/lineage
    """
    pid = owner_pid(settings.data) if settings.data.is_dir() else None
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _DOWN_SECONDS
        while owner_pid(settings.data) == pid:
            if time.monotonic() > deadline:
                raise click.ClickException(
                    f"process {pid} has not stopped after {_DOWN_SECONDS:.0f} s; see {settings.data / 'logs'}"
                )
            time.sleep(0.05)
    if as_json:
        write_json({"stopped": pid is not None, "pid": pid})
    else:
        say("stopped" if pid is not None else f"nothing runs on {settings.data}")


@click.command()
@json_option
@located
def status(as_json: bool, settings: Settings) -> None:
    """Show where the local stack listens, its parts and how far each is behind. Exit code 1 when none runs.

    Example: lineage status --json
    """
    state = settings.stack()
    if state is None:
        if as_json:
            write_json({"running": False, "kafka": None, "clickhouse": None, "api": None, "parts": {}})
        else:
            say(f"no stack runs on {settings.data}: start it with lineage up")
        sys.exit(1)
    answer = _with_lag(state, settings)
    if as_json:
        write_json(answer)
        return
    where = [f"{name} {address or '-'}" for name, address in _addresses(state)]
    click.echo("   ".join([*where, f"data {settings.data}"]))
    rows = [
        [name, part["state"], _shown(part["pid"]), _shown(part["lag"]), str(part["restarts"]), part["error"] or ""]
        for name, part in answer["parts"].items()
    ]
    for line in table(rows, ["part", "state", "pid", "lag", "restarts", "last error"]):
        click.echo(line)


def _addresses(state: StackState) -> list[tuple[str, str | None]]:
    return [("kafka", state.kafka), ("clickhouse", state.clickhouse), ("api", state.api)]


def _with_lag(state: StackState, settings: Settings) -> dict[str, Any]:
    """The stack for JSON. `lag` is null of what has none, and of all when Kafka cannot be asked."""
    answer = state.answer() | {"data": str(settings.data)}
    lag = _lag(settings)
    for name, part in answer["parts"].items():
        part["lag"] = lag.get(name)
    return answer


def _lag(settings: Settings) -> dict[str, int]:
    """Job → lag; empty when Kafka cannot be asked."""
    from confluent_kafka import KafkaException

    from infra.settings import SettingsError
    from streams.lag import lags

    try:
        return lags(settings.kafka().admin(), timeout=_LAG_SECONDS)
    except (KafkaException, SettingsError, TimeoutError):
        return {}


def _shown(value: Any) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) and value > 99_999_999 else str(value)


@click.command()
@click.option("--timeout", default=600.0, show_default=True, metavar="S", help="Give up after so many seconds.")
@json_option
@located
def wait(timeout: float, as_json: bool, settings: Settings) -> None:
    """Wait until everything that is in the input topics now is judged and loaded, and erasures wait for others only.

    Example: lineage ingest events.jsonl --mapping jsonl && lineage wait --timeout 300
    """
    wait_for(settings, timeout)
    if as_json:
        write_json({"done": True, "lag": _lag(settings)})


def wait_for(settings: Settings, timeout: float) -> None:
    """Raises `NotDoneError`, or `ClickException` when a part of the local stack will not go on by itself."""
    from streams.erasure_progress import busy_erasures
    from streams.lag import wait_until_done

    local = settings.kafka_bootstrap is None
    line = ProgressLine()
    dead_since: dict[str, float] = {}

    def check() -> None:
        if not local:
            return
        state = settings.stack()
        if state is None:
            raise click.ClickException(f"the stack on {settings.data} does not run any more: lineage up")
        now = time.monotonic()
        for name, part in state.parts.items():
            if part.state == "running":
                dead_since.pop(name, None)
            # What died is started again soon; what does not come back is told, not waited for.
            elif now - dead_since.setdefault(name, now) > _PATIENCE and part.restarts >= _TOO_OFTEN:
                raise click.ClickException(
                    f"{name} does not stay up ({part.restarts} restarts): {part.error}; see {settings.data / 'logs'}"
                )

    def progress(left: dict[str, int]) -> None:
        line.show("  ".join(f"{job} {lag:,} behind" for job, lag in left.items() if lag))

    kafka, registry = settings.kafka(), settings.registry()
    try:
        wait_until_done(
            kafka.admin(), timeout, check, progress, lambda: busy_erasures(kafka, int(time.time() * 1000), registry)
        )
    finally:
        line.clear()


_PATIENCE = 10.0
_TOO_OFTEN = 5
