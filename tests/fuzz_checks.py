"""What schemathesis is told of the audit API that no OpenAPI description can say; loaded by it (SCHEMATHESIS_HOOKS)."""

from typing import Any

import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance

# Refusals of what has the right shape: values that do not fit each other, cursors that no answer has given, reasons
# that are no text.
_UNDESCRIBABLE = (
    "bad_cursor",
    "reason_required",
    "all_revisions are as stored",
    "body.to: must be later than body.from",
    "must lie between 1970 and 2148",
    "must be valid Unicode",
)


@schemathesis.check
def valid_data_accepted(ctx: Any, response: Any, case: Any) -> bool | None:
    """As `positive_data_acceptance`, but for what cannot be described."""
    if response.status_code == 400 and any(text in response.text for text in _UNDESCRIBABLE):
        return True
    return positive_data_acceptance(ctx, response, case)
