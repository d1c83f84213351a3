"""The command `lineage`: a table of its subcommands, loaded when they are used, and how errors are told.

An error is one line that says what to do; `--debug` adds the traceback. The exit code is 0 only on success.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence
from typing import Any

import click

# Name → module:attribute, and one line of help, so that `lineage --help` imports none of them.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("infra.cli.stack:up", "Start the local stack: Kafka, ClickHouse, tagger, loader"),
    "down": ("infra.cli.stack:down", "Stop the local stack"),
    "status": ("infra.cli.stack:status", "Show the parts of the local stack and their lag"),
    "wait": ("infra.cli.stack:wait", "Wait until everything ingested so far is judged and loaded"),
    "demo": ("infra.cli.demo:demo", "Run simulated people through a stack of its own and show what came out"),
    "simulate": ("infra.cli.simulate:simulate", "Invent people and what is collected of them"),
    "ingest": ("infra.cli.ingest:ingest", "Bring a file or a topic into the input topics"),
    "subject": ("infra.cli.audit:subject", "Show one person's lineage"),
    "export": ("infra.cli.export:export", "Export one person's lineage: tables, provenance, consents, a report"),
    "totals": ("infra.cli.audit:totals", "Count events by activity, verdict, clause and recipient"),
    "explain": ("infra.cli.explain:explain", "Tell why an event has its verdict, and on which evidence"),
    "judge": ("infra.cli.audit:judge", "Judge histories in a file, without Kafka or ClickHouse"),
    "verify": ("infra.cli.verify:verify", "Check seals, rows and verdicts, and name each difference"),
    "erase": ("infra.cli.erase:erase", "Erase a person: everyone who was given their data is asked"),
    "requests": ("infra.cli.requests:requests", "Show the queue of erasures; verify, hold, retry, confirm"),
    "certificate": ("infra.cli.certificate:certificate", "Show and check certificates of erasure"),
    "connectors": ("infra.cli.connectors:connectors", "Check how each recipient would be asked to erase"),
    "retag": ("infra.cli.retag:retag", "Tell what would change under another policy, and revise"),
    "policy": ("infra.cli.policy:policy", "Publish, show, list and check policies"),
    "recipients": ("infra.cli.policy:recipients", "Publish and list recipients"),
    "topics": ("infra.cli.topics:topics", "Compare Kafka's topics with the catalogue, and apply it"),
    "schemas": ("infra.cli.schemas:schemas", "List, show and check the event contracts"),
    "migrate": ("infra.cli.migrate:migrate", "Bring ClickHouse's tables up to date"),
    "worker": ("infra.cli.worker:worker", "Run one worker of a job: tagger, loader, links or revisions"),
    "api": ("infra.cli.api:api", "Serve the API, and say who may call it"),
    "dead-letters": ("infra.cli.dead_letters:dead_letters", "Show messages that no job could take"),
    "doctor": ("infra.cli.doctor:doctor", "Check everything that must be there, and say what to do"),
    "bench": ("infra.cli.bench:bench", "Run a benchmark"),
    "version": ("infra.cli.version:version", "Show the versions of the parts"),
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--debug", is_flag=True, help="Show tracebacks and what the libraries log.")
def lineage(debug: bool) -> None:
    """Every person's disclosure lineage: what was collected, why, who received it, and whether it was lawful.

    Example: lineage up --background && lineage ingest events.jsonl --mapping jsonl && lineage wait && lineage totals
    """
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.ERROR, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    if debug:
        # librdkafka's client and the YAML reader say too much to be of use.
        logging.getLogger("asyncio").setLevel(logging.INFO)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and ends the process with its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Wherever it stands: one adds it to the end of the line that failed.
    debug = "--debug" in given
    given = [argument for argument in given if argument != "--debug"]
    try:
        code = lineage.main(["--debug", *given] if debug else given, "lineage", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("lineage: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); nothing must be written at exit.
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        if debug:
            raise
        click.echo(f"lineage: {told(error)}", err=True)
        sys.exit(1)


def told(error: BaseException) -> str:
    """An error in words for people: its text, of one of Kafka's the broker's words; the class where it says more."""
    first: Any = error.args[0] if error.args else None
    if hasattr(first, "code") and hasattr(first, "str"):
        return f"Kafka: {first.str()}; is the broker up? (lineage doctor)"
    text = str(error) or type(error).__name__
    expected = type(error).__module__.split(".")[0] in _OURS or isinstance(error, OSError)
    return text if expected else f"{type(error).__name__}: {text} (add --debug for the traceback)"


_OURS = {"streams", "sinks", "audit", "infra", "processors", "benchmarks"}

if __name__ == "__main__":
    main()
