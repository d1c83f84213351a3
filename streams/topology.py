"""The system in a page: every job as topics → processors → topics or sink. Read this first.

One direction, no circles. Each job is a consumer group of its own name; `lineage worker NAME` runs one worker of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from processors.consent import timeline
from processors.erasure import due
from processors.erasure_steps import take_step
from processors.erasure_targets import enumerate_targets, take_answer
from processors.judge import Judge
from processors.revising import judge_again
from streams.topics import (
    CONSENT,
    DEAD_LETTERS,
    ERASED_SUBJECTS,
    ERASURE_COMMANDS,
    ERASURE_RECEIPTS,
    ERASURE_REQUESTS,
    ERASURE_STATE,
    IDENTITIES,
    LINEAGE,
    LINEAGE_SEALS,
    POLICIES,
    RECIPIENTS,
    REVISION_REQUESTS,
    SHARING,
    SUBJECT_STATE,
    TELEMETRY,
    VIOLATIONS,
)


@dataclass(frozen=True)
class Job:
    """`reads` by offsets of the group `name`; `follows` reference data and its own changelog, from their beginning;
    `through` the processors that do the thinking; `writes` topics, `sink` a table. `guarantee` in a few words."""

    name: str
    reads: tuple[str, ...]
    through: tuple[Callable[..., Any], ...]
    guarantee: str
    follows: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    sink: str | None = None
    # Reference data that the job works through, by offsets of the group `NAME-sweeps`.
    sweeps: tuple[str, ...] = ()


JOBS: dict[str, Job] = {
    job.name: job
    for job in (
        # streams/tagger.py
        Job(
            "tagger",
            reads=(CONSENT, TELEMETRY, SHARING, ERASURE_REQUESTS),
            follows=(POLICIES, RECIPIENTS, SUBJECT_STATE),
            through=(timeline, Judge.judge),
            writes=(LINEAGE, VIOLATIONS, ERASED_SUBJECTS, SUBJECT_STATE, DEAD_LETTERS),
            guarantee="exactly once: one Kafka transaction a batch",
        ),
        # streams/loader.py
        Job(
            "loader",
            reads=(LINEAGE,),
            follows=(ERASED_SUBJECTS,),
            through=(),
            writes=(REVISION_REQUESTS, LINEAGE_SEALS),
            sink="lineage",
            guarantee="exactly once: the intent in the committed offset, rows counted by Kafka coordinates",
        ),
        # streams/projector.py, projections.py
        Job(
            "links",
            reads=(SUBJECT_STATE,),
            through=(),
            sink="subjects",
            guarantee="at least once, idempotent: the highest offset of an alias counts",
        ),
        # streams/workflows/
        Job(
            "revisions",
            reads=(REVISION_REQUESTS,),
            sweeps=(POLICIES, RECIPIENTS),
            through=(timeline, judge_again),
            writes=(LINEAGE, VIOLATIONS),
            guarantee="at least once, idempotent: only what would be judged otherwise is written, by one worker",
        ),
        # streams/workflows/
        Job(
            "erasures",
            reads=(ERASURE_REQUESTS, ERASURE_RECEIPTS),
            follows=(POLICIES, RECIPIENTS, ERASURE_STATE, IDENTITIES),
            through=(take_step, enumerate_targets, take_answer, due),
            writes=(ERASURE_STATE, ERASURE_REQUESTS, ERASURE_COMMANDS, ERASED_SUBJECTS, IDENTITIES),
            guarantee="level-triggered: each change in one Kafka transaction; calls carry idempotency keys; one worker",
        ),
        # streams/projector.py, projections.py
        Job(
            "requests",
            reads=(ERASURE_STATE,),
            through=(),
            sink="erasure_requests",
            guarantee="at least once, idempotent: the highest offset of a request counts",
        ),
    )
}
