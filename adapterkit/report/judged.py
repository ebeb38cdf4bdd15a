"""Records of evaluations as sections of a page, and of what a verb prints: sentences, pictures and tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapterkit.records import AblationRecord, Record, ReportRecord
from adapterkit.report import figures, layers, versions
from adapterkit.report.cells import (
    SAME,
    Names,
    Section,
    Told,
    about,
    change,
    compared,
    metric,
    metric_cells,
    named,
    number,
    pictured,
    ranked,
    source,
    table,
)  # fmt: skip
from adapterkit.report.page import Page, render

EMPTY: Mapping[str, Any] = {"sentences": (), "pictures": ()}
NO_ROWS: Mapping[str, Any] = {"confused": (), "groups": None, "errors": (), "hidden": ""}
"""What a page shows of rows, and a record does not have."""


def report_page(found: ReportRecord, command: str = "") -> str:
    """The page of everything that was found, as HTML; see `report.page`."""
    told = found.to_dict()
    names = {run["sha256"]: run["name"] for run in told["runs"]}
    sections = [_runs(told["runs"])] if told["runs"] else []
    splits = []
    for record in told["records"]:
        if _kind(record) == "evaluation":
            splits.append({**NO_ROWS, **record, "split": about(record, names), "rows": record["data"]["rows"]})
        else:
            sections.append(_section(record, names))
    page: Page = {
        "title": ", ".join(names.values()) or "What was found",
        "command": command,
        "facts": _facts(told),
        "sections": [{**EMPTY, **section} for section in sections],
        "splits": splits,
    }
    if not told["records"]:
        page["lead"] = "No record is about it: write them beside the run (adapterkit evaluate RUN --json > …)."
    return render(page)


def record_page(record: Record, command: str = "") -> str:
    """The page of one record, as HTML."""
    section = section_of(record, {})
    facts = _facts(record.to_dict())
    return render({"title": section["heading"], "command": command, "facts": facts, "sections": [{**EMPTY, **section}]})


def section_of(record: Record, names: Names) -> Section:
    """What a record says, as sentences, pictures and tables; `names`: digest of an artifact -> what it is called."""
    return _section(record.to_dict(), names)


def gains_picture(found: AblationRecord) -> str:
    """The metric over parameters and over milliseconds, in an SVG file of its own."""
    return figures.alone([picture for picture, _ in _gains(found.to_dict())])


def _facts(told: Told) -> list[list[str]]:
    return [["made with", ", ".join(f"{name} {version}" for name, version in told["made_with"].items())]]


def _kind(record: Told) -> str:
    kind: str = record["schema"].partition("/")[0].rpartition(".")[2]
    return kind


def _section(record: Told, names: Names) -> Section:
    return _SECTIONS[_kind(record)](record, names)


def _runs(runs: Sequence[Told]) -> Section:
    rows = [
        [run["name"], run["kind"], f"{run['version']}", run["sha256"][:12], run["backbone"], split, name, metric(one)]
        for run in runs
        for split, scores in (run["metrics"] or {"": {"": None}}).items()
        for name, one in list(scores.items())[:1]
    ]
    headings = ["run", "kind", "version", "digest", "backbone", "split", "metric", "95 % interval"]
    return {"heading": "Runs", "tables": [table(headings, rows)]}


def _evaluation(record: Told, names: Names) -> Section:
    sentences = []
    rows = [metric_cells(name, one) for name, one in record["metrics"].items()]
    if (found := record["calibration"]) is not None:
        nll = "" if found["nll_nats"] is None else f", negative log-likelihood {found['nll_nats']:.3f} nats"
        sentences.append(
            f"Confidence {found['confidence']:.1%} on average, right {found['accuracy']:.1%}: "
            f"calibration error {found['ece']:.1%}, Brier {found['brier']:.3f}{nll}."
        )
    return {
        "heading": about(record, names),
        "sentences": sentences,
        "tables": [table(["metric", "value", "95 % interval"], rows)],
    }


def _attribution(record: Told, names: Names) -> Section:
    gains, lines, rows = record["gains"], [], []
    words = [f"{record['starts_from']} {gains[0]['difference']['a']:.3f}"] if gains else []
    if gains:
        lines.append(ranked(record["starts_from"], gains[0]["difference"]["a"]))
    for gain in gains:
        one = gain["difference"]
        words.append(f"{gain['name']} {one['difference']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]")
        ends = one["a"] + one["low"], one["a"] + one["high"]
        lines.append(ranked(gain["name"], one["b"], *ends, f"{one['difference']:+.3f}"))
        rows.append([gain["name"], number(one["b"], ".4f"), change(one)])
    return {
        "heading": f"Where the gain is from: {about(record, names)}",
        "sentences": [f"{' → '.join(words) or 'there is nothing but a head'} ({record['metric']})"],
        "pictures": [[figures.ranking(lines, record["metric"]), "Each step with the interval of its gain."]]
        * bool(lines),
        "tables": [table(["step", record["metric"], "gain"], rows)],
    }


def _comparison(record: Told, names: Names) -> Section:
    a, b = (named(record[side], names) for side in ("a", "b"))
    main, verdict = record["metrics"][record["metric"]], record["verdict"]
    said = verdict if verdict == SAME else f"{b} is {verdict}"
    sentences = [f"{said}: {record['metric']} {change(main)} on {record['data']['rows']:,} rows."]
    if (sides := record["sides"]) is not None:
        sentences.append(
            f"{sides['gained']:,} rows only {b} answers right, {sides['lost']:,} only {a}; McNemar's exact test: "
            f"p = {sides['p_value']:.2g}."
        )
    if record["rows_for_a_point"] is not None:
        sentences.append(f"About {record['rows_for_a_point']:,} rows would show a difference of 1 point.")
    columns = [a, b, "difference", "95 % interval", f"{b} is"]
    tables = [table(["metric", *columns], [compared(name, one) for name, one in record["metrics"].items()])]
    pictures = []
    if slices := record["slices"]:
        differ = sum(one["difference"]["verdict"] != SAME for one in slices)
        found = f"{differ} of {len(slices)} slices differ ({record['metric']})"
        sentences.append(f"{found}; without any difference some {record['false_alarms']:g} would, by chance.")
        first = sorted(slices, key=lambda one: one["difference"]["verdict"] == SAME)
        rows = [compared(f"{one['by']}: {one['name']} ({one['rows']:,})", one["difference"]) for one in first]
        tables.append(table(["slice (rows)", *columns], rows, f"Slices by {record['metric']}"))
        ends = ("difference", "low", "high")
        lines = [ranked(f"{one['by']}: {one['name']}", *(one["difference"][name] for name in ends)) for one in slices]
        lines.sort(key=lambda line: -line["value"])
        shown = [*lines[:8], *lines[8:][-8:]]
        pictures.append([figures.ranking(shown, "difference"), "Slices that gained and lost most."])
    heading = f"{b} against {a} on {source(record['data'])}"
    return {"heading": heading, "sentences": sentences, "pictures": pictures, "tables": tables}


def _calibrating(record: Told, names: Names) -> Section:
    version = record["answering"]["version"]
    sentences = [f"{named(record['answering'], names)}: version {version}, temperature {record['temperature']:.3f}."]
    if (kept := record["threshold"]) is not None:
        sentences.append(
            f"Answers up to a confidence of {kept['abstain_up_to']:.4f} are withheld: {kept['answered']:.1%} are "
            f"given, {kept['wrong']:.1%} of them wrong; on new rows like these at most {kept['risk']:.1%}, "
            f"{kept['certainty']:.0%} sure."
        )
    sides = [(when, record[when]) for when in ("before", "after")]
    measured = ("ece", "brier", "nll_nats", "confidence", "accuracy")
    rows = [[when, *(number(one[name]) for name in measured)] for when, one in sides]
    headings = ["", "calibration error", "Brier", "nats", "mean confidence", "right"]
    return {
        "heading": f"Calibration: {about(record, names)}",
        "sentences": sentences,
        "pictures": [[figures.reliability(one["bins"]), f"Confidence against truth, {when}."] for when, one in sides],
        "tables": [table(headings, rows)],
    }


def _ablation(record: Told, names: Names) -> Section:
    rows = []
    noise = {True: "within noise", False: "worse", None: "one seed tells nothing of noise"}
    for place, one in enumerate(record["groups"]):
        said = "best" if place == 0 else noise[one["within_noise"]] if one["status"] == "done" else one["status"]
        setting = ", ".join(f"{path}={value}" for path, value in one["settings"].items())
        found = [number(one["mean"], ".4f"), number(one["spread"], ".4f"), number(one["parameters"], ",")]
        rows.append([setting, *found, number(one["milliseconds_per_step"], ".1f"), said])
    headings = ["setting", f"validation {record['metric']}", "± over seeds", "parameters", "ms a step", ""]
    heading = f"One choice at a time: {record['choice']}"
    return {"heading": heading, "pictures": _gains(record), "tables": [table(headings, rows, "The best first")]}


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
        made.append(pictured(series, across, f"validation {record['metric']}", named=True))
    return made


_SECTIONS: Mapping[str, Callable[[Told, Names], Section]] = {
    "evaluation": _evaluation,
    "attribution": _attribution,
    "comparison": _comparison,
    "calibrating": _calibrating,
    "ablation": _ablation,
    **{each.__name__: each for each in (layers.probe, layers.nearest, layers.transfer)},
    **{each.__name__: each for each in (versions.diff, versions.compaction, versions.upgrade, versions.stream)},
}
