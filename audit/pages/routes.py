"""All pages: the routers that serve them, and the navigation that leads to them. Each module adds its own here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fastapi import APIRouter

from audit.pages.home import home_router
from audit.pages.visits import Desk

ROUTERS: Sequence[Callable[[Desk], APIRouter]] = (home_router,)


class Entry(NamedTuple):
    """One entry of the navigation. It is shown to those who may ask for `operation`; None: to all."""

    label: str
    path: str
    operation: str | None
    about: str = ""


NAVIGATION: Sequence[Entry] = (Entry("Find a person", "/", "lineage", "A person's lineage, by their user id"),)
