"""The real ClickHouse engine whose only account may do what one role may: the engine itself refuses the rest.

The embedded engine has one account, `default`, and takes what it may do from a users file. There the role stands with
the grants of sinks/clickhouse/accounts.py, and the account has that role and nothing else.

`python -m tests.limited_engine FOLDER` serves the engine in FOLDER by its users file; `limited` runs it.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import escape

from infra.local.clickhouse_endpoint.server import Server

_USERS = """<clickhouse>
<profiles><default/></profiles><quotas><default/></quotas>
<roles><limited><grants>{grants}</grants></limited></roles>
<users><default>
  <password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>
  <grants><query>GRANT limited</query></grants>
</default>
{others}
</users></clickhouse>
"""
_DEFINER = """<{name}>
  <no_password/><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>
  <grants>{grants}</grants>
</{name}>
"""
_CONFIG = """<clickhouse>
<user_directories><users_xml><path>{users}</path></users_xml></user_directories>
<access_control_improvements>
  <select_from_system_db_requires_grant>true</select_from_system_db_requires_grant>
  <select_from_information_schema_requires_grant>true</select_from_information_schema_requires_grant>
  <table_engines_require_grant>true</table_engines_require_grant>
</access_control_improvements>
</clickhouse>
"""


@contextmanager
def limited(folder: Path, grants: Sequence[str], definers: dict[str, Sequence[str]] | None = None) -> Iterator[int]:
    """The port of an engine over `folder` whose account has these grants. definers: other accounts, by whose rights
    views read."""
    others = "".join(_DEFINER.format(name=name, grants=_queries(of)) for name, of in (definers or {}).items())
    users, config = folder / "users.xml", folder / "config.xml"
    users.write_text(_USERS.format(grants=_queries(grants), others=others))
    config.write_text(_CONFIG.format(users=users))
    process = subprocess.Popen([sys.executable, "-m", "tests.limited_engine", str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        assert port, "the engine did not start"
        yield int(port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        process.stdout.close()


def _queries(grants: Sequence[str]) -> str:
    return "".join(f"<query>GRANT {escape(grant)}</query>" for grant in grants)


def main(folder: Path) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    # What stands behind the question mark, the engine takes as options of its own.
    server = Server(Path(f"{folder / 'engine'}?config-file={folder / 'config.xml'}"), listener, "default", "")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print(listener.getsockname()[1], flush=True)
    server.serve()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
