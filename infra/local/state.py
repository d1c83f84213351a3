"""`stack.json`: what runs on a data folder, for whoever wants to talk to it. Written whole by the supervisor alone.

Whether it still holds is told by the folder's lock, which the living supervisor has, and never by a process id.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from infra.local.child_process import owner_pid

_FILE = "stack.json"


@dataclass(frozen=True)
class PartState:
    """One part: `starting`, `running`, `restarting` or `stopped`; `error` is the last line it left behind."""

    state: str
    pid: int | None = None
    restarts: int = 0
    error: str | None = None


@dataclass(frozen=True)
class StackState:
    """The stack of the supervisor `pid`. Addresses are `host:port`; `ready` when every part has once been running."""

    pid: int
    ready: bool = False
    kafka: str | None = None
    clickhouse: str | None = None
    clickhouse_url: str | None = None
    api: str | None = None
    parts: dict[str, PartState] = field(default_factory=dict)

    def write(self, data: Path) -> None:
        """Replaces the file, whole. Only readable for its owner: the URL may hold a password."""
        draft = data / f"{_FILE}.new"
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        draft.replace(data / _FILE)

    def answer(self) -> dict[str, Any]:
        """For JSON (design §13); lag is added by whoever can ask Kafka."""
        parts = {name: asdict(part) for name, part in self.parts.items()}
        return {
            "running": True,
            "ready": self.ready,
            "pid": self.pid,
            "kafka": self.kafka,
            "clickhouse": self.clickhouse,
            "api": self.api,
            "parts": parts,
        }


def read_state(data: Path) -> StackState | None:
    """The stack that runs on a data folder, else None."""
    if not data.is_dir():
        return None
    pid = owner_pid(data)
    if pid is None:
        return None
    try:
        found = json.loads((data / _FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return StackState(pid)
    if found["pid"] != pid:
        # Of a stack that was killed; the new one has not written yet.
        return StackState(pid)
    found["parts"] = {name: PartState(**part) for name, part in found["parts"].items()}
    return StackState(**found)
