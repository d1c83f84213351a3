"""No query can be injected, by construction: values are bound by the driver, and what is put into the text of a query
is a constant of the module or a quoted identifier.

Read from the source: every f-string, `format`, `%` and `+` that makes SQL. What is neither constant nor quoted stands
in `CONSTANT_ALL_THE_SAME`, with the reason why no value of a user gets there. Hostile values through every filter of
the running API: tests/integration/test_audit_api_access.py; through the functions it asks: test_hostile_values.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Upper case, as all SQL here is; messages and docstrings say it in words.
_SQL = re.compile(
    r"\b(SELECT|INSERT INTO|ALTER TABLE|DELETE|TRUNCATE|DROP|CREATE|GRANT|SYSTEM|KILL|FROM|JOIN|WHERE|GROUP BY|ORDER BY"
    r"|LIMIT|AND|OR|IN)\b|%\(\w"
)
_STATEMENT = re.compile(
    r"\s*(SELECT|INSERT INTO|ALTER|DELETE|TRUNCATE|DROP|CREATE|GRANT|SYSTEM|KILL|WITH|EXISTS)\b ?\S"
)
_CONSTANT = re.compile(r"_{0,2}[A-Z][A-Z0-9_]*")

_MADE_HERE = "made of constants in the same module"
CONSTANT_ALL_THE_SAME: dict[tuple[str, str], str] = {
    ("accounts.py", "', '.join(role.grants(database))"): "privileges of the register, on a quoted database",
    ("accounts.py", "table"): "names of the register",
    ("accounts.py", "identified"): "hexadecimal digests",
    ("accounts.py", "on"): "ON CLUSTER with a quoted name",
    ("client.py", "on_cluster"): "ON CLUSTER with a quoted name",
    ("counting.py", "names"): "dimensions, which the code that asks has written down",
    ("counting.py", "', '.join(names)"): "names in the same function",
    ("counting.py", "wanted.conditions()"): _MADE_HERE,
    ("erasures.py", "n"): "a number that counts parameters",
    ("erasures.py", "range_"): _MADE_HERE,
    ("erasures.py", "table"): "a constant of its callers, which are in the same module",
    ("event_pages.py", "wanted.conditions()"): "made of constants in counting.py",
    ("judged.py", "condition"): _MADE_HERE,
    ("late_facts.py", "condition"): _MADE_HERE,
    ("late_facts.py", "int(start)"): "a number",
    ("late_facts.py", "int(end)"): "a number",
    ("late_facts.py", "int(partition)"): "a number",
    ("looks.py", "conditions"): _MADE_HERE,
    ("purge.py", "_system('detached_parts', cluster)"): "a system table, on a quoted cluster",
    ("purge.py", "_system('mutations', cluster)"): "a system table, on a quoted cluster",
    ("purge.py", "_system('parts', cluster)"): "a system table, on a quoted cluster",
    ("purge.py", "_system('tables', cluster)"): "a system table, on a quoted cluster",
    ("purge.py", "of_place"): "quoted names of the register",
    ("stored_rows.py", "' UNION ALL '.join(sides)"): _MADE_HERE,
    ("stored_rows.py", "', '.join(values)"): "names and types of the table's own columns",
    ("stored_rows.py", "self._hash"): "over the table's own columns",
    ("stored_rows.py", "self._made(rows)"): "over the table's own columns",
    ("stored_rows.py", "self._names()"): "the table's own columns",
    ("stored_rows.py", "self._stored()"): "over the table's own columns",
}
# Elsewhere than in sinks/clickhouse: whole statements, each a constant.
ELSEWHERE = {"SELECT 1", "SELECT version()"}


def composed(tree: ast.AST) -> Iterator[tuple[int, ast.expr]]:
    """(line, expression) of what is put into SQL."""
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr(values=values):
                if _SQL.search("".join(v.value for v in values if isinstance(v, ast.Constant))):
                    yield from ((node.lineno, v.value) for v in values if isinstance(v, ast.FormattedValue))
            case ast.Call(func=ast.Attribute(value=value, attr="format" | "substitute"), args=args, keywords=words):
                if not isinstance(value, ast.Constant) or _SQL.search(str(value.value)):
                    yield from ((node.lineno, given) for given in [*args, *(word.value for word in words)])
            case ast.BinOp(left=left, op=ast.Add() | ast.Mod(), right=right):
                for side, other in ((left, right), (right, left)):
                    if isinstance(side, ast.Constant) and isinstance(side.value, str) and _SQL.search(side.value):
                        yield node.lineno, other


def constant(expression: ast.expr) -> bool:
    """A constant of the module, or an identifier in quotes, or several of them."""
    match expression:
        case ast.Constant():
            return True
        case ast.Name(id=name):
            return _CONSTANT.fullmatch(name) is not None
        case ast.Call(func=ast.Name(id="quoted")):
            return True
        case ast.Call(func=ast.Attribute(value=value, attr="format"), args=[]):
            return constant(value)  # what is put into it is looked at by itself
        case ast.Call(func=ast.Attribute(value=ast.Constant(), attr="join"), args=[joined]):
            return constant(joined)
        case ast.Call(func=ast.Name(id="map"), args=[ast.Name(id="quoted"), _]):
            return True
        case ast.Call(func=ast.Attribute(value=value, attr="values" | "keys"), args=[]):
            return constant(value)
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return all(map(constant, parts))
        case ast.Starred(value=value) | ast.Subscript(value=value):
            return constant(value)
        case ast.IfExp(body=one, orelse=other):
            return constant(one) and constant(other)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return constant(left) and constant(right)
        case ast.JoinedStr(values=values):
            return all(constant(v.value) for v in values if isinstance(v, ast.FormattedValue))
    return False


def sources(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text("utf-8"))


def test_what_is_put_into_sql_is_constant_or_quoted() -> None:
    found = {
        (name.removeprefix("sinks/clickhouse/"), ast.unparse(expression)): line
        for name, tree in sources("sinks/clickhouse")
        for line, expression in composed(tree)
        if not constant(expression)
    }
    new = [f"sinks/clickhouse/{file}:{found[file, e]}: {e}" for file, e in sorted(found.keys() - CONSTANT_ALL_THE_SAME)]
    assert not new, (
        "bind values with %(name)s and parameters, quote identifiers with `quoted`; if no user's value can get there, "
        "say why in CONSTANT_ALL_THE_SAME:\n" + "\n".join(new)
    )
    gone = sorted(CONSTANT_ALL_THE_SAME.keys() - found.keys())
    assert not gone, f"no longer there, take them out of CONSTANT_ALL_THE_SAME: {gone}"


def test_sql_stands_in_one_place() -> None:
    strange = []
    for name, tree in sources("streams", "audit", "infra", "sinks/recipients", "processors"):
        if name.startswith("infra/local/clickhouse_endpoint/"):
            continue  # it is the server
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if _STATEMENT.match(text) and text not in ELSEWHERE:
                strange.append(f"{name}:{node.lineno}: {text[:60]!r}")
    assert not strange, "SQL belongs into sinks/clickhouse:\n" + "\n".join(strange)


@pytest.mark.parametrize(
    "source",
    [
        "execute(client, f'SELECT a FROM t WHERE b = {user}')",
        "execute(client, 'SELECT a FROM t WHERE b = ' + user)",
        "execute(client, 'SELECT a FROM t WHERE b = %s' % user)",
        "execute(client, 'SELECT a FROM t WHERE b = {}'.format(user))",
        "execute(client, _SQL.format(condition=given['x']))",
        "conditions.append(f'AND recipient = {recipient!r}')",
    ],
)
def test_the_check_finds_what_it_is_for(source: str) -> None:
    assert [e for _, e in composed(ast.parse(source)) if not constant(e)]


@pytest.mark.parametrize(
    "source",
    [
        "execute(client, f'SELECT {_COLUMNS} FROM {quoted(table)} WHERE a = %(a)s', {'a': user})",
        "execute(client, _SQL.format(behind=_BEHIND if after else ''))",
        "raise ValueError(f'no table {name}')",
    ],
)
def test_the_check_lets_pass_what_is_constant(source: str) -> None:
    assert not [e for _, e in composed(ast.parse(source)) if not constant(e)]
