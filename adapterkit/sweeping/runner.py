"""Train points of a sweep, to their end or up to a budget, and write down what they gave."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from adapterkit.errors import DivergedError, SweepError, TrainingError
from adapterkit.manifest import open_manifest
from adapterkit.recipe.load import folder_of
from adapterkit.sweeping.display import SweepDisplay
from adapterkit.sweeping.halving import Rung
from adapterkit.sweeping.ledger import Ledger
from adapterkit.sweeping.points import Point, Source
from adapterkit.sweeping.summary import DONE, FAILED, HALVED
from adapterkit.sweeping.workers import trained
from adapterkit.training import Paused, train
from adapterkit.training.checkpoint import remove_checkpoint
from adapterkit.training.datasets import RecipeRows
from adapterkit.training.environment import make_accelerator
from adapterkit.training.interrupt import Interrupt
from adapterkit.training.journal import read_journal
from adapterkit.training.reuse import Reuse, backbone_key, rows_key
from adapterkit.training.run import begin_run
from adapterkit.training.standing import RUN_FOLDER, checkpoint_of, is_done, read_progress
from adapterkit.training.together import Outcome, in_companies, train_together


class Runner:
    """Trains points, and keeps the books.

    Attributes:
        reuse: what the points share.
        results: point -> its line, of all that are done.
        rungs: (rung, point) -> its line.
    """

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        points: Sequence[Point],
        display: SweepDisplay,
        together: int = 1,
        processes: int = 1,
    ) -> None:
        """`display`: shows how points are trained side by side. `together`: how many may be. `processes`: in how many
        points are trained."""
        self.results = ledger.results()
        self._expected = [point.recipe for point in points if point.name not in self.results]
        self.reuse = Reuse(self._expected, room=together)
        self.rungs = ledger.rungs()
        self._source, self._ledger, self._display, self._together = source, ledger, display, together
        self._processes = processes
        self._ended: dict[str, Outcome | None] = {}
        self._jointly: set[str] = set()
        self._digests = {line["rows_key"]: line["digests"] for line in self.results.values()}
        self._fingerprints = {line["backbone_key"]: line["fingerprint"] for line in self.results.values()}

    @property
    def higher_is_better(self) -> bool:
        """Whether larger scores are better; known once a point was scored."""
        return bool(next(iter([*self.rungs.values(), *self.results.values()]))["higher_is_better"])

    def companies(self, points: Sequence[Point]) -> list[list[Point]]:
        """The points that are trained side by side, in their order."""
        return [list(points[part]) for part in in_companies([point.recipe for point in points], self._together)]

    def ahead(self, points: Sequence[Point], rung: Rung) -> None:
        """Where there are several processes, train points in them; `climb` then finds how they ended."""
        left = [point for point in points if point.name not in self.results and not is_done(point.output)]
        if self._processes == 1 or len(left) < 2:
            return
        for point in left:
            self._rows(point)
        asked = [(point, _arguments(point, rung)) for point in left]
        for point, end in trained(self._source, asked, self._expected, min(self._processes, len(left))):
            self._ended[point.name] = end
            self._display.ended(point.name)

    def knows(self, point: Point, rung: Rung) -> bool:
        """Whether a point is done, or was scored at the end of a rung's budget."""
        return point.name in self.results if rung.budget is None else (rung.number, point.name) in self.rungs

    def climb(self, points: Sequence[Point], rung: Rung) -> Iterator[tuple[Point, dict[str, Any]]]:
        """Train points up to a rung's budget, or to their end, side by side. Yields each with what it gave.

        A point whose run ends earlier, by its patience or because it failed, is done with that.
        """
        ended = self._train([point for point in points if point.name not in self.results], rung)
        for point in points:
            end, line, rows = ended.get(point.name), self.results.get(point.name), self._rows(point)
            if isinstance(end, Paused):
                line = {**self._facts(point, rows), "value": _validated(point, rows.metric)}
            elif isinstance(end, DivergedError):
                line = self._add_result(point, rows, FAILED, reason=end.summary)
            elif line is None:
                line = self._add_result(point, rows, DONE)
            if rung.budget is not None:
                names = ("value", "metric", "higher_is_better", "steps", "seconds", "reason", "trunk_cache")
                line = {"rung": rung.number, "point": point.name, **{name: line.get(name) for name in names}}
                self._ledger.add_rung(line)
                self.rungs[rung.number, point.name] = line
            yield point, line

    def drop(self, point: Point, rung: Rung) -> None:
        """A point goes no further: its last score is its result, and its checkpoint is removed."""
        if point.name not in self.results:
            value = self.rungs[rung.number, point.name]["value"]
            self._add_result(point, self._rows(point), HALVED, value=value)
        remove_checkpoint(checkpoint_of(point.output))

    def _train(self, points: Sequence[Point], rung: Rung) -> dict[str, Outcome]:
        """Train points to their end or up to a rung's budget: point -> how its run ended, of all that were to train."""
        for point in points:
            self._rows(point)
        ended = {point.name: end for point in points if (end := self._ended.pop(point.name, None)) is not None}
        left = [point for point in points if not is_done(point.output) and point.name not in ended]
        if len(left) > 1:
            return self._train_together(left, rung)
        for point in left:
            try:
                ended[point.name] = train(self._source, reuse=self.reuse, **_arguments(point, rung))
            except (Paused, DivergedError) as error:
                ended[point.name] = error
        return ended

    def _train_together(self, points: Sequence[Point], rung: Rung) -> dict[str, Outcome]:
        first, interrupt = points[0], Interrupt()
        backbone = self.reuse.backbone(first.recipe, make_accelerator(first.recipe, first.output))
        runs = [
            begin_run(self._source, interrupt, self.reuse, backbone=backbone, **_arguments(point, rung))
            for point in points
        ]
        found = train_together(runs, interrupt, backbone, self._display.decided, self._display.share)
        self._jointly.update(point.name for point in points if found.jointly)
        return {point.name: end for point, end in zip(points, found.outcomes, strict=True)}

    def _rows(self, point: Point) -> RecipeRows:
        """The point's rows. Raises SweepError where rows or backbone are others than when the sweep was begun."""
        rows = self.reuse.rows(point.recipe, folder_of(self._source))
        key, digests = rows_key(point.recipe), rows.facts.digests
        if self._digests.setdefault(key, digests) != digests:
            splits = [split for split in digests if self._digests[key].get(split) != digests[split]]
            raise SweepError(
                "the rows have changed since this sweep was begun",
                [f"data.{split}: others than the finished points had" for split in splits],
                "Put the rows back, or begin anew: --overwrite.",
            )
        return rows

    def _facts(self, point: Point, rows: RecipeRows) -> dict[str, Any]:
        events = _journal(point)
        begun = [event for event in events if event["event"] == "begin"]
        steps = [event for event in events if event["event"] == "step"]
        return {
            "point": point.name,
            "settings": dict(point.settings),
            "metric": rows.metric,
            "higher_is_better": rows.task.higher_is_better(rows.metric),
            "steps": steps[-1]["step"] if steps else 0,
            "seconds": round(sum(event["seconds"] or 0.0 for event in steps), 3),  # without validation and saving
            "trunk_cache": begun[0].get("trunk_cache") if begun else None,
            "in_one_batch": point.name in self._jointly,
        }

    def _add_result(
        self, point: Point, rows: RecipeRows, status: str, *, value: float | None = None, reason: str = ""
    ) -> dict[str, Any]:
        metrics: dict[str, Any] = {}
        size_bytes, fingerprint = None, self._fingerprints.get(backbone_key(point.recipe))
        if status == DONE:
            manifest = open_manifest(point.output)
            metrics = {
                split: {name: metric.model_dump(mode="json") for name, metric in scores.items()}
                for split, scores in manifest.metrics.items()
            }
            value, size_bytes = metrics["validation"][rows.metric]["value"], manifest.size_bytes
            fingerprint = manifest.backbone.fingerprint
            self._check_backbone(point, fingerprint)
        line = {
            **self._facts(point, rows),
            "status": status,
            "value": value if value is None or math.isfinite(value) else None,
            "metrics": metrics,
            "size_bytes": size_bytes,
            "artifact": f"{point.output.parent.name}/{point.name}" if status == DONE else None,
            "rows_key": rows_key(point.recipe),
            "digests": rows.facts.digests,
            "backbone_key": backbone_key(point.recipe),
            "fingerprint": fingerprint,
            **({"reason": reason} if reason else {}),
        }
        self._ledger.add_result(line)
        self.results[point.name] = line
        return line

    def _check_backbone(self, point: Point, fingerprint: str) -> None:
        key = backbone_key(point.recipe)
        before = self._fingerprints.get(key)
        if before is not None and before != fingerprint:
            raise SweepError(
                "the backbone has changed since this sweep was begun",
                [f"fingerprint: begun with {before}, found {fingerprint}"],
                "Put it back, or begin anew: --overwrite.",
            )
        self._fingerprints[key] = fingerprint


def _arguments(point: Point, rung: Rung) -> dict[str, Any]:
    """How a point's run begins, or goes on."""
    try:
        begun = read_progress(checkpoint_of(point.output)) is not None
    except TrainingError:  # damaged: begin this point anew
        begun = False
    return {
        "overrides": point.overrides,
        "resume": begun,
        "overwrite": not begun,
        "quiet": True,
        "pause_after": None if rung.budget is None else rung.budget.steps,
    }


def _validated(point: Point, metric: str) -> float | None:
    """The score of the state that a paused run would keep."""
    events = [event for event in _journal(point) if event["event"] == "validation"]
    kept = [event for event in events if event["kept"]] if point.recipe.training.keep_best else events
    value: float | None = kept[-1]["metrics"].get(metric) if kept else None
    return value


def _journal(point: Point) -> list[dict[str, Any]]:
    return read_journal(point.output / RUN_FOLDER / "journal.jsonl")
