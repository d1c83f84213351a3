"""Metrics for Prometheus: erasures as the projection has them at the moment of the scrape, and callbacks counted here.

Only numbers: no request and no recipient is named.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from threading import Lock

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from processors.erasure import ENDED, FINAL
from sinks.clickhouse.erasure_overview import ErasureOverview, erasure_overview
from sinks.clickhouse.errors import ClickHouseError
from sinks.clickhouse.pool import ClickHousePool

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_DAY = 86_400
_DUE_DAYS = (0, 1, 2, 3, 5, 7, 10, 14, 21, 30)
_STATES = ("received", "verified", "enumerating", "dispatching", "awaiting", "purging", *sorted(ENDED))
_TARGET_STATES = ("waiting", "dispatched", "acknowledged", *sorted(FINAL))
_CALLBACKS = ("accepted", "refused", "unknown", "unavailable")
# Scrapes by several, or by anybody, cost the database no more than this.
_FRESH_SECONDS = 5.0


class ApiMetrics:
    """The metrics of one API process."""

    def __init__(self, clickhouse: ClickHousePool) -> None:
        self._registry = CollectorRegistry()
        self._callbacks = Counter(
            "lineage_erasure_callbacks",
            "Callbacks of recipients, by what became of them.",
            ["outcome"],
            registry=self._registry,
        )
        for outcome in _CALLBACKS:
            self._callbacks.labels(outcome)
        self._registry.register(_Erasures(clickhouse))

    def count_callback(self, outcome: str) -> None:
        self._callbacks.labels(outcome).inc()

    def text(self) -> bytes:
        """The exposition, in Prometheus' text format. Asks ClickHouse."""
        return generate_latest(self._registry)


class _Erasures(Collector):
    def __init__(self, clickhouse: ClickHousePool) -> None:
        self._clickhouse = clickhouse
        self._lock = Lock()
        self._found: ErasureOverview | None = None
        self._asked_at = float("-inf")

    def describe(self) -> Iterable[Metric]:
        # Registering must not ask the database.
        return []

    def collect(self) -> Iterable[Metric]:
        found = self._overview()
        yield GaugeMetricFamily(
            "lineage_erasure_projection_up", "1: the numbers of erasures can be read.", value=float(found is not None)
        )
        if found is None:
            return
        states = GaugeMetricFamily("lineage_erasure_requests", "Erasure requests by state.", labels=["state"])
        for state in dict.fromkeys((*_STATES, *found.states)):
            states.add_metric([state], found.states.get(state, 0))
        yield states
        yield GaugeMetricFamily(
            "lineage_erasure_overdue", "Open erasure requests whose term has ended.", value=found.overdue
        )
        due = GaugeHistogramMetricFamily(
            "lineage_erasure_due_in_seconds", "Open erasure requests by the time left of their term."
        )
        buckets: list[tuple[str, float]] = [(str(float(bound)), count) for bound, count in found.due_within.items()]
        due.add_metric([], [*buckets, ("+Inf", found.due)], gsum_value=found.due_sum)
        yield due
        targets = GaugeMetricFamily(
            "lineage_erasure_targets", "Targets of erasure requests.", labels=["state", "grade"]
        )
        for state in _TARGET_STATES:
            if not any(known == state for known, _ in found.targets):
                targets.add_metric([state, "none"], 0)
        for (state, grade), count in sorted(found.targets.items()):
            targets.add_metric([state, grade], count)
        yield targets
        yield GaugeMetricFamily(
            "lineage_erasure_alarms", "What contradicts a recipient's own word, of all requests.", value=found.alarms
        )

    def _overview(self) -> ErasureOverview | None:
        with self._lock:
            if time.monotonic() - self._asked_at > _FRESH_SECONDS:
                try:
                    with self._clickhouse.client() as client:
                        self._found = erasure_overview(client, [days * _DAY for days in _DUE_DAYS])
                except ClickHouseError as error:
                    log.warning("metrics: %s", error)
                    self._found = None
                self._asked_at = time.monotonic()
            return self._found
