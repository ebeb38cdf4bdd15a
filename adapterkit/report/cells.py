"""What the tables and sentences about records are made of; records as plain values, artifacts by their names."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapterkit.report import figures

MOST_ROWS = 40
SAME = "no difference shown"

Told = Mapping[str, Any]
Names = Mapping[str, str]
"""Digest of an artifact -> what it is called."""
Section = dict[str, Any]
"""Heading, sentences, pictures and tables, see `report.page`; `golden`: tables of rows, which no page shows."""


def named(answerer: Told, names: Names) -> str:
    """Who answered: what it or its parent is called, else its digest."""
    sha256: str = answerer["sha256"]
    return names.get(sha256) or names.get(answerer.get("parent") or "", sha256[:12])


def about(record: Told, names: Names) -> str:
    """Who answered which rows."""
    return f"{named(record['answering'], names)} on {source(record['data'])}"


def source(data: Told) -> str:
    """Rows by their file's name."""
    return f"{data['source'].rpartition('/')[2]} ({data['rows']:,} rows, digest {data['digest'][:12]})"


def table(headings: Iterable[str], rows: Sequence[Sequence[str]], title: str = "", **more: Any) -> dict[str, Any]:
    """A table of at most `MOST_ROWS` rows."""
    left = f" ({len(rows) - MOST_ROWS} more in the record)" if len(rows) > MOST_ROWS else ""
    cells = {"title": f"{title}{left}", "headings": list(headings), "rows": list(rows[:MOST_ROWS])}
    return {**cells, "closed": False, "shares": None, **more}


def pictured(series: Sequence[Any], across: str, up: str, *, named: bool = False) -> list[Any]:
    """A picture with its caption: what is drawn, and what each colour is."""
    keys = [] if named else [name for name, _ in series]
    return [figures.lines(series, across, up, named=named), [f"{up} over {across}", *keys]]


def ranked(name: str, value: float, low: float | None = None, high: float | None = None, mark: str = "") -> Section:
    """A line of `figures.ranking`."""
    return {"name": name, "value": value, "low": low, "high": high, "dots": [], "mark": mark, "faint": False}


def number(value: Any, form: str = ".4g") -> str:
    """A figure; a dash where it is not known."""
    return "–" if value is None else f"{value:{form}}"


def metric(one: Told | None) -> str:
    """A metric with its interval."""
    if one is None or one["value"] is None:
        return "–"
    interval = "" if one["low"] is None or one["high"] is None else f" ({one['low']:.3f} to {one['high']:.3f})"
    return f"{one['value']:.3f}{interval}"


def metric_cells(name: str, one: Told) -> list[str]:
    """Cells of a metric: its name with how it was measured, its value, its 95 % interval."""
    low, high, how = one.get("low"), one.get("high"), one.get("how")
    interval = "" if low is None or high is None else f"{low:.4f} – {high:.4f}"
    return [f"{name} ({how})" if how else name, number(one["value"], ".4f"), interval]


def change(one: Told) -> str:
    """A difference with its interval."""
    return f"{one['difference']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]"


def compared(name: str, one: Told) -> list[str]:
    """Cells of a difference: both values, what lies between them, and what that says of the second."""
    values = [number(one["a"], ".4f"), number(one["b"], ".4f"), f"{one['difference']:+.4f}"]
    interval = f"{one['low']:+.4f} to {one['high']:+.4f}"
    return [name, *values, interval, "" if one["verdict"] == SAME else one["verdict"]]


def shown(value: Any) -> str:
    """A value of a manifest or a golden row in a short line."""
    if value is None or isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping) and "low" in value:
        return f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
    text = re.sub(r"\s+", " ", json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:57]}…"
