"""`infra → streams, audit → sinks → processors`: imports go rightwards only, and each room keeps to its own tools."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"processors", "sinks", "streams", "audit", "infra", "benchmarks", "schemas"}
MAY_IMPORT = {
    "schemas": set(),
    "processors": set(),
    "sinks": {"processors", "schemas"},
    "streams": {"sinks", "processors", "schemas"},
    "audit": {"sinks", "processors", "schemas"},
    "infra": {"streams", "audit", "sinks", "processors", "schemas", "benchmarks"},
    "benchmarks": {"streams", "audit", "sinks", "processors", "schemas"},
}
KAFKA = {"confluent_kafka", "aiokafka", "faust"}
IMPURE = KAFKA | {"clickhouse_driver", "chdb", "os", "io", "pathlib", "logging", "random", "secrets", "socket", "time"}
FORBIDDEN = {"processors": IMPURE, "sinks": KAFKA, "audit": KAFKA, "streams": {"chdb"}}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            names.add(node.module)
    return names


def files() -> list[Path]:
    return sorted(p for room in OURS for p in (ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_rightwards(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    tops = {name.split(".")[0] for name in imports(path)}
    wrong = (tops & OURS) - MAY_IMPORT[room] - {room}
    assert not wrong, f"{room} must not import {sorted(wrong)}: see docs/architecture.md, the import rule"
    foreign = tops & FORBIDDEN.get(room, set())
    assert not foreign, f"{room} must not use {sorted(foreign)}"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_only_infra_reads_the_environment(path: Path) -> None:
    if path.relative_to(ROOT).parts[0] in {"infra", "benchmarks"}:
        return
    source = path.read_text(encoding="utf-8")
    assert "os.environ" not in source, "settings arrive as arguments"
    assert "getenv" not in source, "settings arrive as arguments"
