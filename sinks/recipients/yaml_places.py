"""YAML in which a wrong place can be told: by its line, and where a key is given twice.

Makes plain values only, never objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Of two equal keys the first would be lost silently."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key.value} is given twice", key.start_mark)
        seen.add(str(key.value))
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_yaml(text: str) -> Any:
    """The values of a document; an empty one says nothing: {}. Raises `yaml.YAMLError`."""
    read = yaml.load(text, _Loader)
    return {} if read is None else read


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line, from 1, where a value's key stands; of the last step that is there at all."""
    node, line = yaml.compose(text, yaml.SafeLoader), 1
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(step)]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            found = [(value, value) for value in node.value[step : step + 1]]
        else:
            break
        if not found:
            break
        line, node = found[-1][0].start_mark.line + 1, found[-1][1]
    return line
