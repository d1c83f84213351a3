"""What a certificate of erasure says, for a page. Pure.

Anybody may sign anything with a key of their own: what is not laid out as a certificate is not shown as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from processors.certificate_text import certificate_lines

Claims = Mapping[str, Any]


def shown_certificate(claims: Claims | None) -> Claims | None:
    """The claims, if they are laid out as those of a certificate, with `remains` put together by the reason why they
    name no one (`why_no_one` → what remains); None: they are not, or there are none."""
    if claims is None:
        return None
    try:
        # Reads every field that is shown.
        list(certificate_lines(claims))
        by_reason: dict[str, list[Any]] = {}
        for one in claims["remains"]:
            by_reason.setdefault(one["why_no_one"], []).append(one)
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    return {**claims, "remains": by_reason}
