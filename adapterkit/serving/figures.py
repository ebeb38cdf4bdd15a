"""What a service counts, for Prometheus: per task, version and arm; never a text."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from adapterkit.serving.fleet import Fleet

if TYPE_CHECKING:
    from adapterkit.serving.work import Done, Item

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_WHOSE = ("task", "version", "arm")
MOST_SERIES = 256
"""Versions of arms that have figures of their own. Beyond it those that no route leads to any more lose theirs."""


class Figures:
    """The counters of one service."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, self._registry = fleet, CollectorRegistry()
        into = self._registry
        self._answers = Counter("adapterkit_answers", "Answers that were given.", _WHOSE, registry=into)
        self._errors = Counter("adapterkit_row_errors", "Rows that got an error.", ("task", "code"), registry=into)
        self._seconds = Histogram(
            "adapterkit_answer_seconds", "From asked to answered.", ("task",), buckets=_SECONDS, registry=into
        )
        self._batch = Histogram(
            "adapterkit_batch_rows", "Rows answered together.", buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=into
        )
        self._confidence = Histogram(
            "adapterkit_confidence",
            "Confidence of answers.",
            _WHOSE,
            buckets=[n / 10 for n in range(1, 11)],
            registry=into,
        )
        self._feedback = Counter(
            "adapterkit_feedback", "Feedback on answers.", ("task", "version", "right"), registry=into
        )
        self._known: set[tuple[str, str, str]] = set()
        self._mounted = Gauge("adapterkit_mounted", "Adapters that are mounted.", registry=into)
        self._waiting = Gauge("adapterkit_waiting_rows", "Rows that wait.", registry=into)

    def include(self, collector: Any) -> None:
        """Give the figures of somebody else as well."""
        self._registry.register(collector)

    def observe(self, item: Item, done: Done) -> None:
        """Count one answer or error. A task that is not there is counted under no name of the client's."""
        task = item.task if item.task in self._fleet.routes else ""
        self._batch.observe(done.batch_rows)
        self._seconds.labels(task).observe(time.monotonic() - item.since)
        if done.receipt is None:
            self._errors.labels(task, done.error.code if done.error else "internal").inc()
            return
        whose = (done.receipt.task, done.receipt.version, done.receipt.arm)
        if whose not in self._known:
            self._make_room()
            self._known.add(whose)
        self._answers.labels(*whose).inc()
        if isinstance(done.answer, dict) and isinstance(done.answer.get("confidence"), float):
            self._confidence.labels(*whose).observe(done.answer["confidence"])

    def feedback(self, task: str, version: str, right: bool) -> None:
        """Count what a client said of an answer; of versions that are routed alone, so that labels stay few."""
        known = {arm.version for arm in self._fleet.routes[task].arms.values()}
        self._feedback.labels(task, version if version in known else "", str(right).lower()).inc()

    def _make_room(self) -> None:
        """A service that swaps versions for months keeps the figures of the last few hundred, not of all."""
        if len(self._known) < MOST_SERIES:
            return
        routed = {
            (task, arm.version, name) for task, route in self._fleet.routes.items() for name, arm in route.arms.items()
        }
        versions = {(task, version) for task, version, _ in routed}
        for task, version, arm in self._known - routed:
            self._answers.remove(task, version, arm)
            self._confidence.remove(task, version, arm)
            if (task, version) not in versions:
                self._feedback.remove_by_labels({"task": task, "version": version})
            if task not in self._fleet.routes:
                self._errors.remove_by_labels({"task": task})
                self._seconds.remove_by_labels({"task": task})
        self._known &= routed

    def text(self, waiting: int) -> bytes:
        """All figures in Prometheus's own format."""
        self._mounted.set(len(self._fleet.host))
        self._waiting.set(waiting)
        return generate_latest(self._registry)
