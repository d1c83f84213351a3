"""Steps of an erasure request that come from outside: received, verified, cancelled, refused, held, released; and the
callbacks that tell of its changes.

Pure. A step may come again, after a crash or twice from outside, and must then change nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from processors.erasure import SECOND, Callback, Request, Step, Terms, due_next, ended, is_untold, noted


def take_step(known: Request | None, open_of_person: Request | None, step: Step, terms: Terms) -> list[Request]:
    """What a step changes: the requests as they are then, none if nothing changes.

    known: the request of the step's id; open_of_person: the open request of the same alias, if there is one.
    """
    if known is None:
        if step.step not in ("received", "verified"):
            return []
        return _opened(open_of_person, step, terms)
    if known.state == "joined" and step.step == "verified" and open_of_person is not None:
        return [_verified(open_of_person, step, terms)] if open_of_person.verified_at is None else []
    if known.is_ended:
        return []
    changed = _STEPS.get(step.step, _unchanged)(known, step, terms)
    return [changed] if changed is not known else []


def _opened(open_of_person: Request | None, step: Step, terms: Terms) -> list[Request]:
    callbacks = tuple(Callback(url) for url in dict.fromkeys(step.callback_urls))
    new = Request(
        step.request_id,
        step.occurred_at,
        alias=step.alias,
        origin=step.origin,
        regulation=step.regulation,
        requester=step.requester,
        callbacks=callbacks,
        history=((step.occurred_at, f"received ({step.origin})"),),
    )
    if open_of_person is None:
        return [_verified(new, step, terms) if step.step == "verified" else due_next(new, step.occurred_at, terms)]
    joined = replace(new, state="joined", alias=None, joined=open_of_person.request_id, callbacks=())
    told = tuple(replace(callback, request_id=step.request_id) for callback in callbacks)
    main = noted(replace(open_of_person, callbacks=(*open_of_person.callbacks, *told)), step.occurred_at, "asked again")
    if step.step == "verified" and main.verified_at is None:
        main = _verified(main, step, terms)
    return [replace(joined, ended_at=step.occurred_at), due_next(main, step.occurred_at, terms)]


def _verified(request: Request, step: Step, terms: Terms) -> Request:
    if request.verified_at is not None:
        return request
    at = step.occurred_at
    verified = replace(
        request,
        state="verified",
        verified_at=at,
        due_at=at + terms.response,
        verified_by=step.verified_by or request.verified_by,
    )
    return due_next(noted(verified, at, f"identity verified: {step.verified_by or 'not said by whom'}"), at, terms)


def _withdrawn(request: Request, step: Step, _terms: Terms) -> Request:
    """Cancelled or refused, as long as nothing has been sent."""
    if request.erased_at is not None or any(target.attempts for target in request.targets):
        return noted(request, step.occurred_at, f"cannot be {step.step} any more: recipients have been asked")
    return ended(replace(request, ground=step.ground), step.step, step.occurred_at)


def _held(request: Request, step: Step, terms: Terms) -> Request:
    hold = (step.ground or "no ground given") if step.step == "held" else ""
    if hold == request.hold:
        return request
    text = f"held: {hold}" if hold else "released"
    return due_next(noted(replace(request, hold=hold), step.occurred_at, text), step.occurred_at, terms)


def _unchanged(request: Request, _step: Step, _terms: Terms) -> Request:
    return request


_STEPS: Mapping[str, Callable[[Request, Step, Terms], Request]] = {
    "verified": _verified,
    "cancelled": _withdrawn,
    "refused": _withdrawn,
    "held": _held,
    "released": _held,
}


def called_back(request: Request, callback: Callback, status: str, taken: bool, now: int, terms: Terms) -> Request:
    """A callback was sent and taken, or not taken and to be tried again; after a day of failures it is given up."""
    attempts = callback.attempts + 1
    if taken:
        done = replace(callback, told=status, attempts=0, next_at=None)
    elif attempts > 24:
        done = replace(callback, told=status, attempts=attempts, next_at=None)
        request = noted(request, now, f"a callback was not taken {attempts} times: given up")
    else:
        wait = min(terms.first_backoff * 2 ** min(attempts, 20), 3600 * SECOND)
        done = replace(callback, attempts=attempts, next_at=now + wait)
    callbacks = tuple(done if (c.url, c.request_id) == (done.url, done.request_id) else c for c in request.callbacks)
    request = replace(request, callbacks=callbacks)
    if request.is_ended:
        untold = [c.next_at or now for c in callbacks if is_untold(c, request)]
        return replace(request, next_at=min(untold, default=None))
    return due_next(request, now, terms)
