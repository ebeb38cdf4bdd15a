"""Pictures as SVG text: lines with intervals, bars, reliability. What they look like stands in `figures.html`."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from textwrap import wrap
from typing import Any, Self

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 36
LETTER, LEADING, ROW = 6.2, 14, 24  # a letter's width, a line's height and a rank's, in pixels
HUES = 6
"""Colours that lines may have, before they begin again."""
TICKS = 4
LONGEST_NAME = 60
MOST_POINTS = 400
SMOOTHING_SHARE = 0.05
"""A loss is shown as it was, and averaged over windows of this share of all steps."""
FEW_STEPS = 20
"""Runs of at most this many steps show their points, and no running mean."""

Point = tuple[float, float, float | None, float | None]
"""x, a value, and the ends of its interval."""


@dataclass(frozen=True)
class Scale:
    """Numbers from `low` to `high` along an axis, from pixel `start` to pixel `end`."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float, margin: float = 0.06) -> Self:
        """An axis that holds all values, with some room."""
        low, high = min(values, default=0.0), max(values, default=1.0)
        room = (high - low) * margin or abs(high) * margin or 1.0
        return cls(low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """A few round numbers."""
        span = (self.high - self.low) / TICKS
        power = 10 ** math.floor(math.log10(span))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= span)
        first = math.ceil(self.low / step) * step
        count = math.floor((self.high - first) / step + 1e-9) + 1
        return [round(first + place * step, 12) for place in range(count)]


@cache
def templates() -> Any:
    """What reads the templates beside this file, with all texts escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder, how = FileSystemLoader(Path(__file__).parent), {"trim_blocks": True, "lstrip_blocks": True}
    found = Environment(loader=folder, autoescape=True, undefined=StrictUndefined, **how)  # type: ignore[arg-type]
    found.globals |= {name.lower(): value for name, value in globals().items() if isinstance(value, int)}
    return found


def _drawn(what: str, *given: Any) -> str:
    return str(getattr(templates().get_template("figures.html").module, what)(*given))


def losses(points: Sequence[tuple[float, float]]) -> str:
    """The loss of every step, and its running mean."""
    steps, values = [step for step, _ in points], [value for _, value in points]
    smooth = [] if len(points) <= FEW_STEPS else _thinned(list(zip(steps, _smoothed(values), strict=True)))
    return _drawn("losses", *_axes(steps, values), _thinned(points), smooth)


def validations(points: Sequence[dict[str, Any]], metric: str) -> str:
    """A metric on validation rows with its intervals; the state that is kept has a ring.

    `points`: {"step", "value", "low", "high", "kept"} each; low and high may be null.
    """
    ends = [one[name] for one in points for name in ("value", "low", "high") if one.get(name) is not None]
    kept = next((one for one in reversed(points) if one.get("kept")), None)
    x, y = _axes([one["step"] for one in points], ends)
    plain = [(one["step"], one["value"]) for one in points]
    return _drawn("validations", x, y, points, plain, kept, f"validation {metric}")


def reliability(bins: Sequence[dict[str, Any]]) -> str:
    """Accuracy over confidence, a circle for every bin, as large as its items are many."""
    x, y = Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, HEIGHT - BOTTOM, TOP)
    most = max((one["items"] for one in bins), default=1)
    return _drawn("reliability", x, y, [(one, 3 + 7 * math.sqrt(one["items"] / most)) for one in bins])


def histogram(bins: Sequence[tuple[float, float, int]], what: str) -> str:
    """Bars of how many items lie from `low` to `high`."""
    x = Scale(bins[0][0], bins[-1][1], LEFT, WIDTH - RIGHT)
    y = Scale(0, max(count for _, _, count in bins) * 1.05, HEIGHT - BOTTOM, TOP)
    return _drawn("histogram", x, y, bins, what)


def ranking(lines: Sequence[dict[str, Any]], what: str) -> str:
    """Named values below each other with their intervals, the first on top.

    `lines`: {"name", "value", "low", "high", "dots", "mark", "faint"} each; `what` the values are.
    """
    left = 8 + min(LONGEST_NAME, max((len(line["name"]) for line in lines), default=1)) * LETTER
    width, bottom = left + 380, TOP + ROW * max(1, len(lines))
    values = [(line["value"], line["low"], line["high"], *line["dots"]) for line in lines]
    x = Scale.over([one for inside in values for one in inside if one is not None], left + 8, width - 90)
    return _drawn("ranking", x, lines, left, width, bottom, wrap(what, int(width / LETTER)), what)


def lines(series: Sequence[tuple[str, Sequence[Point]]], across: str, up: str, *, named: bool = False) -> str:
    """Several lines of points with intervals, each in a colour of its own; a single point is a dot.

    `series`: name and (x, value, low, high) each, low and high may be null; `named`: with names beside the last points.
    """
    points = [point for _, inside in series for point in inside]
    ends = [end for point in points for end in point[1:] if end is not None]
    x = Scale.over([point[0] for point in points], LEFT, WIDTH - RIGHT - (90 if named else 0))
    return _drawn("lines", x, Scale.over(ends, HEIGHT - BOTTOM, TOP), series, across, up, named)


def alone(pictures: Sequence[str]) -> str:
    """Pictures below each other in an SVG file of their own, light or dark as its reader's system is."""
    boxes = [tuple(map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', picture)[0])) for picture in pictures]
    tops = [0.0, *accumulate(height for _, height in boxes)]
    placed = "".join(
        picture.replace("<svg ", f'<svg y="{top:g}" width="{width:g}" height="{height:g}" ', 1)
        for picture, top, (width, height) in zip(pictures, tops, boxes, strict=False)
    )
    return _drawn("alone", placed, f"0 0 {max(width for width, _ in boxes):g} {tops[-1]:g}")


def _axes(xs: Sequence[float], ys: Sequence[float]) -> tuple[Scale, Scale]:
    return Scale(0, max([*xs, 1]) * 1.02, LEFT, WIDTH - RIGHT), Scale.over(ys, HEIGHT - BOTTOM, TOP)


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """As many points as a picture can show, the last among them."""
    every = math.ceil(len(points) / MOST_POINTS)
    return [*points[:-1:every], points[-1]] if every > 1 else points


def _smoothed(values: Sequence[float]) -> list[float]:
    """The mean of the last steps at each step."""
    window = max(1, round(len(values) * SMOOTHING_SHARE))
    sums = [0.0, *accumulate(values)]
    firsts = [max(0, end - window) for end in range(1, len(sums))]
    return [(sums[end] - sums[first]) / (end - first) for end, first in enumerate(firsts, start=1)]
