"""An auditor at a real browser, and what they may never see: a script's error, a foreign host, a refused resource."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request, ViewportSize, expect

# A word for `required`: without a browser the tests fail, and are not skipped.
WANTED = os.environ.get("LINEAGE_TEST_BROWSER", "")
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Pictures for the documents go there, if anywhere.
PICTURES = os.environ.get("LINEAGE_TEST_PICTURES")
# What axe finds and calls this must not be.
GRAVE = {"serious", "critical"}
WIDE, NARROW = ViewportSize(width=1280, height=900), ViewportSize(width=320, height=640)
# A busy machine is slow.
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


def browser_path() -> str:
    """Skips the test, or fails it where a browser is required, when there is none."""
    given = WANTED if os.path.sep in WANTED else None
    found = given or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        told = "no Chromium here: `make browser` installs it on Debian (as root), or LINEAGE_TEST_BROWSER names one"
        if WANTED == "required":
            pytest.fail(told)
        pytest.skip(told)
    return found


def launched(playwright: Playwright) -> Browser:
    # Without its sandbox: that needs rights which containers lack, and the pages are our own.
    return playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])


# Elements that reach beyond the window, the innermost ones; boxes that scroll by themselves may hold wider ones.
_TOO_WIDE = """width => [...document.querySelectorAll("main *, header *, footer *")]
    .filter(one => one.getBoundingClientRect().right > width && !one.closest(".wide, .drawing, .hidden-text"))
    .filter((one, _, all) => !all.some(other => other !== one && one.contains(other)))
    .map(one => one.outerHTML.slice(0, 200))"""


class Auditor:
    """One browser window of somebody who is signed in, or not yet. `page`: the window's. `elsewhere`: the URL of the
    one other host that our pages may lead to, an identity provider; what its own pages ask for or say is its matter."""

    def __init__(self, page: Page, url: str, elsewhere: str | None = None) -> None:
        self.page = page
        self.url = url
        self._elsewhere = f"{elsewhere}/" if elsewhere else None
        self.wrong: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        page.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        # Refusals of the content security policy are told here as well.
        if message.type in ("error", "warning") and not self._is_elsewhere(self.page.url):
            self.wrong.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        is_theirs = self._is_elsewhere(request.frame.url) or (
            request.is_navigation_request() and self._is_elsewhere(request.url)
        )
        if not is_theirs and not request.url.startswith((f"{self.url}/", "data:", "blob:")):
            self.wrong.append(f"foreign host: {request.url}")

    def _is_elsewhere(self, url: str) -> bool:
        return self._elsewhere is not None and url.startswith(self._elsewhere)

    def sign_in(self, token: str) -> None:
        self.open("/sign-in")
        self.page.get_by_label("API token").fill(token)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()

    def open(self, path: str) -> None:
        answer = self.page.goto(self.url + path)
        assert answer is not None
        assert answer.ok, f"{path}: {answer.status}"

    def arrives(self, where: str) -> None:
        """Waits until a page whose URL matches the pattern is there as a whole, not just begun."""
        expect(self.page).to_have_url(re.compile(where))
        self.page.wait_for_load_state()

    def until(self, path: str, condition: Callable[[], bool]) -> None:
        """Loads a page again and again, until it is there and shows something."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while True:
            answer = self.page.goto(self.url + path)
            if answer is not None and answer.ok and condition():
                break
            assert time.monotonic() < deadline, f"{path} does not show it"
            time.sleep(0.5)
        self.expects(404)

    def expects(self, status: int) -> None:
        """The browser itself tells of a page that was not there yet, or refused: that has not gone wrong."""
        self.wrong = [one for one in self.wrong if str(status) not in one]

    def find(self, user: str, reason: str = "case 4711") -> None:
        """Searches a person; ends at their lineage."""
        self.open("/")
        self.page.get_by_label("User id").fill(user)
        self.page.get_by_label("Reason").fill(reason)
        self.page.get_by_role("button", name="Show their lineage").click()
        expect(self.page.get_by_role("heading", level=1)).to_contain_text(user)

    def heading(self) -> str:
        return self.page.get_by_role("heading", level=1).inner_text()

    def picture(self, name: str) -> None:
        """For the documents, when they are asked for."""
        if PICTURES is not None:
            self.page.screenshot(path=Path(PICTURES) / f"{name}.png")

    def grave_barriers(self) -> Mapping[str, Any]:
        """What bars people from this page, by axe: rule → where. Nothing that is not grave."""
        found = Axe().run(self.page).response["violations"]
        return {one["id"]: [node["html"] for node in one["nodes"]] for one in found if one["impact"] in GRAVE}


class Walk:
    """Looks at pages; `barred` is what was found, `seen` the paths."""

    def __init__(self, auditor: Auditor) -> None:
        self.auditor = auditor
        self.seen: set[str] = set()
        self.barred: list[str] = []

    def to(self, path: str, status: int = 200) -> None:
        answer = self.auditor.page.goto(self.auditor.url + path)
        assert answer is not None
        assert answer.status == status, path
        if status != 200:
            self.auditor.expects(status)
        self.here()

    def here(self) -> None:
        page = self.auditor.page
        if page.locator(".drawing").count():
            page.wait_for_load_state("networkidle")
        shown = urlsplit(page.url).path
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            found = self.auditor.grave_barriers()
            self.barred += [f"{shown}, {scheme}: {rule} {where}" for rule, where in found.items()]
        page.set_viewport_size(NARROW)
        if page.evaluate("document.documentElement.scrollWidth") > NARROW["width"]:
            self.barred.append(f"{shown}: too wide: {page.evaluate(_TOO_WIDE, NARROW['width'])}")
        page.set_viewport_size(WIDE)
        self.seen.add(shown)


@contextmanager
def window(browser: Browser, url: str, elsewhere: str | None = None, **options: Any) -> Iterator[Auditor]:
    """A window of its own, without anything of another; nothing may have gone wrong in it."""
    context = browser.new_context(**{"viewport": WIDE, "locale": "en-GB", **options})
    try:
        auditor = Auditor(context.new_page(), url, elsewhere)
        yield auditor
        assert not auditor.wrong, auditor.wrong
    finally:
        context.close()
