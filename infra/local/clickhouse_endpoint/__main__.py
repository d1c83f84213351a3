"""`python -m infra.local.clickhouse_endpoint --path DIR --port N`: the endpoint as a process of its own.

Ends at SIGTERM or SIGINT, with the queries that run cancelled. Refuses to listen beyond this machine without a
password.
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from pathlib import Path

from infra.local.clickhouse_endpoint.engine import EngineError
from infra.local.clickhouse_endpoint.server import Server
from infra.stopping import set_by_signals

log = logging.getLogger("clickhouse-endpoint")

_LOOK_S = 0.1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="clickhouse-endpoint", description=__doc__)
    parser.add_argument("--path", type=Path, required=True, help="data directory of the engine")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000, help="0 takes a free one")
    parser.add_argument("--user", default="default")
    parser.add_argument("--password-file", type=Path, help="its first line is the password")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    password = options.password_file.read_text().splitlines()[0] if options.password_file else ""
    if not password and not _is_loopback(options.host):
        parser.error(f"--host {options.host} is reachable from other machines: give a --password-file")
    # Before the engine starts: whoever connects meanwhile waits.
    listener = socket.create_server((options.host, options.port), backlog=128)

    path = options.path.resolve()
    path.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    try:
        server = Server(path, listener, options.user, password)
    except ImportError as error:
        log.error("the engine is not installed (pip install 'disclosure-lineage[local]'): %s", error)
        return 1
    except EngineError as error:
        log.error("the engine does not open %s: %s", path, error)
        return 1
    # Set after the engine is there: it brings handlers of its own.
    set_by_signals(stop, signal.SIGTERM, signal.SIGINT)
    threading.Thread(target=server.serve, daemon=True).start()
    log.info("listens on %s port %d, data in %s", *listener.getsockname()[:2], path)
    # Python's handlers run in this thread, and a signal that one of the engine's threads takes does not wake it.
    while not stop.wait(_LOOK_S):
        pass
    ended = server.stop()
    log.info("stopped" if ended else "stopped; a query did not end in time")
    logging.shutdown()
    # The engine's threads may still run: nothing of Python's must be taken down under them.
    os._exit(0)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


if __name__ == "__main__":
    sys.exit(main())
