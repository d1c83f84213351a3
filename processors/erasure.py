"""An erasure request as a value, and what is due for it. How it changes: erasure_steps.py, erasure_targets.py.

Pure. The controller observes, calls and stores; all that it decides is decided here.

    received → verified → enumerating → dispatching → awaiting → purging → completed | partially_completed
    and out of the first three: refused | cancelled; a second request of a person with an open one: joined
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from processors.erasure_commands import idempotency_key

SECOND, DAY = 1000, 86_400_000
FINAL = frozenset({"completed", "failed", "unsupported", "exempt"})
ENDED = frozenset({"completed", "partially_completed", "refused", "cancelled", "joined"})
STORE = "store:"
# A publication reaches nobody by name.
PUBLIC = "public"
MOST_MOMENTS = 100


@dataclass(frozen=True)
class Terms:
    """How long things may take, in ms. `response`: from the verified identity to the end (clause 8: 30 days);
    `margin`: so long before the end no recipient is waited for any more, so that the own purge is done in time."""

    response: int = 30 * DAY
    margin: int = DAY
    first_backoff: int = 2 * SECOND
    longest_backoff: int = 6 * 3600 * SECOND
    # A call that has said nothing for so long has died with its process: it is made again, with the same key.
    lease: int = 120 * SECOND
    # How often is looked for what the loader has not brought yet.
    look: int = SECOND // 4


@dataclass(frozen=True)
class Step:
    """One ErasureRequested. `alias`: 16 bytes; `occurred_at`: ms."""

    request_id: UUID
    alias: bytes
    occurred_at: int
    step: str
    origin: str = "person"
    regulation: str = "pipl"
    verified_by: str = ""
    ground: str = ""
    requester: str = ""
    callback_urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Disclosure:
    """The data of one subject that reached a recipient: how far from the app, and when last. `hop` None: its discloser
    is not seen to have got the data. `recipient` `public`: a publication."""

    recipient: str
    hop: int | None
    last_at: int


@dataclass(frozen=True)
class Route:
    """How a recipient is asked: the connector's `protocol`, or why it is not: `exempt` with its ground."""

    protocol: str
    exempt: str = ""


@dataclass(frozen=True)
class Target:
    """One recipient or own store (`store:NAME`). Fields as in ErasureState."""

    id: str
    hop: int | None = None
    state: str = "waiting"
    grade: str = "none"
    protocol: str = "manual"
    round: int = 0
    attempts: int = 0
    next_at: int | None = None
    dispatched_at: int | None = None
    ended_at: int | None = None
    disclosed_at: int | None = None
    detail: str = ""
    ground: str = ""
    reference: str = ""
    evidence: tuple[str, ...] = ()
    claimed_at: int | None = None

    @property
    def is_store(self) -> bool:
        return self.id.startswith(STORE)

    @property
    def is_final(self) -> bool:
        return self.state in FINAL


@dataclass(frozen=True)
class Callback:
    """Where an OpenDSR client wants to hear of each change. `told`: the last status that was taken there."""

    url: str
    request_id: UUID | None = None
    told: str = ""
    attempts: int = 0
    next_at: int | None = None


@dataclass(frozen=True)
class Request:
    """One erasure request. Fields as in ErasureState; times in ms."""

    request_id: UUID
    received_at: int
    alias: bytes | None = None
    subject: UUID | None = None
    version: int = 1
    state: str = "received"
    origin: str = "person"
    regulation: str = "pipl"
    requester: str = ""
    verified_by: str = ""
    verified_at: int | None = None
    due_at: int | None = None
    next_at: int | None = None
    hold: str = ""
    ground: str = ""
    joined: UUID | None = None
    fence_partition: int | None = None
    fence_offset: int | None = None
    erased_at: int | None = None
    ended_at: int | None = None
    targets: tuple[Target, ...] = ()
    alarms: tuple[str, ...] = ()
    history: tuple[tuple[int, str], ...] = ()
    callbacks: tuple[Callback, ...] = ()
    certificate: str = ""

    @property
    def is_ended(self) -> bool:
        return self.state in ENDED

    @property
    def recipients(self) -> list[Target]:
        return [target for target in self.targets if not target.is_store]

    def target(self, target_id: str) -> Target | None:
        return next((target for target in self.targets if target.id == target_id), None)

    def key(self, target: Target) -> UUID:
        """The idempotency key of every command of the target's round."""
        return idempotency_key(self.request_id, target.id, target.round)


# What is due


@dataclass(frozen=True)
class Due:
    """What a request wants done now. `locate`: find its fence; `dispatch`, `check`: targets to ask, to ask after;
    `give_up`: the term is over; `tell_erased`: fix `erased_at` and let the tagger drop the link; `purge`: once the
    loader has passed the tagger's answer; `callbacks`: URLs to tell."""

    locate: bool = False
    dispatch: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    give_up: bool = False
    tell_erased: bool = False
    purge: bool = False
    callbacks: tuple[Callback, ...] = field(default=())


def due(request: Request, now: int, terms: Terms) -> Due:
    """What is due at `now`."""
    callbacks = tuple(c for c in request.callbacks if is_untold(c, request) and (c.next_at or 0) <= now)
    if request.is_ended or request.hold or request.verified_at is None:
        return Due(callbacks=callbacks)
    if request.fence_offset is None:
        return Due(locate=True, callbacks=callbacks)
    open_targets = [t for t in request.recipients if not t.is_final]
    if not open_targets:
        told = request.erased_at is not None
        return Due(tell_erased=not told, purge=told, callbacks=callbacks)
    if now >= _last_moment(request, terms):
        return Due(give_up=True, callbacks=callbacks)
    ready = [t for t in open_targets if t.next_at is not None and t.next_at <= now]
    return Due(
        dispatch=tuple(t.id for t in ready if t.state == "waiting"),
        check=tuple(t.id for t in ready if t.state != "waiting"),
        callbacks=callbacks,
    )


def due_next(request: Request, now: int, terms: Terms) -> Request:
    """The request with `state` and `next_at` as they follow from the rest of it."""
    if request.is_ended:
        return request
    state, times = request.state, [c.next_at or now for c in request.callbacks if is_untold(c, request)]
    open_targets = [t for t in request.recipients if not t.is_final]
    if request.verified_at is None:
        state = "received"
    elif request.fence_offset is None:
        state = "enumerating" if request.subject is not None else "verified"
        times.append(now + terms.look)
    elif not open_targets:
        state = "purging"
        times.append(now if request.erased_at is None else now + terms.look)
    else:
        state = "dispatching" if any(t.state == "waiting" for t in open_targets) else "awaiting"
        times.append(_last_moment(request, terms))
        times += [t.next_at for t in open_targets if t.next_at is not None]
    changed = replace(request, state=state)
    if state != request.state:
        # A change of status is to be told.
        times += [c.next_at or now for c in changed.callbacks if is_untold(c, changed)]
    if request.hold:
        times = [c.next_at or now for c in changed.callbacks if is_untold(c, changed)]
    return replace(changed, next_at=min(times, default=None))


def _last_moment(request: Request, terms: Terms) -> int:
    assert request.due_at is not None
    return request.due_at - terms.margin


def opendsr_status(state: str) -> str:
    """OpenDSR 2.0 §8.3 knows four."""
    if state in ("completed", "partially_completed"):
        return "completed"
    if state in ("cancelled", "refused"):
        return "cancelled"
    return "pending" if state in ("received", "verified", "enumerating") else "in_progress"


def is_untold(callback: Callback, request: Request) -> bool:
    return callback.told != opendsr_status(request.state)


# Shared by the changes


def noted(request: Request, now: int, text: str) -> Request:
    """With one more line of history."""
    return replace(request, history=(*request.history, (now, text))[-MOST_MOMENTS:])


def with_target(request: Request, target: Target) -> Request:
    """With one target new or changed."""
    targets = request.targets
    if any(t.id == target.id for t in targets):
        return replace(request, targets=tuple(target if t.id == target.id else t for t in targets))
    return replace(request, targets=(*targets, target))


def ended(request: Request, state: str, now: int) -> Request:
    """In a final state, tied to no one any more."""
    callbacks = tuple(replace(c, next_at=now) for c in request.callbacks)
    done = replace(
        request, state=state, ended_at=now, alias=None, subject=None, next_at=None, callbacks=callbacks, hold=""
    )
    return noted(done, now, state)


# As a record


def to_record(request: Request) -> dict[str, Any]:
    """An ErasureState."""
    record = {name: getattr(request, name) for name in Request.__dataclass_fields__}
    for name in ("request_id", "subject", "joined"):
        record[name] = None if record[name] is None else record[name].bytes
    record["targets"] = [{**vars(t), "evidence": list(t.evidence)} for t in request.targets]
    record["alarms"] = list(request.alarms)
    record["history"] = [{"occurred_at": at, "text": text} for at, text in request.history]
    record["callbacks"] = [
        {**vars(c), "request_id": None if c.request_id is None else c.request_id.bytes} for c in request.callbacks
    ]
    return record


def from_record(record: Mapping[str, Any]) -> Request:
    """The request that an ErasureState (times in ms, ids in bytes) tells of."""
    fields = dict(record)
    for name in ("request_id", "subject", "joined"):
        fields[name] = None if fields[name] is None else UUID(bytes=fields[name])
    fields["targets"] = tuple(Target(**{**t, "evidence": tuple(t["evidence"])}) for t in record["targets"])
    fields["alarms"] = tuple(record["alarms"])
    fields["history"] = tuple((moment["occurred_at"], moment["text"]) for moment in record["history"])
    fields["callbacks"] = tuple(
        Callback(**{**c, "request_id": None if c["request_id"] is None else UUID(bytes=c["request_id"])})
        for c in record["callbacks"]
    )
    return Request(**fields)
