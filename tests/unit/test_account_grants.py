"""The API's role may read what the queries of the API read: told by the modules that its processes import, so that a
new page does not find out on somebody's server. What the engine allows: tests/integration/test_accounts.py."""

import ast
import re
from pathlib import Path

from sinks.clickhouse.accounts import ROLES
from sinks.clickhouse.erasable import PLACES, Shown

ROOT = Path(__file__).parents[2]
_READ = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)")
_WRITTEN = re.compile(r"\bINSERT INTO\s+(\w+)")


def modules_asked(*folders: str) -> set[str]:
    """Modules of sinks.clickhouse that the folders import."""
    found = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sinks.clickhouse."):
                    found.add((node.module or "").rpartition(".")[2])
    return found


def tables(module: str, pattern: re.Pattern[str]) -> set[str]:
    """Tables and views that the SQL of a module names."""
    tree = ast.parse((ROOT / "sinks" / "clickhouse" / f"{module}.py").read_text("utf-8"))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {name for text in texts for name in pattern.findall(text)} & PLACES.keys()


def test_the_api_may_read_and_write_what_its_queries_name() -> None:
    asked = modules_asked("audit", "infra/api", "streams/opendsr")
    assert {"queries", "looks", "erasures", "incident_pages"} <= asked
    role = ROLES["lineage_api"]
    assert set().union(*(tables(module, _READ) for module in asked)) == role.select
    assert set().union(*(tables(module, _WRITTEN) for module in asked)) == role.insert


def test_roles_name_places_of_the_register() -> None:
    for name, role in ROLES.items():
        assert role.select | role.insert | role.delete <= PLACES.keys(), name
        assert not any(isinstance(PLACES[place], Shown) for place in role.insert | role.delete), name


def test_who_sees_views_sees_no_table_and_not_whom_somebody_looked_at() -> None:
    views = {name for name, place in PLACES.items() if isinstance(place, Shown)}
    bi, overseer = ROLES["lineage_bi"], ROLES["lineage_overseer"]
    assert bi.select | overseer.select == views
    assert not bi.select & overseer.select
    assert not [n for n, role in ROLES.items() if "looks" in role.delete], "that somebody looked stays"
    emptied = {name: dict(role.empties) for name, role in ROLES.items() if role.empties}
    assert emptied == {"lineage_erasures": {"looks": ("subject", "reason")}}, "and who, when and how"
