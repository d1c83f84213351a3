"""Every page that the app serves, as somebody sees it who signs in at an identity provider: axe finds nothing grave on
it, light or dark, and a narrow screen need not be scrolled sideways. The pages are those of the app's own routes, so a
new one that nobody walks to fails here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from playwright.sync_api import Browser, expect, sync_playwright
from starlette.routing import BaseRoute, Mount

from infra.api.app import build_app
from sinks.recipients.configuration import ConnectorsFile
from tests import audit_world as world
from tests.api_process import ApiProcess
from tests.browser.auditor import Auditor, Walk, browser_path, launched, window
from tests.integration.test_oidc_api import api as api
from tests.integration.test_oidc_api import provider as provider
from tests.oidc_fixture import USERS, IdentityProvider

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse, pytest.mark.timeout(600)]

PROVIDER = "Nano & Co"
# Files, and what only leads on to another page.
NO_PAGES = {
    "/people/{case_id}/exports/{form}",
    "/erasures/{request_id}/certificate.jws",
    "/incidents/{breach_id}/people.csv",
    "/incidents/{breach_id}/report.json",
    "/sign-in/oidc",
    "/sign-in/oidc/callback",
}
INCIDENT = "/incidents?recipient=lumen-analytics"


@pytest.fixture(scope="module")
def browser(api: ApiProcess) -> Iterator[Browser]:
    browser_path()
    with sync_playwright() as playwright:
        started = launched(playwright)
        yield started
        started.close()


def routes(api: ApiProcess) -> list[APIRoute]:
    """What the pages of this API answer to GET, in their order."""
    found = api.settings
    app = build_app(found, ConnectorsFile(found.connectors_file(), found.named_secret, print).current, api.url)
    [pages] = [mount.app for mount in app.router.routes if isinstance(mount, Mount) and mount.path == ""]
    assert isinstance(pages, FastAPI)
    return [route for route in leaves(pages.router.routes) if "GET" in (route.methods or ())]


def leaves(routes: Iterable[BaseRoute]) -> Iterator[APIRoute]:
    for route in routes:
        # Newer releases of the framework keep an included router as it is, older ones copy its routes.
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from leaves(included.routes)
        elif isinstance(route, APIRoute):
            yield route


def go_in(auditor: Auditor, user: str) -> None:
    """From the sign-in page through the provider's form, and back."""
    page = auditor.page
    # The provider's form wants styles from the internet, which no test needs.
    page.route("https://**", lambda route: route.abort())
    page.get_by_role("link", name=f"Sign in with {PROVIDER}").click()
    page.locator("input[name=username]").fill(user)
    page.locator("input[name=password]").fill(USERS[user][0])
    page.locator("input[name=password]").press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_somebody_signs_in_at_the_provider_and_out(
    api: ApiProcess, provider: IdentityProvider, browser: Browser
) -> None:
    with window(browser, api.url, provider.issuer) as auditor:
        page = auditor.page
        auditor.open("/overview")
        expect(page).to_have_url(re.compile("/sign-in"))
        go_in(auditor, "ada")
        # Where they wanted to go, as whom the provider says they are, in the role that theirs is mapped to.
        expect(page).to_have_url(f"{api.url}/overview")
        expect(page.get_by_role("banner")).to_contain_text("oidc:ada")
        expect(page.get_by_role("banner")).to_contain_text("auditor")
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("link", name=f"Sign out at {PROVIDER}, too").click()
        expect(page).to_have_url(f"{api.url}/sign-in")
        auditor.open("/overview")
        expect(page).to_have_url(re.compile("/sign-in"))


def test_nobody_is_barred_from_any_page(api: ApiProcess, provider: IdentityProvider, browser: Browser) -> None:
    with window(browser, api.url, provider.issuer) as auditor:
        walk, page = Walk(auditor), auditor.page
        walk.to("/sign-in")
        go_in(auditor, "ada")
        for path in (
            "/",
            "/overview",
            "/violations",
            "/recipients",
            "/recipients/lumen-analytics",
            "/events",
            "/looks",
        ):
            walk.to(path)
        # What is wrong, told as a page.
        walk.to("/no-such-page", 404)
        walk.to("/events?verdict=none-such", 400)
        # An event by itself asks why, as nothing was looked at yet; then it is told.
        walk.to(f"/events/{world.named('ann to glacier')}")
        page.get_by_label("Reason").fill("case 4711")
        page.get_by_role("button", name="Show the event").click()
        expect(page.locator("#why-title")).to_be_visible()
        walk.here()
        # The steps of an incident, the first again with what was wrong, and its report.
        walk.to("/incidents")
        walk.to("/incidents?recipient=none-such", 400)
        walk.to(INCIDENT)
        walk.to(f"{INCIDENT}&from=2026-01-01T00%3A00&to=2026-05-01T00%3A00")
        page.get_by_label("Reason").fill("incident 12")
        page.get_by_role("button", name="Show the report").click()
        expect(page.get_by_role("list", name="Whom it affected")).to_be_visible()
        walk.here()
        for path in ("", "?all=true", f"/{world.OPEN}", f"/{world.DONE}", f"/{world.DONE}/certificate"):
            walk.to(f"/erasures{path}")
        auditor.find(world.ANN)
        case = urlsplit(page.url).path
        for tab in ("", "?as_of=2026-03-04", "/timeline", "/events", "/exports"):
            walk.to(case + tab)
        walk.to(f"{case}/events/{world.named('ann to glacier')}")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("link", name=f"Sign out at {PROVIDER}, too")).to_be_visible()
        walk.here()
        # Somebody else, who may not see everything.
        page.get_by_role("link", name="Sign in again").click()
        go_in(auditor, "cleo")
        walk.to("/events", 403)
    assert not walk.barred
    answered: set[str] = set()
    served = routes(api)
    for path in walk.seen:
        answered |= {next((route.path for route in served if route.path_regex.match(path)), path)}
    missing = {route.path for route in served} - answered - NO_PAGES
    assert not missing, f"nobody walks to {sorted(missing)}: add a step above"
    assert {route.path for route in served} >= NO_PAGES
