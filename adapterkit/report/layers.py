"""Sections about representations: what their layers know, and where a task can start from."""

from typing import Any

from adapterkit.report.cells import Names, Section, Told, metric, number, pictured, source, table

MEASURES = {
    "knn_accuracy": ("kNN", ".1%"), "logme": ("LogME", ".3f"), "h_score": ("H-score", ".2f"),
    "codelength_bits": ("bits/label", ".2f"), "information_nats": ("InfoNCE", ".2f"),
    "silhouette": ("silhouette", ".2f"), "nmi": ("NMI", ".2f"), "rank_me": ("rank", ".0f"),
    "anisotropy": ("anisotropy", ".2f"), "alignment": ("alignment", ".2f"), "uniformity": ("uniformity", ".2f"),
}  # fmt: skip
"""Measure -> heading and format."""


def probe(record: Told, names: Names) -> Section:
    """A table for each representation."""
    tables, series = [], []
    refused: dict[str, str] = {}
    every = [one["name"] for one in record["representations"]]
    for one in record["representations"]:
        layers, others = one["layers"], [name for name in every if name != one["name"]]
        measured = [name for name in MEASURES if any(name in layer["figures"] for layer in layers)]
        ceilings = [layer["figures"].get("information_ceiling_nats") for layer in layers]
        headings = {name: MEASURES[name][0] for name in measured}
        if (known := next(filter(None, ceilings), None)) and "information_nats" in headings:
            headings["information_nats"] += f" (≤ {known:.2f})"
        rows = []
        for layer in layers:
            cells = [number(layer["figures"].get(name), MEASURES[name][1]) for name in measured]
            alike = [number(layer["similarity"].get(name), ".3f") for name in others]
            rows.append([str(layer["layer"]), metric(layer["accuracy"]), *cells, *alike])
            refused |= {name: why for name, why in layer["refused"].items() if name not in measured}
        top = ["layer", "probe (95 % interval)", *headings.values(), *(f"CKA {name}" for name in others)]
        tables.append(table(top, rows, one["name"], closed=True))
        probed = [(layer["layer"], layer["accuracy"]) for layer in layers if layer["accuracy"]]
        series.append((one["name"], [(at, found["value"], found["low"], found["high"]) for at, found in probed]))
    why_not = [f"No {name.replace('_', ' ')}: {why}." for name, why in refused.items()]
    return {
        "heading": f"What layers know: {source(record['data'])}",
        "sentences": [*record["notes"], *why_not, *record["findings"]],
        "pictures": [pictured(series, "layer", "linear probe")],
        "tables": tables,
    }


def nearest(record: Told, names: Names) -> Section:
    """Starting points, the best by the probe first."""
    found = record["found"]
    heading = f"Where to start from: {source(found['data'])}"
    return {"heading": heading, "sentences": [*found["notes"], *record["findings"]], "tables": [_starts(found)]}


def transfer(record: Told, names: Names) -> Section:
    """What a head is right in on every representation, set by set."""
    sets = record["sets"]
    starts = list(dict.fromkeys(start["representation"] for found in sets.values() for start in found["starts"]))
    best: dict[tuple[str, str], float] = {}
    for name, found in sets.items():
        for start in found["starts"]:
            if start["accuracy"] and start["accuracy"]["value"] is not None:
                key = start["representation"], name
                best[key] = max(best.get(key, 0.0), start["accuracy"]["value"])
    rows = [[start, *(number(best.get((start, name)), ".1%") for name in sets)] for start in starts]
    above = {key: value - sets[key[1]]["chance"] for key, value in best.items()}
    most = max(above.values(), default=0.0) or 1.0
    shares = [[round(100 * max(above.get((start, name), 0.0), 0.0) / most) for name in sets] for start in starts]
    tables = [table(["", *sets], rows, "What a head is right in, at the best layer", shares=shares)]
    tables += [_starts(found, f"{name} (by chance {found['chance']:.1%})", closed=True) for name, found in sets.items()]
    sentences = [f"{name}: {note}." for name, found in sets.items() for note in found["notes"]]
    sentences += [
        f"{answerer} answers {name} with its own head: {each} {metric(one)}"
        for name, found in sets.items()
        for answerer, metrics in found["answers"].items()
        for each, one in metrics.items()
    ]
    heading = f"What carries over to {', '.join(sets)}"
    return {"heading": heading, "sentences": [*sentences, *record["findings"]], "tables": tables}


def _starts(found: Told, title: str = "", **more: Any) -> dict[str, Any]:
    rows = []
    for start in found["starts"]:
        ranks = [number(start["probe"], ".1%"), number(start["logme"], ".3f"), metric(start["accuracy"])]
        rows.append([start["representation"], str(start["layer"]), *ranks, "its own" if start["own"] else ""])
    return table(["start from", "layer", "probe", "LogME", "a trained head (95 % interval)", ""], rows, title, **more)
