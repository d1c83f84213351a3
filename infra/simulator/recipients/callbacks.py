"""Status callbacks of simulated OpenDSR processors: signed, sent to every URL on each change, repeated until taken.

And lost, doubled, out of order or badly signed where the profile says so.
"""

from __future__ import annotations

import asyncio

import aiohttp
import orjson

from infra.simulator.recipients.opendsr import signed_headers, status_of
from infra.simulator.recipients.recipient import Recipient
from infra.simulator.recipients.register import FINAL, Entry
from infra.simulator.recipients.site import Site

_TOLD = frozenset({"in_progress", "completed", "cancelled"})
_LONGEST_WAIT = 30.0


class Callbacks:
    """Sends what changes. Lives on one event loop, from `start` to `stop`."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # (recipient, key, url) whose `in_progress` comes after what follows it.
        self._held: set[tuple[str, str, str]] = set()

    async def start(self) -> None:
        """Also tells what a restart kept from being told."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        for recipient in self._site.recipients.values():
            if recipient.protocol == "opendsr":
                for entry in recipient.entries():
                    if entry.state in _TOLD and entry.state not in {told["status"] for told in entry.callbacks}:
                        self.tell(recipient, entry, entry.state)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def tell(self, recipient: Recipient, entry: Entry, status: str) -> None:
        """Begins to tell every URL of a command about its status."""
        for url in entry.callback_urls:
            # What is told is what holds now, whenever it arrives.
            body = orjson.dumps(status_of(entry) | {"request_status": status, "status_callback_url": url})
            task = asyncio.get_running_loop().create_task(self._tell(recipient, entry, status, url, body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _tell(self, recipient: Recipient, entry: Entry, status: str, url: str, body: bytes) -> None:
        about = (entry.key, entry.lives, status, url)
        if recipient.shows("lose_callback", *about):
            recipient.told(entry.key, status, "lost")
            return
        place = (recipient.name, entry.key, url)
        if status == "in_progress" and recipient.shows("reorder_callbacks", *about):
            self._held.add(place)
            return
        for copy in range(2 if recipient.shows("duplicate_callback", *about) else 1):
            await self._send(recipient, entry, status, url, body, copy)
        if status in FINAL and place in self._held:
            self._held.discard(place)
            earlier = orjson.dumps(orjson.loads(body) | {"request_status": "in_progress"})
            await self._send(recipient, entry, "in_progress", url, earlier, 0)

    async def _send(self, recipient: Recipient, entry: Entry, status: str, url: str, body: bytes, copy: int) -> None:
        assert self._session is not None
        for number in range(max(1, recipient.profile.callback_tries)):
            about = ("callback", entry.key, entry.lives, status, url, copy, number)
            headers = {"Content-Type": "application/json", **signed_headers(self._site, recipient, body, *about)}
            try:
                async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                    if answer.status < 300:
                        recipient.told(entry.key, status, "delivered")
                        return
            except (aiohttp.ClientError, TimeoutError, ValueError):
                pass
            wait = recipient.fate.between(recipient.profile.callback_retry_s, *about) * 2**number
            await asyncio.sleep(min(wait, _LONGEST_WAIT))
        recipient.told(entry.key, status, "failed")
