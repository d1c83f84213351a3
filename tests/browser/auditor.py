"""An auditor at a real browser, and what they may never see: a script's error, a foreign host, a refused resource."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request, expect

# A word for `required`: without a browser the tests fail, and are not skipped.
WANTED = os.environ.get("LINEAGE_TEST_BROWSER", "")
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Pictures for the documents go there, if anywhere.
PICTURES = os.environ.get("LINEAGE_TEST_PICTURES")
# What axe finds and calls this must not be.
GRAVE = {"serious", "critical"}
# A busy machine is slow.
PATIENCE_MS = 60_000


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


class Auditor:
    """One browser window of somebody who is signed in, or not yet. `page`: the window's."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.wrong: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        page.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        # Refusals of the content security policy are told here as well.
        if message.type in ("error", "warning"):
            self.wrong.append(f"console: {message.text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "data:", "blob:")):
            self.wrong.append(f"foreign host: {request.url}")

    def sign_in(self, token: str) -> None:
        self.open("/sign-in")
        self.page.get_by_label("API token").fill(token)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("button", name="Sign out")).to_be_visible()

    def open(self, path: str) -> None:
        answer = self.page.goto(self.url + path)
        assert answer is not None
        assert answer.ok, f"{path}: {answer.status}"

    def until(self, path: str, condition: Callable[[], bool]) -> None:
        """Loads a page again and again, until it is there and shows something."""
        deadline = time.monotonic() + PATIENCE_MS / 1000
        while True:
            answer = self.page.goto(self.url + path)
            if answer is not None and answer.ok and condition():
                break
            assert time.monotonic() < deadline, f"{path} does not show it"
            time.sleep(0.5)
        # The browser itself tells of pages that were not there yet.
        self.wrong = [one for one in self.wrong if "404" not in one]

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


@contextmanager
def window(browser: Browser, url: str, **options: Any) -> Iterator[Auditor]:
    """A window of its own, without anything of another; nothing may have gone wrong in it."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "locale": "en-GB", **options})
    try:
        auditor = Auditor(context.new_page(), url)
        yield auditor
        assert not auditor.wrong, auditor.wrong
    finally:
        context.close()
