"""Who is signed in to the pages: in memory, so that a restart signs everybody out.

A session holds what its client presented when it signed in, and every request is authenticated with that anew: a token
that is revoked is out at once. What it holds is shown by nothing: no repr, no log, no URL.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

IDLE_SECONDS = 30 * 60
WHOLE_SECONDS = 12 * 3600
MOST_SESSIONS = 1000
MOST_CASES = 50
_ID_BYTES = 32
_CASE_BYTES = 12


@dataclass(frozen=True)
class Case:
    """Somebody who is looked at, and why. `id` stands for them in URLs; it means nothing outside its session."""

    id: str
    user: str = field(repr=False)
    alias: bytes = field(repr=False)
    reason: str = field(repr=False)


@dataclass(frozen=True)
class Breach:
    """An incident at a recipient that is looked into, and why. since, until: ms. `id` stands for it in URLs."""

    id: str
    recipient: str
    since: int
    until: int
    reason: str = field(repr=False)


@dataclass
class Session:
    """`authorization`: the value of a header `Authorization`. `reason`: why its client looked at somebody last."""

    authorization: str = field(repr=False)
    begun_at: float
    seen_at: float
    reason: str = field(default="", repr=False)
    cases: OrderedDict[str, Case] = field(default_factory=OrderedDict, repr=False)
    breaches: OrderedDict[str, Breach] = field(default_factory=OrderedDict, repr=False)


class Sessions:
    """Thread-safe. clock: seconds, monotonic.

    idle: a session ends after so many seconds without a request; whole: it ends whatever happens. Of more than `most`
    the one ends that was seen longest ago.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        idle: float = IDLE_SECONDS,
        whole: float = WHOLE_SECONDS,
        most: int = MOST_SESSIONS,
    ) -> None:
        self._clock = clock
        self._idle = idle
        self._whole = whole
        self._most = most
        # The one seen longest ago first.
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = Lock()

    def begin(self, authorization: str) -> str:
        """A new session of whoever presents this, authenticated before; its id, for the cookie."""
        session_id = secrets.token_urlsafe(_ID_BYTES)
        with self._lock:
            self._forget()
            while len(self._sessions) >= self._most:
                self._sessions.popitem(last=False)
            now = self._clock()
            self._sessions[session_id] = Session(authorization, now, now)
        return session_id

    def of(self, session_id: str | None) -> Session | None:
        """The session of a cookie, which is thereby seen; None: there is none, or it has ended."""
        with self._lock:
            self._forget()
            session = self._sessions.get(session_id or "")
            if session is not None and session_id is not None:
                session.seen_at = self._clock()
                self._sessions.move_to_end(session_id)
            return session

    def end(self, session_id: str | None) -> None:
        with self._lock:
            self._sessions.pop(session_id or "", None)

    def open_case(self, session: Session, user: str, alias: bytes, reason: str) -> Case:
        """Of the same person and reason the case that is open; of too many the one opened longest ago is closed."""
        with self._lock:
            session.reason = reason
            for known in session.cases.values():
                if (known.alias, known.reason) == (alias, reason):
                    return known
            case = Case(secrets.token_urlsafe(_CASE_BYTES), user, alias, reason)
            session.cases[case.id] = case
            if len(session.cases) > MOST_CASES:
                session.cases.popitem(last=False)
            return case

    def case(self, session: Session, case_id: str) -> Case | None:
        with self._lock:
            return session.cases.get(case_id)

    def open_breach(self, session: Session, recipient: str, since: int, until: int, reason: str) -> Breach:
        """Of the same breach and reason the one that is open; of too many the one opened longest ago is closed."""
        with self._lock:
            session.reason = reason
            for known in session.breaches.values():
                if (known.recipient, known.since, known.until, known.reason) == (recipient, since, until, reason):
                    return known
            breach = Breach(secrets.token_urlsafe(_CASE_BYTES), recipient, since, until, reason)
            session.breaches[breach.id] = breach
            if len(session.breaches) > MOST_CASES:
                session.breaches.popitem(last=False)
            return breach

    def breach(self, session: Session, breach_id: str) -> Breach | None:
        with self._lock:
            return session.breaches.get(breach_id)

    def cases(self, session: Session) -> list[Case]:
        """Those that are open, the one opened last first."""
        with self._lock:
            return list(reversed(session.cases.values()))

    def keep_reason(self, session: Session, reason: str) -> None:
        """Keeps why its client looks, so that it need not be said for every page."""
        with self._lock:
            session.reason = reason

    def _forget(self) -> None:
        now = self._clock()
        for session_id, session in list(self._sessions.items()):
            if now - session.seen_at >= self._idle or now - session.begun_at >= self._whole:
                del self._sessions[session_id]
