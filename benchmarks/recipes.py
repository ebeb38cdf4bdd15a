"""How well does every recipe do, beside the head alone and full fine-tuning under the same budget?

    python benchmarks/recipes.py banking77 wnut17 --variants lora houlsby pfeiffer parallel none full --seeds 0 1 2

Appends one JSON line per run to benchmarks/results/recipes.jsonl; a run that stands there is not done again, unless the
hardware's number format is another. The data are looked for under ADAPTERKIT_DATA, the small backbones under
ADAPTERKIT_BACKBONES.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from full_finetuning import rate_for, score_trained, score_untrained

from adapterkit.backbone.hardware import pick_dtype
from adapterkit.recipe import resolve
from adapterkit.training import train

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "recipes.jsonl"
PLACEMENTS = ("houlsby", "pfeiffer", "parallel")
VARIANTS = ("lora", *PLACEMENTS, "none", "full")
OWN_HEADS = ("causal-lm", "seq2seq-lm")
"""Kinds whose head is the checkpoint's own: nothing trains without a method, so `none` scores the bare checkpoint. The
encoders here come without a head for masked words, so that theirs is trained."""

FORMAT = str(pick_dtype("auto", torch.device("cpu"))).removeprefix("torch.")
"""Of the frozen weights, which every recipe leaves to the hardware."""

RATES = {
    ("wikitext2", "none"): ["training.learning_rate=1e-3"],
    ("scan_simple", "pfeiffer"): ["training.learning_rate=1e-3"],
    ("scan_simple", "parallel"): ["training.learning_rate=1e-3"],
}
"""Where a variant has another rate than its recipe: on WikiText validation rows prefer it, and SCAN's two were not run
to the end at the recipe's."""


def run(name: str, variant: str, seed: int, extra: list[str]) -> dict[str, Any]:
    """Train one variant of a recipe. Returns what it scored and what it took."""
    file = HERE.parent / "recipes" / (f"{name}-bottleneck.yaml" if variant in PLACEMENTS else f"{name}.yaml")
    overrides = [f"training.seed={seed}", *RATES.get((name, variant), []), *extra]
    if variant in PLACEMENTS:
        overrides.append(f"method.placement={variant}")
    if variant == "none":
        overrides.append("method.kind=none")
    started, started_cpu = time.perf_counter(), time.process_time()
    size_bytes = None
    if variant == "full":
        metrics = score_trained(resolve(file, [*rate_for(name), *overrides]).recipe)
    elif variant == "none" and resolve(file).recipe.task.kind in OWN_HEADS:
        metrics = score_untrained(resolve(file, overrides).recipe)
    else:
        with tempfile.TemporaryDirectory() as folder:
            result = train(file, overrides=[*overrides, f"output={folder}/run"])
            metrics = result.metrics
            size_bytes = sum(file.stat().st_size for file in result.artifact.iterdir() if file.is_file())
    return {
        "recipe": name,
        "variant": variant,
        "seed": seed,
        "overrides": extra,
        "metrics": {
            split: {metric: [m.value, m.low, m.high] for metric, m in found.items()} for split, found in metrics.items()
        },
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - started_cpu, 1),
        "artifact_bytes": size_bytes,
        "dtype": FORMAT,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__.partition("+")[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides for every run")
    asked = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    lines = RESULTS.read_text().splitlines() if RESULTS.is_file() else []
    done = {(r["recipe"], r["variant"], r["seed"], tuple(r["overrides"]), r["dtype"]) for r in map(json.loads, lines)}
    for name in asked.recipes:
        for variant in asked.variants:
            for seed in asked.seeds:
                if (name, variant, seed, tuple(asked.set), FORMAT) in done:
                    continue
                found = run(name, variant, seed, asked.set)
                with RESULTS.open("a") as file:
                    file.write(json.dumps(found) + "\n")
                test = found["metrics"].get("test") or found["metrics"]["validation"]
                shown = ", ".join(f"{metric} {value[0]:.4f}" for metric, value in test.items())
                spent = f"{found['cpu_seconds']} CPU s of {found['seconds']}"
                print(f"{name} {variant} seed {seed}: {shown} ({spent})", file=sys.stderr)


if __name__ == "__main__":
    main()
