"""The names of the fields a row holds, without their contents: what the contract calls `fields`.

Keys of a row are not always names that a programmer chose: properties and traits can be keyed by what people typed.
So only keys that the mapping lists get through; everything else that holds a value counts as one name of the
mapping's own, `unlisted`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from streams.sources.expressions import Row

UNLISTED = "unlisted"
_LEAVE_OUT = object()


class _Node:
    """One key of the tree of listed paths: its name, or the keys below it, or both."""

    __slots__ = ("below", "name")

    def __init__(self) -> None:
        self.name: Any = None
        self.below: dict[str, _Node] = {}


def field_names(spec: Mapping[str, Any], split: Callable[[str], list[str]]) -> Callable[[Row], tuple[str, ...]]:
    """A function from a row to the sorted names of the fields that hold a value.

    `spec`: `known` path → name (a path covers all below it that is not listed itself), `ignore` paths, `within`
    paths under which anything else is `unlisted`, and `unlisted`, the name for that.
    """
    root = _Node()
    for path, name in spec["known"].items():
        _grow(root, split(path)).name = name
    for path in spec.get("ignore", ()):
        _grow(root, split(path)).name = _LEAVE_OUT
    unlisted = spec.get("unlisted", UNLISTED)
    searched = [split(path) for path in spec.get("within", ())]
    for keys in searched:
        node = _grow(root, keys)
        if node.name is None:
            node.name = unlisted

    def names(row: Row) -> tuple[str, ...]:
        found: set[str] = set()
        _collect(row, root, None, found)
        return tuple(sorted(found))

    return names


def _grow(node: _Node, keys: list[str]) -> _Node:
    for key in keys:
        node = node.below.setdefault(key, _Node())
    return node


def _collect(value: Row, node: _Node, covering: Any, found: set[str]) -> None:
    below = node.below
    for key, item in value.items():
        if item is None or item == "":
            continue
        child = below.get(key)
        if child is None:
            if covering is not None and covering is not _LEAVE_OUT and covering not in found and _holds(item):
                found.add(covering)
            continue
        name = covering if child.name is None else child.name
        if child.below and type(item) is dict:
            # As deep as the listed paths go, never deeper.
            _collect(item, child, name, found)
        elif name is not None and name is not _LEAVE_OUT and name not in found and _holds(item):
            found.add(name)


def _holds(value: Any) -> bool:
    """Whether there is any content: not null, empty text, or lists and objects of nothing else."""
    if type(value) is dict:
        return any(map(_holds, value.values()))
    if type(value) is list:
        return any(map(_holds, value))
    return value is not None and value != ""
