"""The table of docs/results.md from benchmarks/results/recipes.jsonl, as markdown on standard output.

    python benchmarks/results_table.py

A cell has the runs of one number format: of that with more seeds, else of float32. Those in bfloat16 are marked.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results" / "recipes.jsonl"
VARIANTS = ("lora", "houlsby", "pfeiffer", "parallel", "none", "full")
MAIN = {
    "banking77": "accuracy",
    "wnut17": "entity_f1",
    "ud_ewt_upos": "accuracy",
    "squad_small": "f1",
    "commonsenseqa": "accuracy",
    "wikitext2": "perplexity",
    "tinyshakespeare": "bits_per_character",
    "e2e_small": "bleu",
    "scan_simple": "exact_match",
}
PERCENT = {"accuracy", "entity_f1", "f1", "exact_match"}
MARKS = {"float32": "", "bfloat16": " ᵇ"}


def shown(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs of the format that a cell shows."""
    dtype = max(MARKS, key=lambda dtype: sum(run["dtype"] == dtype for run in runs))
    return [run for run in runs if run["dtype"] == dtype]


def cell(runs: list[dict[str, Any]], metric: str) -> str:
    """Mean over seeds, with the spread, or the bootstrap interval of a single run."""
    if not runs:
        return "–"
    mark = MARKS[runs[0]["dtype"]]
    factor = 100 if metric in PERCENT else 1
    found = [(run["metrics"].get("test") or run["metrics"]["validation"])[metric] for run in runs]
    values = [factor * value for value, _, _ in found]
    if len(values) > 1:
        return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} ({len(values)}){mark}"
    return f"{values[0]:.2f} [{factor * found[0][1]:.2f}, {factor * found[0][2]:.2f}]{mark}"


def main() -> None:
    runs = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    print("| recipe | metric | " + " | ".join(VARIANTS) + " | CPU seconds | artifact |")
    print("|---|---|" + "---|" * (len(VARIANTS) + 2))
    for recipe, metric in MAIN.items():
        own = [run for run in runs if run["recipe"] == recipe and not run["overrides"]]
        if not own:
            continue
        of = {variant: shown([run for run in own if run["variant"] == variant]) for variant in VARIANTS}
        cells, lora = [cell(of[variant], metric) for variant in VARIANTS], of["lora"]
        seconds = f"{statistics.median(run['cpu_seconds'] for run in lora):.0f}" if lora else "–"
        size = f"{lora[0]['artifact_bytes'] / 1000:.0f} kB" if lora else "–"
        print(f"| {recipe} | {metric} | " + " | ".join(cells) + f" | {seconds} | {size} |")


if __name__ == "__main__":
    main()
