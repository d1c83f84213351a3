"""`lineage api` as a process of its own, on real Kafka and ClickHouse, for tests; and who calls it."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import uvicorn

from infra.api.app import build_app
from infra.api.authentication import create_token
from infra.api.server import bind
from infra.settings import Settings, settings
from sinks.recipients.configuration import ConnectorsFile


@dataclass
class ApiProcess:
    """`url`: where it listens. `settings`: what it was started with."""

    url: str
    settings: Settings
    log: Path

    def token(self, name: str, *roles: str, verifies_identity: bool = False) -> str:
        return create_token(self.settings.api_clients(), name, roles or ["eraser"], verifies_identity=verifies_identity)

    def client(self, token: str | None = None, **options: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, **options)


@contextmanager
def api_process(data: Path, kafka: str, clickhouse: str, **environment: str) -> Iterator[ApiProcess]:
    """A running API, whose rate limit no test meets but one that sets it; it must end cleanly when it is told to."""
    found = settings({}, data=data, kafka=kafka, clickhouse=clickhouse)
    found.make_secrets()
    log, ready = data / "api.log", data / "api.ready"
    ready.unlink(missing_ok=True)
    given = {"LINEAGE_DATA": str(data), "LINEAGE_KAFKA": kafka, "LINEAGE_CLICKHOUSE": clickhouse}
    given |= {"LINEAGE_API_RATE": "1e6", **environment}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.cli.main", "api", "--ready-file", str(ready)],
            env={**os.environ, **given},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        [url] = re.findall(r"api at (http://\S+),", log.read_text())
        yield ApiProcess(url, found, log)
    finally:
        process.terminate()
        code = process.wait(30)
    assert code == 0, log.read_text()


@contextmanager
def api_thread(found: Settings) -> Iterator[str]:
    """The same in a thread of this process, for tests that need one each: the URL where it listens."""
    bound = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    app = build_app(found, ConnectorsFile(found.connectors_file(), found.named_secret, print).current, url)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    thread = Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield url
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()
