"""What does compaction take from the artifacts of the shipped recipes, in bytes and in their metric?

    python benchmarks/compaction.py                          # all recipes, some 40 minutes
    python benchmarks/compaction.py banking77 wnut17         # some
    python benchmarks/compaction.py --table                  # the table of docs/results.md

Every recipe is trained for some steps and saved in float32, as PEFT saves it, and compacted to bfloat16 and to int8
with `rank="auto"` and a tolerance of 0.002, on the first test rows. A recipe that stands in
benchmarks/results/compaction.json is not done again. The data are looked for under ADAPTERKIT_DATA, the small backbones
under ADAPTERKIT_BACKBONES.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import adapterkit as ak
from adapterkit.errors import DataError
from adapterkit.manifest import TENSORS, open_manifest
from adapterkit.recipe import resolve

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "compaction.json"
TOLERANCE = 0.002
STEPS_ROWS = {
    "banking77": (80, 1200),
    "wnut17": (60, 400),
    "ud_ewt_upos": (40, 300),
    "tinyshakespeare": (40, 600),
    "commonsenseqa": (20, 200),
    "squad_small": (16, 100),
    "wikitext2": (24, 12),
    "e2e_small": (60, 100),
    "scan_simple": (80, 200),
}
"""Recipe -> steps of training, lines of its test file."""
LIKELIHOOD = {"e2e_small": "perplexity", "scan_simple": "perplexity"}
"""Metrics of recipes whose own say little after so few steps."""


def measured(name: str, scratch: Path) -> dict[str, Any]:
    """Train a recipe a little, and compact what came of it."""
    of = name.removesuffix("-bottleneck")
    steps, lines = STEPS_ROWS[of]
    file = HERE.parent / "recipes" / f"{name}.yaml"
    overrides = [f"training.max_steps={steps}", "training.save_dtype=float32", f"output={scratch}/{name}"]
    overrides += [
        "data.test=null",
        "data.validation=null",
        *([f"task.metric={LIKELIHOOD[of]}"] if of in LIKELIHOOD else []),
    ]
    started = time.process_time()
    test = str(resolve(file).recipe.data.test)
    rows = scratch / Path(test).name
    rows.write_text(
        "".join((Path(os.environ.get("ADAPTERKIT_DATA", ".")) / test).read_text().splitlines(keepends=True)[:lines])
    )
    artifact = ak.train(file, overrides=overrides).artifact
    found: dict[str, Any] = {"steps": steps, "training_cpu_seconds": round(time.process_time() - started)}
    found |= {"float32": {"tensors": tensors_of(artifact), "folder": open_manifest(artifact).size_bytes}}
    for to in ("bfloat16", "int8"):
        found[to] = compacted(artifact, scratch / f"{name}-{to}", rows, to)
        print(f"{name} {to}: {found[to]}", flush=True)
    return {**found, "cpu_seconds": round(time.process_time() - started)}


def compacted(artifact: Path, out: Path, rows: Path, to: Any) -> dict[str, Any]:
    try:
        told = ak.compact(artifact, out, str(rows), to=to, rank="auto", tolerance=TOLERANCE)
    except DataError as error:
        return {"refused": "; ".join(error.problems)}
    facts = told.difference
    return {
        "metric": told.metric,
        "rows": told.data.rows,
        "before": facts.a,
        "after": facts.b,
        "change": [facts.difference, facts.low, facts.high],
        "dropped": next(one.dropped for one in told.tried if one.kept),
        "tensors": tensors_of(out),
        "folder": told.size_bytes[1],
    }


def tensors_of(folder: Path) -> int:
    return (folder / TENSORS).stat().st_size


def table(results: dict[str, Any]) -> str:
    """Bytes as shares of those in float32; the metric as in its recipe, the change with its 95 % interval."""
    lines = [
        "| recipe | float32 | to | tensors | metric | before | after | change | rows |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in sorted(results.items()):
        whole = found["float32"]["tensors"]
        for to in ("bfloat16", "int8"):
            one, size = found[to], f"{whole / 1000:,.0f} kB" if to == "bfloat16" else ""
            start = f"| {name if size else ''} | {size} | {to} | "
            if "refused" in one:
                lines.append(f"{start}– | refused: {one['refused']} | | | | |")
                continue
            change, low, high = one["change"]
            lines.append(
                f"{start}{one['tensors'] / whole:.2f} | {one['metric']} | {one['before']:.4g} | {one['after']:.4g} | "
                f"{change:+.2g} [{low:+.2g}, {high:+.2g}] | {one['rows']:,} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*")
    parser.add_argument("--table", action="store_true", help="print what was measured, as markdown")
    asked = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if asked.table:
        print(table(results))
        return
    for name in asked.recipes or [name + end for name in STEPS_ROWS for end in ("", "-bottleneck")]:
        if name not in results:
            with tempfile.TemporaryDirectory() as scratch:
                results[name] = measured(name, Path(scratch))
            RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
