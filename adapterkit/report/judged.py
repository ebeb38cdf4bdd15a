"""Records of evaluations as sections of a page: sentences, pictures and tables, made of plain values."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from adapterkit.records import RECORDS, AblationRecord, ReportRecord, figures_of
from adapterkit.report import figures
from adapterkit.report.page import Page, render

MOST_ROWS = 40
NO_ROWS: Mapping[str, Any] = {"confused": (), "groups": None, "errors": (), "hidden": ""}
"""What a page shows of rows, and a record does not have."""

EMPTY: Mapping[str, Any] = {"sentences": (), "pictures": (), "tables": ()}
PLAIN: Mapping[str, Any] = {"closed": False, "shares": None}
"""A section, and a table, without what they need not have."""

Told = Mapping[str, Any]
Section = dict[str, Any]


def report_page(found: ReportRecord, command: str = "") -> str:
    """The page of everything that was found, as HTML; see `report.page`."""
    told = found.to_dict()
    names = {run["sha256"]: run["name"] for run in told["runs"]}
    sections = [_runs(told["runs"])] if told["runs"] else []
    splits = []
    for record in told["records"]:
        kind = record["schema"].partition("/")[0].rpartition(".")[2]
        if kind == "evaluation":
            splits.append({**NO_ROWS, **record, "split": _about(record, names), "rows": record["data"]["rows"]})
        else:
            sections.append(_SECTIONS.get(kind, _plain)(record, names))
    page: Page = {
        "title": ", ".join(names.values()) or "What was found",
        "command": command,
        "facts": [["made with", ", ".join(f"{name} {version}" for name, version in told["made_with"].items())]],
        "sections": [{**EMPTY, **section} for section in sections],
        "splits": splits,
    }
    if not told["records"]:
        page["lead"] = "No record is about it: write them beside the run (adapterkit evaluate RUN --json > …)."
    return render(page)


def gains_picture(found: AblationRecord) -> str:
    """The metric over parameters and over milliseconds, in an SVG file of its own."""
    return figures.alone([picture for picture, _ in _gains(found.to_dict())])


def _about(record: Told, names: Mapping[str, str]) -> str:
    return f"{_name(record['answering'], names)} on {_source(record['data'])}"


def _name(answerer: Told, names: Mapping[str, str]) -> str:
    sha256: str = answerer["sha256"]
    return names.get(sha256) or names.get(answerer.get("parent") or "", sha256[:12])


def _source(data: Told) -> str:
    return f"{data['source'].rpartition('/')[2]} ({data['rows']:,} rows, digest {data['digest'][:12]})"


def _runs(runs: Sequence[Told]) -> Section:
    rows = [
        [run["name"], run["kind"], f"{run['version']}", run["sha256"][:12], run["backbone"], split, name, _metric(one)]
        for run in runs
        for split, scores in (run["metrics"] or {"": {"": None}}).items()
        for name, one in list(scores.items())[:1]
    ]
    headings = ["run", "kind", "version", "digest", "backbone", "split", "metric", "95 % interval"]
    return {"heading": "Runs", "tables": [_table(headings, rows)]}


def _attribution(record: Told, names: Mapping[str, str]) -> Section:
    gains = record["gains"]
    lines: list[dict[str, Any]] = []
    if gains:
        lines.append(_line(record["starts_from"], gains[0]["difference"]["a"]))
    for gain in gains:
        one = gain["difference"]
        mark = f"{one['difference']:+.3f}"
        lines.append({**_line(gain["name"], one["b"], one["a"] + one["low"], one["a"] + one["high"]), "mark": mark})
    table = _table(
        ["step", record["metric"], "gain", "95 % interval"],
        [_difference(g["name"], g["difference"], True) for g in gains],
    )
    pictures = [[figures.ranking(lines, record["metric"]), "Each step with the interval of its gain."]] if lines else []
    return {"heading": f"Where the gain is from: {_about(record, names)}", "pictures": pictures, "tables": [table]}


def _comparison(record: Told, names: Mapping[str, str]) -> Section:
    a, b = (_name(record[side], names) for side in ("a", "b"))
    sentences = [f"{b} against {a}: {record['verdict']} by {record['metric']}."]
    if (sides := record["sides"]) is not None:
        sentences.append(
            f"{sides['gained']:,} rows only {b} answers right, {sides['lost']:,} only {a}; McNemar's exact test: "
            f"p = {sides['p_value']:.2g}."
        )
    if record["rows_for_a_point"] is not None:
        sentences.append(f"About {record['rows_for_a_point']:,} rows would show a difference of 1 point.")
    tables = [
        _table(
            ["metric", a, b, "difference", "95 % interval", ""],
            [_difference(n, d) for n, d in record["metrics"].items()],
        )
    ]
    if slices := record["slices"]:
        sentences.append(f"Of {len(slices)} slices {record['false_alarms']:g} would differ by chance.")
        rows = [_difference(f"{one['by']}: {one['name']} ({one['rows']:,})", one["difference"]) for one in slices]
        tables.append(
            _table(["slice (rows)", a, b, "difference", "95 % interval", ""], rows, f"Slices by {record['metric']}")
        )
    lines = [
        _line(f"{one['by']}: {one['name']}", *(one["difference"][name] for name in ("difference", "low", "high")))
        for one in slices
    ]
    lines.sort(key=lambda line: -line["value"])
    shown = [*lines[:8], *lines[8:][-8:]]
    pictures = [[figures.ranking(shown, "difference"), "Slices that gained and lost most."]] if lines else []
    return {
        "heading": f"{b} against {a} on {_source(record['data'])}",
        "sentences": sentences,
        "pictures": pictures,
        "tables": tables,
    }


def _calibrating(record: Told, names: Mapping[str, str]) -> Section:
    sentences = [f"Temperature {record['temperature']:.3f}."]
    if (kept := record["threshold"]) is not None:
        sentences.append(
            f"Answers up to a confidence of {kept['abstain_up_to']:.4f} are withheld: {kept['answered']:.1%} are "
            f"given, {kept['wrong']:.1%} of them wrong; promised: at most {kept['risk']:.1%}, "
            f"{kept['certainty']:.0%} sure."
        )
    sides = [(when, record[when]) for when in ("before", "after")]
    rows = [
        [when, *(_number(one[name]) for name in ("ece", "brier", "nll_nats", "confidence", "accuracy"))]
        for when, one in sides
    ]
    headings = ["", "calibration error", "Brier", "nats", "mean confidence", "right"]
    pictures = [[figures.reliability(one["bins"]), f"Confidence against truth, {when}."] for when, one in sides]
    return {
        "heading": f"Calibration: {_about(record, names)}",
        "sentences": sentences,
        "pictures": pictures,
        "tables": [_table(headings, rows)],
    }


def _probe(record: Told, names: Mapping[str, str]) -> Section:
    tables, series = [], []
    for one in record["representations"]:
        layers = one["layers"]
        shown = sorted({name for layer in layers for name in layer["figures"]})
        rows = [
            [str(layer["layer"]), _metric(layer["accuracy"]), *(_number(layer["figures"].get(name)) for name in shown)]
            for layer in layers
        ]
        headings = ["layer", "probe", *(name.replace("_", " ") for name in shown)]
        tables.append({**_table(headings, rows, one["name"]), "closed": True})
        points = [(layer["layer"], *_ends(layer["accuracy"])) for layer in layers if layer["accuracy"]]
        series.append((one["name"], points))
    pictures = [_pictured(series, "layer", "linear probe")]
    heading = f"What layers know: {_source(record['data'])}"
    return {
        "heading": heading,
        "sentences": [*record["findings"], *record["notes"]],
        "pictures": pictures,
        "tables": tables,
    }


def _nearest(record: Told, names: Mapping[str, str]) -> Section:
    found = record["found"]
    heading = f"Where to start from: {_source(found['data'])}"
    return {"heading": heading, "sentences": [*record["findings"], *found["notes"]], "tables": [_starts(found)]}


def _transfer(record: Told, names: Mapping[str, str]) -> Section:
    sets = record["sets"]
    starts = list(dict.fromkeys(start["representation"] for found in sets.values() for start in found["starts"]))
    best: dict[tuple[str, str], float] = {}
    for name, found in sets.items():
        for start in found["starts"]:
            if start["accuracy"] and start["accuracy"]["value"] is not None:
                key = start["representation"], name
                best[key] = max(best.get(key, 0.0), start["accuracy"]["value"])
    rows = [
        [start, *(f"{best[start, name]:.1%}" if (start, name) in best else "–" for name in sets)] for start in starts
    ]
    above = {key: value - sets[key[1]]["chance"] for key, value in best.items()}
    most = max(above.values(), default=0.0) or 1.0
    shares = [[round(100 * max(above.get((start, name), 0.0), 0.0) / most) for name in sets] for start in starts]
    tables = [{**_table(["", *sets], rows, "What a head is right in, at the best layer"), "shares": shares}]
    tables += [{**_starts(found, name), "closed": True} for name, found in sets.items()]
    return {"heading": f"What carries over to {', '.join(sets)}", "sentences": record["findings"], "tables": tables}


def _ablation(record: Told, names: Mapping[str, str]) -> Section:
    rows = [
        [
            ", ".join(f"{path}={value}" for path, value in one["settings"].items()),
            _number(one["mean"]),
            _number(one["spread"]),
            "–" if one["parameters"] is None else f"{one['parameters']:,}",
            _number(one["milliseconds_per_step"]),
            {True: "within noise", False: "worse", None: ""}[one["within_noise"]],
        ]
        for one in record["groups"]
    ]
    headings = ["setting", record["metric"], "spread", "parameters", "ms a step", ""]
    return {
        "heading": f"One choice at a time: {record['choice']}",
        "pictures": _gains(record),
        "tables": [_table(headings, rows)],
    }


def _plain(record: Told, names: Mapping[str, str]) -> Section:
    """A record of a kind without pictures: what it says, figure by figure."""
    kind = RECORDS[record["schema"].partition("/")[0].rpartition(".")[2]]
    rows = [[path, _number(value)] for path, value in figures_of(kind.model_validate(record)).items()]
    sides = [record[side] for side in ("a", "b", "answering") if side in record]
    about = " and ".join(_name(side, names) for side in sides)
    heading = ": ".join(filter(None, (record["schema"].partition("/")[0].rpartition(".")[2].capitalize(), about)))
    tables = [_table(["figure", "value"], rows)]
    return {"heading": heading, "sentences": record.get("findings", ()), "tables": tables}


def _gains(record: Told) -> list[list[Any]]:
    made = []
    for field, across in (("parameters", "trained parameters"), ("milliseconds_per_step", "milliseconds a step")):
        series = [
            (
                ", ".join(map(str, one["settings"].values())),
                [(one[field], one["mean"], one["mean"] - spread, one["mean"] + spread)],
            )
            for one in record["groups"]
            if one[field] is not None and one["mean"] is not None
            for spread in (one["spread"] or 0.0,)
        ]
        made.append(_pictured(series, across, f"validation {record['metric']}", named=True))
    return made


def _starts(found: Told, title: str = "") -> dict[str, Any]:
    rows = [
        [
            start["representation"],
            str(start["layer"]),
            *(_number(start[name]) for name in ("probe", "logme")),
            _metric(start["accuracy"]),
            "its own" if start["own"] else "",
        ]
        for start in found["starts"]
    ]
    return _table(["start from", "layer", "probe", "LogME", "a trained head", ""], rows, title)


def _pictured(series: Sequence[Any], across: str, up: str, *, named: bool = False) -> list[Any]:
    """A picture with its caption: what is drawn, and what each colour is."""
    keys = [] if named else [name for name, _ in series]
    return [figures.lines(series, across, up, named=named), [f"{up} over {across}", *keys]]


def _table(headings: Iterable[str], rows: Sequence[Sequence[str]], title: str = "") -> dict[str, Any]:
    left = f" ({len(rows) - MOST_ROWS} more in the record)" if len(rows) > MOST_ROWS else ""
    return {"title": f"{title}{left}", "headings": list(headings), "rows": list(rows[:MOST_ROWS]), **PLAIN}


def _difference(name: str, one: Told, short: bool = False) -> list[str]:
    cells = [name, *([] if short else [_number(one["a"])]), _number(one["b"])]
    cells += [f"{one['difference']:+.4f}", f"{one['low']:+.4f} to {one['high']:+.4f}"]
    return cells if short else [*cells, "" if one["verdict"] == "no difference shown" else one["verdict"]]


def _line(name: str, value: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"name": name, "value": value, "low": low, "high": high, "dots": [], "mark": "", "faint": False}


def _ends(metric: Told) -> tuple[Any, Any, Any]:
    return metric["value"], metric["low"], metric["high"]


def _metric(metric: Told | None) -> str:
    if metric is None or metric["value"] is None:
        return "–"
    interval = (
        "" if metric["low"] is None or metric["high"] is None else f" ({metric['low']:.3f} to {metric['high']:.3f})"
    )
    return f"{metric['value']:.3f}{interval}"


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}"


_SECTIONS: Mapping[str, Callable[[Told, Mapping[str, str]], Section]] = {
    "attribution": _attribution,
    "comparison": _comparison,
    "calibrating": _calibrating,
    "probe": _probe,
    "nearest": _nearest,
    "transfer": _transfer,
    "ablation": _ablation,
}
