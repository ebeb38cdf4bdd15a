"""What is seen of every version while it answers: counted, guarded, and acted upon, off the path of the answers.

The thread that answers only puts what it has done into a queue. One thread takes it from there, counts, and takes a
version off that broke a guard of the rules.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from adapterkit.errors import AdapterkitError
from adapterkit.serving.alerts import Alerts
from adapterkit.serving.beside import Beside
from adapterkit.serving.drifts import Drifts
from adapterkit.serving.fleet import Fleet
from adapterkit.serving.guarded import TOLD
from adapterkit.serving.shadows import Shadowed, Shadows
from adapterkit.traffic import Rules, Tally, verdicts_of

if TYPE_CHECKING:
    from adapterkit.serving.work import Done, Item

logger = logging.getLogger(__name__)

TakeOff = Callable[[str, str, str, Mapping[str, Any]], str]
"""Task, arm, digest and reason -> what was done about a version that broke a guard."""
WAITING = 65_536
_FIGURES = {
    "right_share": "Answers that feedback called right.",
    "differing_share": "Answers of a shadow that differ.",
    "label_shift": "Population stability index of answered labels against those trained on.",
    "drift_distance": "Energy distance of the last rows from the reference.",
    "drifted": "Whether the last rows were unlike the reference.",
}
KEPT_EVENTS = 100
ASIDE_S = 0.002
"""Before what came alone is counted, so that the thread which sends the answer comes first."""


@dataclass
class Observed:
    """What was seen of a version: since it is routed, and in the window that guards look at."""

    whole: Tally
    window: Tally
    tripped: bool = False


class Watch:
    """Counts what a service answers, per version, by rules: bounds, and whom to tell.
    `take_off`: takes a version off; None goes back to what answered before it was mounted. `shadow_log`: where the rows
    go that a shadow answers otherwise, as JSON lines. `busy`: says whether rows wait for an answer; shadows then wait.
    """

    def __init__(
        self, fleet: Fleet, rules: Rules | None = None, take_off: TakeOff | None = None, shadow_log: Path | None = None
    ) -> None:
        self.busy: Callable[[], bool] = lambda: False
        self._shadows = Shadows(fleet, self._shadowed, shadow_log, lambda: self.busy())
        self._drifts = Drifts(fleet, rules or Rules(), self.tell, lambda: self.busy())
        self._fleet, self._rules = fleet, rules or Rules()
        self._take_off = take_off or self._back
        self._seen: dict[tuple[str, str], Observed] = {}
        self._lock = threading.Lock()
        self._counting = Beside[Callable[[], None]](
            "adapterkit-watch", lambda calls: calls[0](), waiting=WAITING, together=1, aside_s=ASIDE_S
        )
        self.alerts = Alerts([str(address) for address in self._rules.alerts])
        self.events: deque[dict[str, Any]] = deque(maxlen=KEPT_EVENTS)

    def start(self) -> None:
        """Begin to count."""
        self._counting.start()
        self._shadows.spare_time.start()
        self._drifts.spare_time.start()

    def stop(self) -> None:
        """Count what waits, and end."""
        for beside in (self._shadows.spare_time, self._drifts.spare_time):
            beside.stop(at_once=True, patience_s=5.0)
        self._shadows.close()
        self._counting.stop()
        self.alerts.stop()

    def observe(self, item: Item, done: Done) -> None:
        """Take note of an answer or an error. Nothing is computed here, where others wait for their answers."""
        seconds = time.monotonic() - item.since
        self._counting.offer(lambda: self._answered(item, done, seconds))

    def feedback(self, task: str, version: str, right: bool) -> None:
        """Take note of what a client said of an answer of a version that is routed."""
        self._counting.offer(lambda: self._told(task, version, right))

    def flush(self) -> None:
        """Wait until all that came so far is counted."""
        counted = threading.Event()
        self._counting.offer(counted.set, wait=True)
        counted.wait()

    def facts(self) -> dict[str, Any]:
        """What was seen, as JSON; docs/concepts/traffic.md shows it."""
        with self._lock:
            tasks = {task: self._facts(task) for task in sorted(self._fleet.routes)}
            alerts = {"sent": self.alerts.sent, "lost": self.alerts.lost}
            left_out = {"unseen": self._counting.left_out, "unshadowed": self._shadows.spare_time.left_out}
            return {"tasks": tasks, "events": list(self.events), "alerts": alerts, **left_out}

    def _facts(self, task: str) -> dict[str, Any]:
        route, versions, told = self._fleet.routes[task], [], {}
        beside = self._rules.of(task).shadow or ""
        for arm, found in [*route.arms.items(), *([(beside, route.shadow)] if route.shadow is not None else [])]:
            seen = self._seen.get((task, found.digest))
            tally = Tally() if seen is None else seen.whole
            if found is not route.shadow:
                told[arm] = (tally.right, tally.told)
            whose = {"version": found.version, "artifact": found.digest, "arm": arm, "shadow": found is route.shadow}
            versions.append({**whose, **tally.facts(), **self._drifts.facts(found.digest, tally.labels)})
        return {"versions": versions, "verdicts": [asdict(verdict) for verdict in verdicts_of(told)]}

    def _answered(self, item: Item, done: Done, seconds: float) -> None:
        if done.receipt is not None:
            task, arm, digest = done.receipt.task, done.receipt.arm, done.receipt.artifact
        elif done.error is None or isinstance(done.error, TOLD):
            return  # the client's own affair
        else:
            try:
                route, arm = self._fleet.find(item.task, item.key)
            except AdapterkitError:
                return
            task, digest = item.task, route.arms[arm].digest
        limit_ms = self._rules.of(task).guards.latency_ms
        limit_s = None if limit_ms is None else limit_ms / 1000
        answered = Tally.error if done.receipt is None else lambda tally: tally.answer(done.answer, seconds, limit_s)
        self._count(task, arm, digest, answered)
        if done.receipt is not None and item.generation is None:
            self._drifts.seen(item.row, done.answer, done.receipt)
            routed, rules = self._fleet.routes.get(task), self._rules.of(task)
            if routed is not None and routed.shadow is not None and routed.shadow.digest != digest:
                offered = Shadowed(item.row, done.answer, done.receipt, routed.shadow, rules.log_rows)
                self._shadows.spare_time.offer(offered, rules.shadow_share)

    def _shadowed(self, asked: Shadowed, same: bool | None) -> None:
        task, compared = asked.receipt.task, Tally.error if same is None else lambda tally: tally.compare(same)
        arm = self._rules.of(task).shadow or ""
        self._counting.offer(lambda: self._count(task, arm, asked.shadow.digest, compared))

    def _told(self, task: str, version: str, right: bool) -> None:
        route = self._fleet.routes.get(task)
        for arm, found in () if route is None else route.arms.items():
            if found.version == version:
                self._count(task, arm, found.digest, lambda tally: tally.feedback(right))
                return

    def _count(self, task: str, arm: str, digest: str, act: Callable[[Tally], None]) -> None:
        """Count twice, for what is told and for the guards, and take a version off that has broken one, once in a
        window."""
        with self._lock:
            seen = self._of(task, digest)
            act(seen.whole)
            act(seen.window)
        tripped = None if seen.tripped else self._rules.of(task).guards.tripped(seen.window)
        if tripped is None:
            return
        seen.tripped = True
        why = {"guard": tripped.guard, "evidence": tripped.as_json(), "detail": str(tripped)}
        did = self._take_off(task, arm, digest, why)
        with self._lock:
            self._forget()
        self.tell("guard", task, arm, digest, why, did)

    def _of(self, task: str, digest: str) -> Observed:
        """What was seen of a version. What is routed no more is forgotten when another comes."""
        guards, key = self._rules.of(task).guards, (task, digest)
        if key not in self._seen:
            self._forget()
            self._seen[key] = Observed(Tally(), guards.tally())
        found = self._seen[key]
        if found.window.rows >= guards.window:
            found.window, found.tripped = guards.tally(), False
        return found

    def _forget(self) -> None:
        routed = {(task, arm.digest) for task, route in self._fleet.routes.items() for arm in route.everything}
        self._seen = {key: seen for key, seen in self._seen.items() if key in routed}

    def collect(self) -> Iterator[Metric]:
        """Figures for Prometheus, of what is routed."""
        found = {
            name: GaugeMetricFamily(f"adapterkit_{name}", told, labels=("task", "version"))
            for name, told in _FIGURES.items()
        }
        for task, facts in self.facts()["tasks"].items():
            for each in facts["versions"]:
                drift, right, differing = each["drift"], each["right"]["share"], each["differing"]["share"]
                values = {
                    "right_share": right and right["value"],
                    "differing_share": differing and differing["value"],
                    "label_shift": each["label_shift"],
                    "drift_distance": drift and drift["distance"],
                    "drifted": drift and float(drift["drifted"]),
                }
                for name, value in values.items():
                    if value is not None:
                        found[name].add_metric([task, each["version"]], value)
        yield from found.values()
        yield GaugeMetricFamily("adapterkit_events", "Guards that tripped and streams that drifted.", len(self.events))

    def tell(self, kind: str, task: str, arm: str, digest: str, why: Mapping[str, Any], did: str) -> None:
        """Note something that people should know, and tell those who asked to be told."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        event = {"at": at, "kind": kind, "task": task, "arm": arm, "artifact": digest, **why, "did": did}
        self.events.append(event)
        logger.error("%s %s %s: %s; %s", task, arm, digest[:12], why["detail"], did)
        self.alerts.send(event)

    def _back(self, task: str, arm: str, digest: str, why: Mapping[str, Any]) -> str:
        try:
            gone = self._fleet.back(task, digest)
        except AdapterkitError as error:
            return f"it goes on: {error.summary}"
        return "what was mounted before answers again" if gone else "it goes on: nothing answered before"
