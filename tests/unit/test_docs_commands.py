"""Every `lineage …` that the documents show is a command that there is, with options that it has; and links lead
somewhere.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from infra.cli.main import COMMANDS, lineage

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
_ENDS = {"&&", "||", "|", ";", ">", ">>", "<", "&"}


class Shown(NamedTuple):
    """A command in a document. `is_whole`: it stands in a block of code, to be typed as it is."""

    where: str
    words: list[str]
    is_whole: bool


def shown(document: Path) -> Iterator[Shown]:
    in_block, is_shell = False, False
    lines = document.read_text("utf-8").replace("\\\n", " ").splitlines()
    for number, line in enumerate(lines, 1):
        where = f"{document.relative_to(ROOT)}:{number}"
        if line.lstrip().startswith("```"):
            in_block = not in_block
            is_shell = in_block and line.strip() in ("```", "```sh", "```bash", "```console")
        elif in_block:
            # Answers may quote commands as well; typed is what a line begins with, or what follows another one.
            typed = re.match(r"(\$ )?(?=(export|lineage) )", line) if is_shell else None
            for words in commands(line[typed.end() :] if typed else ""):
                yield Shown(where, words, True)
        else:
            for code in re.findall(r"`(lineage [^`]+)`", line):
                for words in commands(re.sub(r"[\[\]]", " ", code)):
                    yield Shown(where, words, False)
            # The tables of docs/commands.md leave the first word out.
            row = re.match(r"\| `([a-z-]+[^`]*)`", line)
            if document.name == "commands.md" and row and row[1].split()[0] in COMMANDS:
                for words in commands("lineage " + re.sub(r"[\[\]]", " ", row[1].replace("|", " "))):
                    yield Shown(where, words, False)


def commands(line: str) -> Iterator[list[str]]:
    """The words after `lineage` of each command of a line of shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word not in _ENDS:
            words.append(word)
            continue
        if words[:1] == ["lineage"] and len(words) > 1:
            yield words[1:]
        words = []


def wrong_with(command: Shown) -> str | None:
    """What a command that is shown would be refused for."""
    found: click.Command = lineage
    context = click.Context(lineage)
    words = list(command.words)
    while isinstance(found, click.Group):
        name = words[0] if words else ""
        below = found.get_command(context, name)
        if below is None:
            # `lineage requests REQUEST`, `lineage api --port 8080`; `lineage api token …` and the like.
            if found.name == "requests":
                below = found.get_command(context, "show")
            elif not words or name in ("…", "...") or name.isupper() or found.invoke_without_command:
                break
            if below is None:
                return f"{' '.join(command.words)}: there is no {name}"
        else:
            words.pop(0)
        context = click.Context(below, parent=context, info_name=name)
        found = below
    cut = "…" in words or "..." in words
    if isinstance(found, click.Group) and not (words or found.invoke_without_command) and command.is_whole:
        return f"{' '.join(command.words)}: it does nothing by itself"
    try:
        given, left, _ = found.make_parser(context).parse_args([word for word in words if word not in ("…", "...")])
    except click.UsageError as error:
        return None if (cut or not command.is_whole) and "requires an argument" in error.message else error.message
    if left and not isinstance(found, click.Group):
        return f"too many arguments: {left}"
    # What is not given is told by a mark of click's own.
    missing = [
        p.name for p in found.params if p.required and not isinstance(given.get(p.name or ""), str | tuple | list)
    ]
    return f"without {missing}" if missing and command.is_whole and not cut else None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_that_are_shown_are_there(document: Path) -> None:
    assert [(c.where, why) for c in shown(document) if (why := wrong_with(c))] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(
        r"\]\(([^)#\s]+)(?:#[^)]*)?\)", re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.S)
    )
    assert [link for link in links if "://" not in link and not (document.parent / link).exists()] == []


def test_every_document_is_on_the_list() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    documents = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {name for name in documents if f"]({name})" not in index} == set()


def test_commands_are_found_in_the_documents() -> None:
    """Else the test above would hold nothing."""
    found = {command.words[0] for document in DOCUMENTS for command in shown(document)}
    assert found >= set(COMMANDS) - {"version"}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("lineage subject", "without"),
        ("lineage subject u-1 --clickhouse x", "No such option"),
        ("lineage requests hold X", "without"),
        ("lineage nothing", "there is no nothing"),
        ("lineage migrate", "does nothing by itself"),
        ("lineage api token make", "there is no make"),
        ("lineage wait && lineage totals --jsn", "No such option"),
        ("lineage explain A B", "too many"),
        ("lineage requests 6f0c2a4e --json # why", None),
        ("lineage export u-1 --format csv > a.csv", None),
    ],
)
def test_what_is_wrong_is_found(line: str, why: str | None) -> None:
    told = [wrong_with(Shown("", words, True)) for words in commands(line)]
    if why is None:
        assert told == [None]
    else:
        assert why in (told[-1] or "")
