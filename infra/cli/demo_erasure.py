"""The demo's last part: one person is erased at every simulated recipient that got their data, and here.

All by the commands themselves, so that what is shown is what anybody would see.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from infra.cli.options import ProgressLine
from infra.settings import Settings
from infra.simulator.recipients import RecipientSimulator
from infra.simulator.recipients.mix import spread
from schemas import schema_dir
from streams.policies import load_recipients, recipient_records

MIX = "opendsr=4,http=2,kafka=1"
SECONDS = 120.0


@contextmanager
def simulated_recipients(settings: Settings) -> Iterator[None]:
    """The recipients of the example registry, played while it lasts, and known to the controller (connectors.yaml)."""
    records = recipient_records(load_recipients(schema_dir() / "policies" / "recipients-example.yaml"))
    simulator = RecipientSimulator(settings.data / "recipients", spread(records, MIX), kafka=settings.kafka())
    simulator.start()
    try:
        simulator.write_connectors(settings.connectors_file(), settings.data / "secrets")
        yield
    finally:
        simulator.stop()


def erase(settings: Settings, user: str) -> dict[str, Any]:
    """The erasure of `user`, as `lineage requests ID --json` tells of it once it has ended. Raises `ClickException`.

    Recipients that only a person can ask are confirmed as that person would.
    """
    asked = json.loads(run(settings, "erase", user, "--verified-by", "the demo", "--wait", "--json"))
    request = asked["request_id"]
    deadline = time.monotonic() + SECONDS
    line = ProgressLine()
    confirmed: set[str] = set()
    while True:
        found: dict[str, Any] = json.loads(run(settings, "requests", request, "--json"))
        if found["ended_at"] is not None:
            line.clear()
            return found
        if time.monotonic() > deadline:
            raise click.ClickException(f"the erasure has not ended after {SECONDS:.0f} s: lineage requests {request}")
        waits = [t for t in found["targets"] if t["state"] == "dispatched" and t["protocol"] == "manual"]
        for target in waits:
            if target["recipient"] not in confirmed:
                confirmed.add(target["recipient"])
                run(settings, "requests", "confirm", request, target["recipient"], "--note", "by letter")
        line.show(f"   {found['state']}")
        time.sleep(0.5)


def show_erasure(settings: Settings, user: str, erased: dict[str, Any]) -> None:
    """The recipients' answers, the certificate, and the emptiness after, by the commands that anybody would use."""
    request = erased["request_id"]
    certificate = settings.data / "certificate.jws"
    _show(settings, "requests", request, lines="history")
    said = json.loads(run(settings, "certificate", "show", request, "--json"))
    certificate.write_text(said["certificate"] + "\n", encoding="ascii")
    _show(settings, "certificate", "verify", str(certificate), lines=14)
    _show(settings, "subject", user)


def _show(settings: Settings, *arguments: str, lines: int | str | None = None) -> None:
    """Shows a command and what it says: all of it, so many lines, or those before the one that starts with a word."""
    said = run(settings, *arguments).splitlines()
    click.echo(f"\n$ lineage {' '.join(arguments)}")
    if isinstance(lines, str):
        lines = next((i for i, line in enumerate(said) if line.startswith(lines)), len(said))
    for line in said[:lines]:
        click.echo(line)
    if lines and len(said) > lines:
        click.echo(f"… {len(said) - lines} more lines")


def run(settings: Settings, *arguments: str) -> str:
    """What a command says on standard output, on the demo's own parts, whatever the environment names.

    Raises `ClickException` when it fails.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LINEAGE_")}
    command = [sys.executable, "-m", "infra.cli.main", *arguments, "--data", str(settings.data)]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise click.ClickException(f"lineage {arguments[0]} ended with exit code {done.returncode}")
    return done.stdout.decode()
