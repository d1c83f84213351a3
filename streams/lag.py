"""How far each job is behind: end offsets of what it reads against its group's committed offsets. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streams.topology import JOBS

Ends = dict[tuple[str, int], int]

# One stage after the other: what the first has done is what the second must have read.
# What is revised is loaded as well; nothing that a revision leads to asks for another.
STAGES: tuple[tuple[str, ...], ...] = (("tagger",), ("loader", "links"), ("revisions",), ("loader",))
# Steps of erasures lead to markers in the log, those to targets, and their ends to the log again.
ERASURE_STAGES: tuple[tuple[str, ...], ...] = (("erasures",), ("tagger",), ("loader", "links"), ("requests",))
POLL_SECONDS = 0.05
BUSY_SECONDS = 0.3
REQUEST_SECONDS = 10.0


def end_offsets(
    admin: AdminClient,
    topics: Iterable[str],
    timeout: float = REQUEST_SECONDS,
    isolation: IsolationLevel = IsolationLevel.READ_COMMITTED,
) -> Ends:
    """Of every partition, the offset behind the last that a `read_committed` reader can reach, markers included; with
    READ_UNCOMMITTED behind the last that was written at all.

    Topics that are not there have none. Raises `KafkaException`.
    """
    wanted = set(topics)
    existing = admin.list_topics(timeout=timeout).topics
    asked = {
        TopicPartition(topic, partition): OffsetSpec.latest()
        for topic in wanted & existing.keys()
        for partition in existing[topic].partitions
    }
    if not asked:
        return {}
    futures = admin.list_offsets(asked, isolation_level=isolation, request_timeout=timeout)
    return {(tp.topic, tp.partition): future.result(timeout).offset for tp, future in futures.items()}


def committed_offsets(admin: AdminClient, group: str, timeout: float = REQUEST_SECONDS) -> Ends:
    """What a group has committed; partitions without a commit are left out. Raises `KafkaException`."""
    [future] = admin.list_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(group)], request_timeout=timeout
    ).values()
    partitions = future.result(timeout).topic_partitions
    for tp in partitions:
        if tp.error is not None:
            raise KafkaException(tp.error)
    return {(tp.topic, tp.partition): tp.offset for tp in partitions if tp.offset >= 0}


def lags(admin: AdminClient, timeout: float = REQUEST_SECONDS) -> dict[str, int]:
    """Job → how many offsets it is behind, over all its partitions. Raises `KafkaException`."""
    ends = end_offsets(admin, {topic for job in JOBS for topic in _topics(job)}, timeout)
    return {job: _behind(admin, job, ends, timeout) for job in JOBS}


def _furthest(admin: AdminClient, job: str, ends: Mapping[tuple[str, int], int]) -> str:
    """Where a job is furthest behind, in words."""
    committed = _committed(admin, job)
    mine = {tp: end for tp, end in ends.items() if tp[0] in _topics(job)}
    topic, partition = max(mine, key=lambda tp: mine[tp] - committed.get(tp, 0))
    at = committed.get((topic, partition), 0)
    return f"{job} stands at {at} of {ends[topic, partition]} in {topic}/{partition}"


def _behind(admin: AdminClient, job: str, ends: Mapping[tuple[str, int], int], timeout: float = REQUEST_SECONDS) -> int:
    committed = _committed(admin, job, timeout)
    return sum(max(0, end - committed.get(tp, 0)) for tp, end in ends.items() if tp[0] in _topics(job))


def _topics(job: str) -> tuple[str, ...]:
    return JOBS[job].reads + JOBS[job].sweeps


def _committed(admin: AdminClient, job: str, timeout: float = REQUEST_SECONDS) -> Ends:
    committed = committed_offsets(admin, job, timeout)
    return committed | committed_offsets(admin, sweeps_group(job), timeout) if JOBS[job].sweeps else committed


def sweeps_group(job: str) -> str:
    """The group whose offsets say up to which entry of the reference data a job has swept."""
    return f"{job}-sweeps"


class NotDoneError(Exception):
    """The time was up with `lag` left: job → offsets."""

    def __init__(self, lag: Mapping[str, int], seconds: float, where: str) -> None:
        behind = ", ".join(f"{job} is {left} behind" for job, left in lag.items() if left)
        super().__init__(f"not everything is done after {seconds:.0f} s: {behind} ({where})")
        self.lag = dict(lag)


def wait_until_done(
    admin: AdminClient,
    timeout: float,
    check: Callable[[], None] = lambda: None,
    progress: Callable[[dict[str, int]], None] = lambda _: None,
    busy_erasures: Callable[[], int] = lambda: 0,
) -> None:
    """Returns once all that was in the input topics when it was called has gone through every job, and no erasure has
    anything to do by itself (`busy_erasures`: how many have).

    `check` is called at every look and raises to give up; `progress` gets the lag of the jobs of a stage. A stage's
    ends are taken when the one before has reached its own, so everything that stage wrote is in them.
    Raises `NotDoneError` after `timeout` seconds, `KafkaException`.
    """
    deadline = time.monotonic() + timeout
    for stage in STAGES:
        _await_stage(admin, stage, deadline, timeout, check, progress)
    while True:
        for stage in ERASURE_STAGES:
            _await_stage(admin, stage, deadline, timeout, check, progress)
        busy = busy_erasures()
        if not busy:
            # What the last of them wrote.
            _await_stage(admin, ("requests",), deadline, timeout, check, progress)
            return
        check()
        progress({"erasures": busy})
        if time.monotonic() > deadline:
            raise NotDoneError({"erasures": busy}, timeout, f"{busy} erasures have something to do: lineage requests")
        time.sleep(BUSY_SECONDS)


def _await_stage(
    admin: AdminClient,
    stage: tuple[str, ...],
    deadline: float,
    timeout: float,
    check: Callable[[], None],
    progress: Callable[[dict[str, int]], None],
) -> None:
    ends = end_offsets(admin, {topic for job in stage for topic in _topics(job)})
    while True:
        check()
        left = {job: _behind(admin, job, ends) for job in stage}
        progress(left)
        if not any(left.values()):
            return
        if time.monotonic() > deadline:
            where = ", ".join(_furthest(admin, job, ends) for job, behind in left.items() if behind)
            raise NotDoneError(left, timeout, where)
        time.sleep(POLL_SECONDS)
