"""A page as a test reads it: its heading, its text, its tables by caption, its links and its forms."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_EMPTY = frozenset({"input", "meta", "link", "br", "hr", "img"})
_UNSEEN = frozenset({"script", "style"})


@dataclass
class Cell:
    """`links`: of the cell, text → URL."""

    text: str = ""
    links: dict[str, str] = field(default_factory=dict)


@dataclass
class HtmlPage(HTMLParser):
    """`tables`: caption → rows of cells, the head first. `links`: URL → text. `fields`: of forms, name → value.
    `scripts`: what stands within `<script>`."""

    source: str
    text: str = ""
    heading: str = ""
    tables: dict[str, list[list[Cell]]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    scripts: list[str] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[str] = []
        self._rows: list[list[Cell]] = []
        self._caption = ""
        self._href = ""
        self._linked = ""
        self.feed(self.source)
        self.close()
        assert not self._open, f"these are never closed: {self._open}"
        self.heading, self.text = _plain(self.heading), _plain(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        unsafe = [name for name in given if name == "style" or name.startswith("on")]
        assert not unsafe, f"the policy of the pages refuses {unsafe}"
        if tag not in _EMPTY:
            self._open.append(tag)
        match tag:
            case "table":
                self._rows, self._caption = [], ""
            case "tr":
                self._rows.append([])
            case "td" | "th":
                self._rows[-1].append(Cell())
            case "a":
                self._href, self._linked = given["href"], ""
            case "form":
                self.forms.append(given)
            case "input":
                self.fields[given["name"]] = given.get("value", "")
            case "script":
                self.scripts.append("")
                assert given.get("src") or given["type"] == "application/json", "an inline script"
        if given.get("src") or (tag == "link" and given.get("href")):
            self.loaded.append(given.get("src") or given["href"])

    def handle_endtag(self, tag: str) -> None:
        assert [tag] == self._open[-1:], f"</{tag}> closes {self._open}"
        self._open.pop()
        if tag == "table":
            self.tables[_plain(self._caption)] = self._rows
            for row in self._rows:
                for cell in row:
                    cell.text = _plain(cell.text)
        elif tag == "a":
            self.links[self._href] = _plain(self._linked)
            if self._rows and self._rows[-1] and "table" in self._open:
                self._rows[-1][-1].links[_plain(self._linked)] = self._href

    def handle_data(self, data: str) -> None:
        if "script" in self._open:
            self.scripts[-1] += data
        if _UNSEEN & set(self._open) or "title" in self._open:
            return
        self.text += data
        if "h1" in self._open:
            self.heading += data
        if "caption" in self._open:
            self._caption += data
        if {"td", "th"} & set(self._open):
            self._rows[-1][-1].text += data
        if "a" in self._open:
            self._linked += data

    def rows(self, caption: str) -> list[list[str]]:
        """The texts of a table's cells, without its head."""
        return [[cell.text for cell in row] for row in self.tables[caption][1:]]


def _plain(text: str) -> str:
    return " ".join(text.split())
