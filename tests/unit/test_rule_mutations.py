"""Every rule of the decision is held by the tests: whichever is changed, the judges no longer agree.

A mutation (`rule_mutations.yaml`) rewrites one expression of one function and puts the changed function in its place
while its test runs. Where a function is rewritten for good, its mutations name a text that is no longer there and have
to follow it.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
import yaml

from processors import consent
from tests.drawn_histories import History, draw_history
from tests.two_judges import disagreements
from tests.unit.test_two_judges import SEEDS


class Mutation(NamedTuple):
    """`where`: a function of `processors`, as `decide.decide` or `knowledge.View.recipient`; `old` is in it once."""

    rule: str
    where: str
    old: str
    new: str


MUTATIONS = [
    Mutation(**mutation)
    for mutation in yaml.safe_load((Path(__file__).parent / "rule_mutations.yaml").read_text("utf-8"))
]


@cache
def drawn(seed: int) -> History:
    return draw_history(Random(seed))


def is_caught() -> bool:
    """Whether the histories of `test_the_judges_agree_on_many_histories` tell that something is wrong."""
    return any(disagreements(drawn(seed), Random(seed)) for seed in SEEDS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.rule)
def test_a_changed_rule_is_noticed(mutation: Mutation) -> None:
    with mutated(mutation):
        try:
            caught = is_caught()
        except (KeyError, AttributeError, TypeError, ValueError):
            caught = True
    assert caught, "no drawn history notices"


@contextmanager
def mutated(mutation: Mutation) -> Iterator[None]:
    module_name, *path = mutation.where.split(".")
    module = importlib.import_module(f"processors.{module_name}")
    owner = getattr(module, path[0]) if len(path) == 2 else module
    original = vars(owner)[path[-1]]
    changed = rewritten(original, mutation, vars(module))
    places = [(owner, path[-1])]
    if owner is module:
        # Wherever it has been imported by name.
        ours = [one for name, one in sys.modules.items() if name.split(".")[0] in ("processors", "streams")]
        places = [(one, name) for one in ours for name, value in vars(one).items() if value is original]
    consent._step.cache_clear()
    for place, name in places:
        setattr(place, name, changed)
    try:
        yield
    finally:
        for place, name in places:
            setattr(place, name, original)
        consent._step.cache_clear()


def rewritten(original: Any, mutation: Mutation, namespace: dict[str, Any]) -> Any:
    """The function with the change, over the same globals; decorators are applied anew."""
    source = textwrap.dedent(inspect.getsource(original.fget if isinstance(original, property) else original))
    assert source.count(mutation.old) == 1, f"{mutation.where} does not hold {mutation.old!r} once"
    made: dict[str, Any] = {}
    changed = source.replace(mutation.old, mutation.new)
    # Compiled with this file's own future features, which the processors have, too.
    exec(compile(changed, "<mutated>", "exec"), namespace, made)
    return made[mutation.where.rpartition(".")[2]]
