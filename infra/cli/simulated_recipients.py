"""`lineage recipients simulate`: invented recipients that take erasure commands, and misbehave on demand."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from infra.cli.options import json_option, located, say, write_json_line
from infra.settings import Settings, SettingsError
from infra.stopping import set_by_signals
from schemas import schema_dir
from streams.documents import DocumentError
from streams.kafka import Kafka
from streams.policies import load_recipients, recipient_records


@click.command("simulate")
@click.option("--port", default=8466, show_default=True, type=click.IntRange(0, 65_535), help="0: any that is free.")
@click.option(
    "--registry",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Recipients document; else the example that ships.",
)
@click.option("--protocols", metavar="MIX", help="PROTOCOL=WEIGHT and RECIPIENT=PROTOCOL, with commas; else all mixed.")
@click.option("--misbehave", default="none", show_default=True, metavar="none|mild|wild|FILE.yaml")
@click.option("--seed", default=7, show_default=True, help="What chance decides: the same for the same commands.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), help="Keys and register; else in the data directory."
)
@click.option("--write-connectors", "connectors", type=click.Path(path_type=Path), help="connectors.yaml to write.")
@click.option("--public-url", metavar="URL", help="Where recipients reach the controller's callbacks.")
@click.option("--requester-keys", metavar="URL", help="dsrdelete.json of another signer of DDRF requests.")
@click.option("--tls", is_flag=True, help="https, with a certificate of the simulator's own authority.")
@json_option
@located
def simulate_recipients(
    port: int,
    registry: Path | None,
    protocols: str | None,
    misbehave: str,
    seed: int,
    folder: Path | None,
    connectors: Path | None,
    public_url: str | None,
    requester_keys: str | None,
    tls: bool,
    as_json: bool,
    settings: Settings,
) -> None:
    """Play the recipients of a registry on this machine until Ctrl-C.

    They speak OpenDSR, DDRF, a plain HTTP API and Kafka, and keep a register of what they were asked and truly did:
    GET /control/truth. POST /control/RECIPIENT changes how one misbehaves. None of them exists.

    \b
    Examples:
      lineage recipients simulate --misbehave mild --write-connectors .lineage/connectors.yaml
      lineage recipients simulate --protocols opendsr=3,http=1,pushwave=ddrf --port 9000
    """
    from infra.simulator.recipients import RecipientSimulator, load_profiles
    from infra.simulator.recipients.mix import DEFAULT_MIX, MixError, spread

    path = registry or schema_dir() / "policies" / "recipients-example.yaml"
    try:
        spoken = spread(recipient_records(load_recipients(path)), protocols or DEFAULT_MIX)
        profiles = load_profiles(misbehave)
    except MixError as error:
        raise click.ClickException(f"--protocols: {error}") from error
    except DocumentError as error:
        raise click.ClickException(str(error)) from error
    except FileNotFoundError:
        raise click.ClickException(f"--misbehave {misbehave}: give none, mild, wild or a file that exists") from None
    kafka = _kafka(settings, spoken, asked_for=protocols is not None)
    simulator = RecipientSimulator(
        folder or settings.data / "recipients",
        spoken,
        profiles,
        seed,
        kafka,
        port=port,
        requester_keys=requester_keys,
        public_url=public_url,
        tls=tls,
        registry=settings.registry(),
    )
    stopping = threading.Event()
    set_by_signals(stopping, signal.SIGINT, signal.SIGTERM)
    try:
        simulator.start()
    except OSError as error:
        raise click.ClickException(f"port {port} cannot be had: {error.strerror}; give another with --port") from error
    try:
        if connectors is not None:
            simulator.write_connectors(connectors, settings.data / "secrets")
            say(f"wrote {connectors}, secrets in {settings.data / 'secrets'}")
        for name, protocol in spoken.items():
            say(f"{name}: {protocol}")
        say(f"{len(spoken)} recipients listen at {simulator.url}; truth at {simulator.url}/control/truth; Ctrl-C ends")
        if as_json:
            write_json_line({"url": simulator.url, "recipients": spoken})
        stopping.wait()
    finally:
        simulator.stop()
    say("stopped")


def _kafka(settings: Settings, spoken: dict[str, str], asked_for: bool) -> Kafka | None:
    """The cluster, if anybody needs it. Without one, those who would speak Kafka speak OpenDSR, unless they were asked
    for by name."""
    if "kafka" not in spoken.values():
        return None
    try:
        return settings.kafka()
    except SettingsError:
        if asked_for:
            raise
        for name, protocol in spoken.items():
            if protocol == "kafka":
                spoken[name] = "opendsr"
                say(f"no Kafka (start the stack, or --kafka HOST:PORT): {name} speaks OpenDSR")
        return None
