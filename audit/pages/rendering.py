"""Templates into pages. Every value is escaped; a value that a template names and nobody gave is an error."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from audit.exports.background import iso
from audit.pages.guard import STATIC

_VERSION_DIGITS = 12


def static_directory() -> Path:
    """Where the files are that pages load."""
    return Path(str(files("audit.pages") / "static"))


def static_version() -> str:
    """Changes whenever one of those files does."""
    digest = hashlib.sha256()
    root = static_directory()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(root)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:_VERSION_DIGITS]


class Templates:
    """The templates of the pages. In each: `static(FILE)`, the URL of a file that pages load; `query(**values)`."""

    def __init__(self, **known: Any) -> None:
        version = static_version()
        self.static_path = f"{STATIC}{version}"
        self._environment = jinja2.Environment(
            loader=jinja2.PackageLoader("audit.pages", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "number": number,
            "counted": counted,
            "moment": moment,
            "day": day,
            "plain": plain,
            "instant": iso,
            "coded": coded,
        }
        self._environment.globals |= {"static": self._static, "query": query, "zip": zip, **known}

    def page(self, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        return HTMLResponse(self._environment.get_template(template).render(context), status)

    def _static(self, name: str) -> str:
        return f"{self.static_path}/{name}"


def number(value: float) -> str:
    """`12,345`."""
    return f"{value:,}"


def counted(value: int, one: str, many: str = "") -> str:
    """`1 event`, `2,000 events`."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def moment(value: str | None) -> str:
    """`2026-03-01 08:00:00` of `2026-03-01T08:00:00.000Z`; milliseconds only where there are some."""
    if value is None:
        return "–"
    shown = value.removesuffix("Z").removesuffix(".000")
    return shown.replace("T", " ")


def day(value: str | date | None) -> str:
    """`2026-03-01` of a time."""
    return "–" if value is None else str(value)[:10]


def plain(value: str | None) -> str:
    """`partially completed` of `partially_completed`."""
    return "–" if value is None else value.replace("_", " ")


def coded(text: str) -> Markup:
    """`a `b` c` with b as code; everything is escaped."""
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def query(values: Mapping[str, Any] | None = None, **more: Any) -> str:
    """`?a=1&b=2` of what has a value; nothing of nothing. `more` counts before `values`."""
    given = {name: value for name, value in {**(values or {}), **more}.items() if value not in (None, "", False)}
    return f"?{urlencode(given)}" if given else ""
