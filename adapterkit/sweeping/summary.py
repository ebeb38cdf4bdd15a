"""What a sweep found: points by group, mean and spread over seeds, and the best."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import Any

from adapterkit.sweeping.grid import SEED
from adapterkit.sweeping.points import Point

DONE, FAILED, HALVED = "done", "failed", "halved"


@dataclass(frozen=True)
class Group:
    """One setting with all its seeds."""

    name: str
    """The settings, readable."""
    settings: Mapping[str, Any]
    """Path -> value, without the seed."""
    status: str
    """ "done" where every point is, else "halved" or "failed"."""
    points: tuple[str, ...]
    """Names of its points."""
    values: tuple[float | None, ...]
    """Their scores on validation rows; None where a point has none."""
    mean: float | None
    """Of the scores that there are; None without any."""
    spread: float | None
    """Their standard deviation (of a sample, n - 1); None below two."""
    seconds: float
    """Of all its training steps."""
    half: float | None = None
    """Half of the 95 % interval around the mean: that of the validation rows (the mean of the points' bootstraps) or of
    the seeds (two standard errors), whichever is wider; None where neither is known."""
    mark: str = ""
    """ "best", "within noise" of the best (the intervals do not tell the two apart), its status, or ""."""

    @property
    def low(self) -> float | None:
        """Lower end of the interval."""
        return None if self.mean is None or self.half is None else self.mean - self.half

    @property
    def high(self) -> float | None:
        """Upper end of the interval."""
        return None if self.mean is None or self.half is None else self.mean + self.half


def group_results(
    points: Sequence[Point], results: Mapping[str, Mapping[str, Any]], *, higher_is_better: bool
) -> tuple[Group, ...]:
    """The groups, the best first; those that are not done come after all that are."""
    members: dict[str, list[Point]] = {}
    for point in points:
        if point.name in results:
            members.setdefault(point.group, []).append(point)
    found = [_group(name, inside, results) for name, inside in members.items()]
    order = {DONE: 0, HALVED: 1, FAILED: 2}

    def rank(group: Group) -> tuple[int, int, float]:
        # Of halved groups those come first that got further.
        steps = sum(results[name]["steps"] or 0 for name in group.points) if group.status == HALVED else 0
        value = group.mean if group.mean is not None else (float("-inf") if higher_is_better else float("inf"))
        return order[group.status], -steps, -value if higher_is_better else value

    ordered = sorted(found, key=rank)
    return tuple(replace(group, mark=_mark(group, ordered[0])) for group in ordered)


def _mark(group: Group, best: Group) -> str:
    if group.status != DONE:
        return group.status
    if group is best:
        return "best"
    if group.mean is None or best.mean is None or group.half is None or best.half is None:
        return ""
    return "within noise" if abs(best.mean - group.mean) <= math.hypot(best.half, group.half) else ""


def best_point(
    groups: Sequence[Group], results: Mapping[str, Mapping[str, Any]], *, higher_is_better: bool
) -> str | None:
    """The best point of the best group: the setting is chosen by its mean, so that no lucky seed chooses it.

    None where no point is done. Where every group has a point that failed, the best of those that are left.
    """
    sign = 1 if higher_is_better else -1
    for group in groups:
        there = [
            (sign * value, name)
            for name, value in zip(group.points, group.values, strict=True)
            if value is not None and results[name]["status"] == DONE
        ]
        if there:
            return max(there, key=lambda pair: pair[0])[1]
    return None


def _group(name: str, points: Sequence[Point], results: Mapping[str, Mapping[str, Any]]) -> Group:
    lines = [results[point.name] for point in points]
    values = tuple(line["value"] for line in lines)
    there = [value for value in values if value is not None]
    statuses = {line["status"] for line in lines}
    spread = stdev(there) if len(there) > 1 else None
    # Half of the bootstrap's interval of every point that is done.
    measured = (line.get("metrics", {}).get("validation", {}).get(line["metric"]) for line in lines)
    halves = [(one["high"] - one["low"]) / 2 for one in measured if one is not None]
    wide = ([mean(halves)] if halves else []) + ([] if spread is None else [2 * spread / math.sqrt(len(there))])
    return Group(
        name=name,
        settings={path: value for path, value in points[0].settings.items() if path != SEED},
        status=next(status for status in (FAILED, HALVED, DONE) if status in statuses),
        points=tuple(point.name for point in points),
        values=values,
        mean=mean(there) if there else None,
        spread=spread,
        seconds=sum(line["seconds"] for line in lines),
        half=max(wide, default=None),
    )
