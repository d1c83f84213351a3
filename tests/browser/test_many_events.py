"""A person with 10,000 events on a slow machine: the pages stay small enough to be read at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import expect, sync_playwright

from processors.pseudonyms import alias
from sinks.clickhouse.client import connect
from tests.api_process import ApiProcess
from tests.audit_world import VIOLATION, collected, event, named, shared
from tests.browser.auditor import browser_path, launched, window
from tests.integration.test_audit_api import api as api

pytestmark = [pytest.mark.kafka, pytest.mark.clickhouse]

LONG = "long@shop"
EVENTS = 10_000
SHOWN = {"": ".graph .drawing a.node", "/timeline": ".timeline .drawing svg", "/events": "main table tbody tr"}
# What one page may weigh, so that a slow machine shows it: bytes of HTML, elements drawn.
BYTES, ELEMENTS = 1_000_000, 10_000


def life() -> Iterator[dict[str, Any]]:
    """Two years: consents that come and go, and disclosures to three recipients of which one passes them on."""
    for n in range(EVENTS):
        day = (datetime(2024, 6, 1, tzinfo=UTC) + timedelta(minutes=105 * n)).isoformat()[:19]
        name = f"long {n}"
        if n % 50 == 0:
            yield event(LONG, name, day, "consent", consent_action="accept", consent_version=1)
        elif n % 2:
            yield collected(LONG, name, day)
        elif n % 10 == 0:
            yield shared(LONG, name, day, "glacier-backup", "lumen-analytics", **(VIOLATION if n % 30 == 0 else {}))
        else:
            yield shared(LONG, name, day, "lumen-analytics" if n % 4 else "brightlane-ads")


@pytest.fixture(scope="module")
def long_lived(api: ApiProcess) -> ApiProcess:
    client = connect(api.settings.clickhouse())
    groups: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    for row in life():
        groups.setdefault(tuple(row), []).append(tuple(row.values()))
    for columns, rows in groups.items():
        client.execute(f"INSERT INTO lineage ({', '.join(columns)}) VALUES", rows)
    known = [(alias(api.settings.pepper(), LONG), named(LONG), 1)]
    client.execute("INSERT INTO subjects (alias, subject, version) VALUES", known)
    client.disconnect()
    return api


def test_a_long_life_is_shown_on_a_slow_machine(long_lived: ApiProcess) -> None:
    """With the browser four times slower than this machine. `pytest -s` tells the figures."""
    browser_path()
    with sync_playwright() as playwright:
        browser = launched(playwright)
        with window(browser, long_lived.url) as auditor:
            auditor.sign_in(long_lived.token("slow", "auditor"))
            auditor.find(LONG)
            page = auditor.page
            case = page.url
            devtools = page.context.new_cdp_session(page)
            devtools.send("Emulation.setCPUThrottlingRate", {"rate": 4})
            for tab, drawn in SHOWN.items():
                answer = page.goto(case + tab)
                assert answer is not None
                expect(page.locator(drawn).first).to_be_visible()
                bytes_, elements = len(answer.body()), page.locator("*").count()
                took = page.evaluate(
                    """() => {
                        const [all] = performance.getEntriesByType("navigation");
                        return [all.responseStart, all.loadEventEnd].map(Math.round);
                    }"""
                )
                print(f"lineage{tab}: answer after {took[0]} ms, loaded after {took[1]} ms; {bytes_:,} B, {elements:,}")
                assert bytes_ < BYTES
                assert elements < ELEMENTS
        browser.close()
