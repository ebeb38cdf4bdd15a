"""Pictures as SVG text: lines with intervals, bars, reliability. Their colours are variables of the page."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from textwrap import wrap
from typing import Any, Self

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 14, 36
LETTER, LEADING = 6.2, 14  # a letter's width and a line's height, in pixels
TICKS = 4
MOST_POINTS = 400
SMOOTHING_SHARE = 0.05
"""A loss is shown as it was, and averaged over windows of this share of all steps."""
FEW_STEPS = 20
"""Runs of at most this many steps show their points, and no running mean."""

Point = tuple[float, float, float | None, float | None]
"""x, a value, and the ends of its interval."""

STYLE = (
    ":root{--ink:#1d2330;--soft:#667085;--line:#d6dae3;--accent:#2f5bd0;--warm:#b3471d;--page:#fff}"
    "@media(prefers-color-scheme:dark){:root"
    "{--ink:#e7eaf1;--soft:#9aa4b8;--line:#333b4d;--accent:#86a8ff;--warm:#ff9d6e;--page:#12151d}}"
)
"""What the variables are, light and dark; for a picture that stands in a file of its own."""


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


def losses(points: Sequence[tuple[float, float]]) -> str:
    """The loss of every step, and its running mean."""
    steps, values = [step for step, _ in points], [value for _, value in points]
    x, y = _axes(steps, values)
    if len(points) <= FEW_STEPS:
        return _framed(x, y, _line(x, y, points, "accent") + _dots(x, y, points, "accent"), "step", "training loss")
    smooth = list(zip(steps, _smoothed(values), strict=True))
    drawn = _line(x, y, _thinned(points), "line") + _line(x, y, _thinned(smooth), "accent")
    return _framed(x, y, drawn, "step", "training loss")


def validations(points: Sequence[dict[str, Any]], metric: str) -> str:
    """A metric on validation rows with its intervals; the state that is kept has a ring.

    `points`: {"step", "value", "low", "high", "kept"} each; low and high may be null.
    """
    ends = [one[name] for one in points for name in ("value", "low", "high") if one.get(name) is not None]
    x, y = _axes([one["step"] for one in points], ends)
    drawn = "".join(
        f'<path d="M{x(one["step"]):.1f} {y(one["low"]):.1f}V{y(one["high"]):.1f}" class="bar"/>'
        for one in points
        if one.get("low") is not None and one.get("high") is not None
    )
    plain = [(one["step"], one["value"]) for one in points]
    drawn += _line(x, y, plain, "warm") + _dots(x, y, plain, "warm")
    kept = next((one for one in reversed(points) if one.get("kept")), None)
    if kept is not None:
        drawn += f'<circle cx="{x(kept["step"]):.1f}" cy="{y(kept["value"]):.1f}" r="8" class="ring"/>'
    return _framed(x, y, drawn, "step", f"validation {metric}")


def reliability(bins: Sequence[dict[str, Any]]) -> str:
    """Accuracy over confidence, a circle for every bin, as large as its items are many."""
    x, y = Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, HEIGHT - BOTTOM, TOP)
    most = max((one["items"] for one in bins), default=1)
    drawn = f'<path d="M{x(0):.1f} {y(0):.1f}L{x(1):.1f} {y(1):.1f}" class="faint"/>'
    for one in bins:
        title = f"{one['items']:,} answers: confidence {one['confidence']:.3f}, right {one['accuracy']:.3f}"
        drawn += (
            f'<circle cx="{x(one["confidence"]):.1f}" cy="{y(one["accuracy"]):.1f}" '
            f'r="{3 + 7 * math.sqrt(one["items"] / most):.1f}" class="dot"><title>{title}</title></circle>'
        )
    return _framed(x, y, drawn, "confidence", "share that is right")


def histogram(bins: Sequence[tuple[float, float, int]], what: str) -> str:
    """Bars of how many items lie from `low` to `high`."""
    x = Scale(bins[0][0], bins[-1][1], LEFT, WIDTH - RIGHT)
    y = Scale(0, max(count for _, _, count in bins) * 1.05, HEIGHT - BOTTOM, TOP)
    drawn = "".join(
        f'<rect x="{x(low):.1f}" y="{y(count):.1f}" width="{max(1.0, x(high) - x(low) - 1):.1f}" '
        f'height="{y(0) - y(count):.1f}" class="fill"><title>{low:g} to {high:g}: {count:,}</title></rect>'
        for low, high, count in bins
    )
    return _framed(x, y, drawn, what, "rows")


def ranking(lines: Sequence[dict[str, Any]], what: str) -> str:
    """Named values below each other with their intervals, the first on top.

    `lines`: {"name", "value", "low", "high", "dots", "mark", "faint"} each; `what` the values are.
    """
    left, row = 8 + min(60, max((len(line["name"]) for line in lines), default=1)) * LETTER, 24
    width, bottom = left + 380, TOP + row * max(1, len(lines))
    said = wrap(what, int(width / LETTER))
    height = bottom + BOTTOM + LEADING * (len(said) - 1)
    ends = [
        one for line in lines for one in (line["value"], line["low"], line["high"], *line["dots"]) if one is not None
    ]
    x = Scale.over(ends, left + 8, width - 90)
    drawn = "".join(
        f'<path d="M{x(tick):.1f} {TOP}V{bottom}" class="grid"/>'
        f'<text x="{x(tick):.1f}" y="{bottom + 14}" class="tick mid">{tick:g}</text>'
        for tick in x.ticks()
    )
    for place, line in enumerate(lines):
        y = TOP + row * (place + 0.5)
        color = "faint" if line["faint"] else "warm" if line["mark"] else "accent"
        name = line["name"] if len(line["name"]) <= 60 else f"{line['name'][:59]}…"
        drawn += f'<text x="{left:.0f}" y="{y + 4:.1f}" class="tick end">{escape(name)}</text>'
        if line["low"] is not None and line["high"] is not None:
            drawn += f'<path d="M{x(line["low"]):.1f} {y}H{x(line["high"]):.1f}" class="{color}" stroke-width="2"/>'
        drawn += "".join(f'<circle cx="{x(dot):.1f}" cy="{y}" r="3" class="small {color}"/>' for dot in line["dots"])
        if line["value"] is not None:
            drawn += f'<path d="M{x(line["value"]):.1f} {y - 7}v14" class="{color}" stroke-width="2.4"/>'
        drawn += f'<text x="{width - 84:.0f}" y="{y + 4:.1f}" class="tick">{escape(line["mark"])}</text>'
    for y, text in zip(range(bottom + BOTTOM - 6, height, LEADING), said, strict=False):
        drawn += f'<text x="{width / 2:.0f}" y="{y}" class="tick mid">{escape(text)}</text>'
    return f'<svg viewBox="0 0 {width:.0f} {height}" role="img" aria-label="{escape(what)}">{drawn}</svg>'


def lines(series: Sequence[tuple[str, Sequence[Point]]], across: str, up: str, *, named: bool = False) -> str:
    """Several lines of points with intervals, each in a colour of its own; a single point is a dot.

    `series`: name and (x, value, low, high) each, low and high may be null; `named`: with names beside the last points.
    """
    points = [point for _, inside in series for point in inside]
    ends = [end for point in points for end in point[1:] if end is not None]
    x = Scale.over([point[0] for point in points], LEFT, WIDTH - RIGHT - (90 if named else 0))
    y = Scale.over(ends, HEIGHT - BOTTOM, TOP)
    drawn = ""
    for place, (name, inside) in enumerate(series):
        drawn += f'<g class="hue{place % HUES}">' + "".join(
            f'<path d="M{x(at):.1f} {y(low):.1f}V{y(high):.1f}" class="range"/>'
            for at, _, low, high in inside
            if low is not None and high is not None
        )
        plain = [(at, value) for at, value, _, _ in inside]
        drawn += _line(x, y, plain, "hue") + _dots(x, y, plain, "hue")
        if named and plain:
            at, value = plain[-1]
            drawn += f'<text x="{x(at) + 8:.1f}" y="{y(value) + 4:.1f}">{escape(name[:24])}</text>'
        drawn += "</g>"
    return _framed(x, y, drawn, across, up)


def alone(pictures: Sequence[str]) -> str:
    """Pictures below each other in an SVG file of their own, light or dark as its reader's system is."""
    boxes = [tuple(map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', picture)[0])) for picture in pictures]
    tops = [0.0, *accumulate(height for _, height in boxes)]
    placed = "".join(
        picture.replace("<svg ", f'<svg y="{top:g}" width="{width:g}" height="{height:g}" ', 1)
        for picture, top, (width, height) in zip(pictures, tops, boxes, strict=False)
    )
    box = f"0 0 {max(width for width, _ in boxes):g} {tops[-1]:g}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="sans-serif" '
        'style="background:var(--page)">'
        f"<style>{STYLE}{CLASSES}</style>{placed}</svg>"
    )


HUES = 6
"""Colours that lines may have, before they begin again."""

CLASSES = (
    "text{fill:var(--soft);font-size:11px}.mid{text-anchor:middle}.end{text-anchor:end}"
    "path{fill:none}.grid{stroke:var(--line);stroke-width:.6}.line{stroke:var(--line);stroke-width:1}"
    ".accent{stroke:var(--accent);stroke-width:1.8}.warm{stroke:var(--warm);stroke-width:1.8}"
    ".faint{stroke:var(--soft);stroke-dasharray:3 3}.bar{stroke:var(--warm);stroke-opacity:.45;stroke-width:5}"
    ".ring{fill:none;stroke:var(--warm);stroke-width:2}.fill{fill:var(--accent);fill-opacity:.75}"
    ".dot{fill:var(--accent);fill-opacity:.55;stroke:var(--accent)}circle.small{fill:var(--page)}"
    "circle.point.accent{fill:var(--accent)}circle.point.warm{fill:var(--warm)}"
    ".hue0{color:var(--accent)}.hue1{color:var(--warm)}.hue2{color:#2a9d63}.hue3{color:#9a63d8}.hue4{color:#b98a00}"
    ".hue5{color:#d0487f}.hue{stroke:currentColor;stroke-width:1.8}circle.point.hue{fill:currentColor}"
    ".range{stroke:currentColor;stroke-opacity:.35;stroke-width:4}"
)
"""What the pictures' classes look like."""


def _axes(xs: Sequence[float], ys: Sequence[float]) -> tuple[Scale, Scale]:
    return Scale(0, max([*xs, 1]) * 1.02, LEFT, WIDTH - RIGHT), Scale.over(ys, HEIGHT - BOTTOM, TOP)


def _line(x: Scale, y: Scale, points: Sequence[tuple[float, float]], color: str) -> str:
    path = "L".join(f"{x(at):.1f} {y(value):.1f}" for at, value in points)
    return f'<path d="M{path}" class="{color}"/>' if points else ""


def _dots(x: Scale, y: Scale, points: Sequence[tuple[float, float]], color: str) -> str:
    return "".join(
        f'<circle cx="{x(at):.1f}" cy="{y(value):.1f}" r="3" class="point {color}">'
        f"<title>{at:g}: {value:.4g}</title></circle>"
        for at, value in points
    )


def _framed(x: Scale, y: Scale, drawn: str, across: str, up: str) -> str:
    lines = "".join(
        f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" class="grid"/>'
        f'<text x="{LEFT - 6}" y="{y(tick) + 4:.1f}" class="end">{tick:g}</text>'
        for tick in y.ticks()
    )
    lines += "".join(
        f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 14}" class="mid">{tick:g}</text>' for tick in x.ticks()
    )
    names = f'<text x="{(LEFT + WIDTH) / 2:.0f}" y="{HEIGHT - 4}" class="mid">{escape(across)}</text>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(up)} over {escape(across)}">'
        f"{lines}{drawn}{names}</svg>"
    )


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
