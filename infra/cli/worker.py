"""`lineage worker JOB`: one worker of a job, in the foreground, until SIGTERM or Ctrl-C. The unit of deployment."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

import click

from infra.cli.main import told
from infra.cli.options import located
from infra.settings import Settings
from infra.stopping import set_by_signals

log = logging.getLogger("lineage.worker")

# Shorter than what the local stack and Kubernetes wait before they kill.
STOP_SECONDS = 15.0
JOBS = ("tagger", "loader", "links", "revisions", "erasures", "requests")


class _Job(Protocol):
    def run(self, stop: Event, ready: Callable[[], None]) -> None: ...


@click.command()
@click.argument("job", type=click.Choice(JOBS))
@click.option("--instance", default="0", show_default=True, help="Its name among the job's workers; must be unique.")
@click.option("--poison-ratio", type=click.FloatRange(0, 1), help="tagger: stop when more of a batch cannot be taken.")
@click.option("--batch-size", type=click.IntRange(1), help="Messages in a batch at most.")
@click.option("--term-days", type=click.FloatRange(0, min_open=True), help="erasures: instead of the policy's term.")
@click.option("--ready-file", type=click.Path(path_type=Path), hidden=True)
@located
def worker(
    job: str,
    instance: str,
    poison_ratio: float | None,
    batch_size: int | None,
    term_days: float | None,
    ready_file: Path | None,
    settings: Settings,
) -> None:
    """Run one worker of a job until it is told to stop (SIGTERM, Ctrl-C).

    Start more with other --instance names to share the partitions. A worker that cannot go on ends with exit code 1
    and is meant to be started again: what it had not finished is done then, once.

    \b
    Examples:
      lineage worker tagger --kafka broker:9092 --instance tagger-1
      lineage worker loader --kafka broker:9092 --clickhouse clickhouse://user:secret@db:9000/lineage
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr, force=True
    )
    stop = Event()
    set_by_signals(stop, signal.SIGTERM, signal.SIGINT)
    end_in_time(stop, STOP_SECONDS)

    def ready() -> None:
        log.info("%s %s runs, process %d", job, instance, os.getpid())
        if ready_file is not None:
            ready_file.write_text(f"{os.getpid()}\n")

    given: dict[str, Any] = {"instance": instance, "registry": settings.registry()}
    if batch_size is not None:
        given["batch_size"] = batch_size
    if poison_ratio is not None:
        if job != "tagger":
            raise click.UsageError("--poison-ratio is for the tagger: the other jobs read what it wrote")
        given["poison_ratio"] = poison_ratio
    if term_days is not None:
        if job != "erasures":
            raise click.UsageError("--term-days is for the job erasures")
        given["term_days"] = term_days
    try:
        _job(job, settings, given).run(stop, ready)
    except Exception as error:
        log.exception("%s stops", job)
        # The last line is what `lineage status` shows.
        log.error("%s", " ".join(told(error).split()))
        # Threads of a client library must not keep a worker alive that does nothing any more.
        logging.shutdown()
        os._exit(1)
    log.info("%s %s stopped", job, instance)


def end_in_time(stop: Event, seconds: float) -> None:
    """Ends this process so many seconds after it was told to stop, if it has not ended by itself: when Kafka goes at
    the same moment, a client library may wait for it for ever. What was not finished is done by the next worker."""

    def watch() -> None:
        stop.wait()
        time.sleep(seconds)
        log.error("not stopped after %.0f s: ended", seconds)
        logging.shutdown()
        os._exit(1)

    Thread(target=watch, name="end in time", daemon=True).start()


def _job(job: str, settings: Settings, given: dict[str, Any]) -> _Job:
    kafka = settings.kafka(log_level=4)
    if job == "tagger":
        from streams.tagger import Tagger

        return Tagger(kafka, **given)
    if job == "erasures":
        from infra.erasure import erasures

        given.pop("instance")
        given.setdefault("term_days", settings.term_days)
        return erasures(settings, kafka, **given)
    from sinks.clickhouse.client import connect

    client = connect(settings.clickhouse())
    if job == "loader":
        from processors.erasure_certificate import load_signing_key
        from sinks.clickhouse.lineage_table import LineageTable
        from streams.loader import Loader

        return Loader(kafka, LineageTable(client), load_signing_key(settings.seal_key()), **given)
    if job == "revisions":
        from streams.workflows.revisions import Revisions

        return Revisions(kafka, client, **given)
    from streams.projections import Links, Requests
    from streams.projector import Projector

    registry = given.pop("registry")
    return Projector(kafka, Links(client, registry) if job == "links" else Requests(client, registry), **given)
