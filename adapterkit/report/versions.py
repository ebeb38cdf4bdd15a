"""Sections about versions: what differs, what became smaller, what moved to another backbone, what was forgotten."""

from pathlib import Path

from adapterkit.glance import readable_bytes
from adapterkit.report.cells import Names, Section, Told, about, change, metric, named, number, shown, source, table

FARTHEST = 12
"""Of the farthest apart that are told; the record has them all."""


def diff(record: Told, names: Names) -> Section:
    """What differs between two artifacts."""
    a, b = (named(record[side], names) for side in ("a", "b"))
    sentences = [f"a: {a}, version {record['a']['version']}; b: {b}, version {record['b']['version']}."]
    sentences += [
        f"{title.replace('_', ' ')}: {', '.join(record[title])}"
        for title in ("labels_added", "labels_removed")
        if record[title]
    ]
    tables = []
    for title in ("changes", "metrics"):
        rows = [[one["field"].removeprefix("metrics."), shown(one["a"]), shown(one["b"])] for one in record[title]]
        tables.append(table([title, "a", "b"], rows))
    apart = [one for one in record["learned"] if one["distance"] != 0]
    if apart:
        sentences.append(f"{len(apart)} of {len(record['learned'])} modules and tensors that were learned differ.")
    rows = []
    for one in apart[:FARTHEST]:
        share = "–" if one["distance"] is None or not one["a"] else f"{one['distance'] / one['a']:.3f}"
        rows.append([one["name"], number(one["a"]), number(one["b"]), share])
    tables.append(table(["farthest apart", "‖a‖", "‖b‖", "‖b - a‖ / ‖a‖"], rows))
    golden = [[shown(one[name]) for name in ("row", "a", "b")] for one in record["golden"]]
    return {
        "heading": f"{b} beside {a}",
        "sentences": [*sentences, record["relation"]],
        "tables": [one for one in tables if one["rows"]],
        "golden": [table(["golden row", "a answers", "b answers"], golden)] if golden else [],
    }


def compaction(record: Told, names: Names) -> Section:
    """What a smaller version lost."""
    (before, after), found = record["size_bytes"], record["difference"]
    sizes = f"{readable_bytes(before)} → {readable_bytes(after)} ({after / before:.2f})"
    rows = []
    for one in record["tried"]:
        kept = "written" if one["kept"] else ""
        rows.append([f"{one['dropped']:.2%}", f"{one['numbers']:,}", number(one["difference"]["b"], ".4f"), kept])
    return {
        "heading": f"Compaction: {about(record, names)}",
        "sentences": [
            f"{named(record['answering'], names)}: version {record['answering']['version']}, {sizes}.",
            f"{record['metric']}: {found['a']:.4f} → {found['b']:.4f}, {change(found)}.",
        ],
        "tables": [table(["left out of Σ‖ΔW‖²", "numbers", record["metric"], ""], rows)],
    }


def upgrade(record: Told, names: Names) -> Section:
    """What becomes of adapters on another backbone."""
    rows, sentences = [], []
    for adapter in record["adapters"]:
        sentences += [f"{adapter['run']}: {misfit}" for misfit in adapter["misfits"]]
        for trial in adapter["trials"]:
            found, notes = trial["difference"], []
            if trial["way"] == "copy":
                notes.append(f"{adapter['golden'][0]} of {adapter['golden'][1]} golden rows differ")
            notes += ["advised"] * (trial["way"] == adapter["advised"])
            values = f"{adapter['metric']} {found['a']:.4f} → {found['b']:.4f}"
            costs = [f"{trial['seconds']:.1f} s", readable_bytes(trial["size_bytes"]), ", ".join(notes)]
            rows.append([Path(adapter["run"]).name, trial["way"], values, change(found), *costs])
    headings = ["run", "way", "metric", "change", "training", "size", ""]
    heading = f"From backbone {record['old'][:12]} to {record['new'][:12]}"
    return {"heading": heading, "sentences": sentences, "tables": [table(headings, rows)]}


def stream(record: Told, names: Names) -> Section:
    """What each way of learning stages knows after each of them."""
    tables = []
    for way, one in record["ways"].items():
        rows = [
            [stage, *(metric(cells.get(known)) if known in cells else "" for known in record["data"])]
            for stage, cells in one["after"].items()
        ]
        title = f"{way}: {', '.join(dict.fromkeys(record['metrics'].values()))}"
        tables.append(table(["after", *record["data"]], rows, title))
    changes = [
        [f"{way}, lost of {stage}", change(found)]
        for way, one in record["ways"].items()
        for stage, found in one["forgetting"].items()
    ]
    changes += [
        [f"{way} less isolated, {stage}", change(found)]
        for way, ends in record["against"].items()
        for stage, found in ends.items()
    ]
    if changes:
        tables.append(table(["after the last stage", "change"], changes))
    answering = {way: one["answering"] for way, one in record["ways"].items()}
    rows = [[way, stage, named(one, names)] for way, stages in answering.items() for stage, one in stages.items()]
    tables.append(table(["way", "stage", "who answers"], rows, closed=True))
    heading = f"Stages: {', '.join(source(data) for data in record['data'].values())}"
    return {"heading": heading, "sentences": record["findings"], "tables": tables}
