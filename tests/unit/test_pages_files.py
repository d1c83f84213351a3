"""What the pages are made of: nothing from elsewhere, nothing that their Content-Security-Policy would refuse."""

import hashlib
import re
from importlib.resources import files
from pathlib import Path

import pytest

PAGES = Path(str(files("audit.pages")))
STATIC = PAGES / "static"
VENDOR = STATIC / "vendor"
TEMPLATES = sorted((PAGES / "templates").glob("*.html"))
OWN = sorted(path for path in STATIC.iterdir() if path.suffix in (".js", ".css", ".svg"))


def test_libraries_of_others_are_those_that_are_listed() -> None:
    rows = [line.split("|")[1:-1] for line in (VENDOR / "VENDORED.md").read_text("utf-8").splitlines()]
    listed = {row[0].strip(" `"): [cell.strip(" `") for cell in row[1:]] for row in rows if len(row) == 5}
    scripts = {path.name: path for path in VENDOR.glob("*.js")}
    assert scripts.keys() == {name for name in listed if name.endswith(".js")}
    for name, path in scripts.items():
        package, version, licence, digest = listed[name]
        assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), package
        [text] = re.findall(r"LICENSE-\w+", licence)
        assert (VENDOR / text).read_text("utf-8").startswith("Copyright")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_has_script_or_style_in_itself(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not re.search(r"\son[a-z]+=[\"']", text), "handlers belong into a script of static/"
    assert not re.search(r"\sstyle\s*=|<style", text), "styles belong into static/*.css"
    for script in re.findall(r"<script[^>]*>", text):
        assert 'src="{{ static(' in script or 'type="application/json"' in script, script
    assert "| safe" not in text
    assert "|safe" not in text


@pytest.mark.parametrize("path", [*TEMPLATES, *OWN], ids=lambda path: path.name)
def test_nothing_is_loaded_from_another_host(path: Path) -> None:
    names = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")
    found = re.findall(r"(?:https?:)?//[a-z][^\s\"']*", path.read_text("utf-8"))
    assert set(found) <= set(names)


@pytest.mark.parametrize("path", [path for path in OWN if path.suffix == ".js"], ids=lambda path: path.name)
def test_no_script_makes_html_of_text(path: Path) -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", path.read_text("utf-8"))
