"""Whether what a version is asked is still like what its reference was made of, and whether its confidence changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapterkit.errors import AdapterkitError, ServingError
from adapterkit.manifest import open_manifest
from adapterkit.metrics.drift import energy_test, label_shift, projected
from adapterkit.recipe.columns import input_text
from adapterkit.serving.beside import Beside
from adapterkit.serving.fleet import Fleet, Receipt
from adapterkit.traffic import Rules, TaskRules

Tell = Callable[[str, str, str, str, Mapping[str, Any], str], None]
"""Kind, task, arm, digest, reason with a `detail`, and what was done."""


@dataclass
class Stream:
    """What was seen of one version's rows: their projected states since the last comparison, what that found, as JSON,
    and the changes of its confidences that a detector of river found."""

    reference: Any
    """Projected states that they are compared with, (N, W); None where the artifact keeps none."""
    labels: Mapping[str, int]
    """Label -> training rows; {} where the manifest does not say."""
    recent: list[Any] = field(default_factory=list)
    found: dict[str, Any] | None = None
    detector: Any = None
    changes: int = 0


class Drifts:
    """Compares rows with the references of the versions that they ask. Arguments as those of `Watch`.
    Raises ServingError: the rules ask for river, which is not there."""

    def __init__(self, fleet: Fleet, rules: Rules, tell: Tell, busy: Callable[[], bool]) -> None:
        self._fleet, self._rules, self._tell = fleet, rules, tell
        self._streams: dict[str, Stream] = {}
        self.spare_time = Beside[tuple[Receipt, str]]("adapterkit-drift", self._compare, busy=busy)
        for task in rules.tasks.values():
            _detector(task)

    def seen(self, row: Any, answer: Any, receipt: Receipt) -> None:
        """Take note of an answer."""
        rules, stream = self._rules.of(receipt.task), self._stream(receipt)
        confidence = answer.get("confidence") if isinstance(answer, Mapping) else None
        if stream.detector is not None and isinstance(confidence, float):
            stream.detector.update(confidence)
            if stream.detector.drift_detected:
                stream.changes += 1
                detail = f"{rules.stream} found that the confidence changed"
                self._told("change", receipt, {"detail": detail, "evidence": {"changes": stream.changes}})
        if stream.reference is not None and (text := input_text(row, self._fleet.routes[receipt.task].kind)):
            self.spare_time.offer((receipt, text), rules.drift_share)

    def facts(self, digest: str, labels: Mapping[str, int]) -> dict[str, Any]:
        """What is known of a version, as JSON."""
        stream = self._streams.get(digest)
        if stream is None:
            return {"drift": None, "label_shift": None, "changes": 0}
        return {"drift": stream.found, "label_shift": label_shift(stream.labels, labels), "changes": stream.changes}

    def _stream(self, receipt: Receipt) -> Stream:
        if receipt.artifact not in self._streams:
            status = self._fleet.statuses().get(self._mounted(receipt) or "")
            try:
                manifest = None if status is None else open_manifest(status.source)
            except AdapterkitError:
                manifest = None  # a composition, or a folder that has gone
            reference = None if manifest is None or manifest.reference is None else manifest.reference.states()
            labels = {} if manifest is None else manifest.data.label_counts.get("train", {})
            routed = {arm.digest for route in self._fleet.routes.values() for arm in route.everything}
            self._streams = {digest: stream for digest, stream in self._streams.items() if digest in routed}
            self._streams[receipt.artifact] = Stream(
                reference, labels, detector=_detector(self._rules.of(receipt.task))
            )
        return self._streams[receipt.artifact]

    def _mounted(self, receipt: Receipt) -> str | None:
        route = self._fleet.routes.get(receipt.task)
        arms = () if route is None else route.arms.values()
        return next((arm.mounted for arm in arms if arm.digest == receipt.artifact), None)

    def _compare(self, pieces: Sequence[tuple[Receipt, str]]) -> None:
        for receipt in {receipt.artifact: receipt for receipt, _ in pieces}.values():
            name, stream = self._mounted(receipt), self._streams.get(receipt.artifact)
            if name is None or stream is None or stream.reference is None:
                continue
            texts = [text for whose, text in pieces if whose.artifact == receipt.artifact]
            states = self._fleet.host.features(texts, name)
            stream.recent.extend(projected([state.float().mean(dim=0).tolist() for state in states]))
            rules = self._rules.of(receipt.task)
            if len(stream.recent) >= rules.drift_window:
                self._test(receipt, stream, rules)

    def _test(self, receipt: Receipt, stream: Stream, rules: TaskRules) -> None:
        rows, stream.recent = stream.recent, []
        distance, p = energy_test(stream.reference, rows)
        before = stream.found is not None and stream.found["drifted"]
        stream.found = {"distance": distance, "p": p, "rows": len(rows), "drifted": p <= rules.drift}
        if p <= rules.drift and not before:
            detail = f"rows are not like the reference: energy distance {distance:.3g}, p {p:.3g} on {len(rows)} rows"
            self._told("drift", receipt, {"detail": detail, "evidence": stream.found})

    def _told(self, kind: str, receipt: Receipt, why: Mapping[str, Any]) -> None:
        self._tell(kind, receipt.task, receipt.arm, receipt.artifact, why, "nothing: people decide")


def _detector(rules: TaskRules) -> Any:
    """A detector of river, where the rules ask for one."""
    if rules.stream is None:
        return None
    try:
        from river import drift
    except ImportError as error:
        told = f"{rules.stream} comes with river"
        raise ServingError(told, remedy="pip install 'adapterkit[streams]', or leave `stream` out.") from error
    return drift.ADWIN(delta=rules.drift) if rules.stream == "adwin" else drift.PageHinkley()
