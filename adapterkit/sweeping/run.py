"""A sweep: every point of a grid is trained, compared on validation rows, and the best is kept."""

import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterkit.errors import OutputError, SweepError
from adapterkit.glance import in_short
from adapterkit.manifest import open_manifest, read_folder, write_file, write_folder
from adapterkit.report.figures import alone, ranking
from adapterkit.sweeping.checks import check_points
from adapterkit.sweeping.definition import define_sweep
from adapterkit.sweeping.display import SweepDisplay
from adapterkit.sweeping.halving import Halving, Rung, promoted
from adapterkit.sweeping.ledger import BEST, DEFINITION, LOCK, PICTURE, Ledger
from adapterkit.sweeping.points import Point, Source
from adapterkit.sweeping.runner import Runner
from adapterkit.sweeping.summary import DONE, Group, best_point, group_results
from adapterkit.training.reuse import backbone_key, rows_key

logger = logging.getLogger(__name__)

MOST_GROUPS = 40
"""That a picture shows."""


@dataclass(frozen=True)
class SweepResult:
    """What a sweep gave.

    Attributes:
        metric: points were compared by it, on validation rows.
        points: name -> its line in results.jsonl.
        groups: settings with all their seeds, the best first.
        best: name of the best point.
        artifact: its copy.
        metrics: of the best: split -> metric -> value with its interval.
    """

    folder: Path
    metric: str
    points: Mapping[str, Mapping[str, Any]]
    groups: tuple[Group, ...]
    best: str
    artifact: Path
    metrics: Mapping[str, Mapping[str, Mapping[str, float]]]
    picture: Path

    __repr__ = in_short("folder", "metric", "best", "artifact")


def sweep(
    recipe: Source,
    grid: Mapping[str, Iterable[Any]] | Sequence[str],
    *,
    halving: Halving | bool = False,
    together: int = 1,
    processes: int = 1,
    overrides: Sequence[str] = (),
    overwrite: bool = False,
    quiet: bool = False,
) -> SweepResult:
    """Train every point of a grid, compare them on validation rows, and keep the best.

    Points are trained in this process, one after the other or `together`, or in `processes`. They share the backbone,
    the encoded rows and, as the recipe's `training.cache` says, the cached trunk. A sweep that was stopped, however,
    goes on when it is started again: finished points are not trained again, and a stopped one goes on from its
    checkpoint.

    Args:
        recipe: as `train` takes it.
        grid: path -> values, or "path=value,value" words. "seed" is short for "training.seed".
        halving: thin the settings out while they are trained (successive halving). True: with its defaults.
        together: so many points that differ in `training` alone (rates, schedule, seed, rows a step) may be trained
            side by side. Where a trial of a few steps says that it is faster, as with few rows a step and on GPUs,
            their gradients are computed in one batch: sums are then added in another order and dropout draws other
            masks, so that what they learn is as good, and not the same byte for byte.
        processes: so many points are trained beside each other, each in a process of its own, with a GPU of its own or
            its share of the cores. Every point learns what it learns alone.
        overrides: "path=value" each, set on top of the recipe for all points. "output=DIR" is the sweep's own folder;
            else it is the recipe's output with "-sweep" behind it.

    Raises:
        SweepError: the grid cannot be used, the folder holds another sweep, or every point failed.
        AdapterkitError: as `train` raises them; points that cannot be trained are found before any is.
        KeyboardInterrupt: stopped by the user; what is done is kept.
    """
    wanted = define_sweep(recipe, grid, halving=halving, together=together, processes=processes, overrides=overrides)
    folder, points = wanted.folder, wanted.points
    ledger = Ledger(folder)
    with ledger.held(), SweepDisplay(quiet=quiet) as display:
        if overwrite:
            _clear(folder)
        definition = wanted.to_dict()
        ledger.check(definition)
        ordered = _ordered(points)
        runner = Runner(recipe, ledger, ordered, display, together, processes)
        for note in filter(runner.reuse.is_news, wanted.resolved.notes):
            display.say(f"Note: {note}", "yellow")
        check_points(recipe, [point for point in ordered if point.name not in runner.results], runner.reuse)
        ledger.begin(definition)
        _train(ordered, runner, display, wanted.halving)
        return _finish(folder, points, runner.results, f"sweep over {', '.join(axis.path for axis in wanted.axes)}")


def _clear(folder: Path) -> None:
    """Remove the sweep that stands in a folder; what is no sweep stays. Raises OutputError where the disk refuses."""
    if not (folder / DEFINITION).is_file():
        return
    try:
        for entry in folder.iterdir():
            if entry.name == LOCK:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be begun anew", [f"{error.filename or folder}: {error.strerror or error}"]
        ) from error


def _ordered(points: Sequence[Point]) -> list[Point]:
    """Points that share a backbone, and then rows, next to each other; else in their order."""
    keys = [(backbone_key(point.recipe), rows_key(point.recipe)) for point in points]
    first: dict[Any, int] = {}
    for place, (backbone, rows) in enumerate(keys):
        first.setdefault(backbone, place)
        first.setdefault((backbone, rows), place)
    places = sorted(range(len(points)), key=lambda place: (first[keys[place][0]], first[keys[place]], place))
    return [points[place] for place in places]


def _train(points: Sequence[Point], runner: Runner, display: SweepDisplay, halving: Halving | None) -> None:
    """Rung by rung; without halving there is one, up to the end. See `halving`."""
    alive = list(dict.fromkeys(point.group for point in points))
    for rung in (Rung(0, len(alive), None),) if halving is None else halving.rungs(len(alive)):
        running = [point for point in points if point.group in alive]
        left = [point for point in running if not runner.knows(point, rung)]
        if (budget := rung.budget) is not None:
            share = f"{budget.amount:.0%} of the run" if budget.unit == "share" else f"{budget.amount:g} {budget.unit}"
            display.say(f"rung {rung.number + 1}: {len(alive)} settings up to {share}")
        display.begin(len(running), len(running) - len(left))
        runner.ahead(left, rung)
        for company in runner.companies(left):
            display.running(company[0].name, len(company))
            for point, line in runner.climb(company, rung):
                display.done(point.name, line)
        if halving is None or budget is None:
            return
        scores: dict[str, list[float | None]] = {group: [] for group in alive}
        for point in running:
            scores[point.group].append(runner.rungs[rung.number, point.name]["value"])
        alive = promoted(scores, max(1, rung.groups // halving.eta), higher_is_better=runner.higher_is_better)
        for point in running:
            if point.group not in alive:
                runner.drop(point, rung)


def _finish(folder: Path, points: Sequence[Point], results: Mapping[str, Mapping[str, Any]], title: str) -> SweepResult:
    some = next(iter(results.values()))
    metric, higher = str(some["metric"]), bool(some["higher_is_better"])
    better = "higher" if higher else "lower"
    groups = group_results(points, results, higher_is_better=higher)
    best = best_point(groups, results, higher_is_better=higher)
    if best is None:
        raise SweepError(
            "no point of the sweep has a score",
            [f"{name}: {line.get('reason') or line['status']}" for name, line in results.items()],
            "Lower training.learning_rate, or look at the rows that the runs name.",
        )
    artifact = folder / BEST
    there = next(point.output for point in points if point.name == best)
    write_folder(artifact, read_folder(there).content, overwrite=True)
    try:
        _plot(groups, folder / PICTURE, f"validation {metric.replace('_', ' ')} ({better} is better); {title}")
    except OutputError as error:  # the best artifact stands there, and is what the sweep was for
        logger.warning("the best artifact is saved, and there is no picture of the sweep: %s", error.message)
    metrics = {
        split: {name: {"value": m.value, "low": m.low, "high": m.high} for name, m in scores.items()}
        for split, scores in open_manifest(artifact).metrics.items()
    }
    in_order = {
        point.name: {**results[point.name], "settings": dict(point.settings)}
        for point in points
        if point.name in results
    }
    return SweepResult(folder, metric, in_order, groups, best, artifact, metrics, folder / PICTURE)


def _plot(groups: Sequence[Group], picture: Path, title: str) -> None:
    """Every setting's score with its interval, its seeds as dots, the best on top; the best `MOST_GROUPS` of many."""
    scored = [group for group in groups if group.mean is not None]
    lines = [
        {
            "name": group.name.replace(",", "  "),
            "value": group.mean,
            "low": group.low,
            "high": group.high,
            "dots": [value for value in group.values if value is not None] if len(group.values) > 1 else [],
            "mark": group.mark,
            "faint": group.status != DONE,
        }
        for group in scored[:MOST_GROUPS]
    ]
    notes = [title]
    notes += [f"{len(scored) - MOST_GROUPS} worse ones not drawn"] if len(scored) > MOST_GROUPS else []
    notes += [f"{len(groups) - len(scored)} without a score"] if len(scored) < len(groups) else []
    write_file(picture, alone([ranking(lines, "; ".join(notes))]).encode())
