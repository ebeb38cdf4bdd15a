"""How much shorter is an epoch whose frozen layers were computed once?

    python benchmarks/cached_trunk.py [--rounds 7] [--threads 1] [--json FILE]

BANKING77 on all-MiniLM-L6-v2 (6 layers, d=384), LoRA of rank 8 on query and value, 64 rows a step. One process; in each
round every variant takes the same batch, one after the other, and medians over the rounds are shown. Before that, the
losses of each cached variant are compared with those of the same one without the cache. Times are CPU seconds of the
process, which other programs on the machine change less than wall time.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

RECIPE: dict[str, Any] = {
    "task": {"kind": "text-classification"},
    "backbone": {"name": "sentence-transformers/all-MiniLM-L6-v2"},
    "head": {"kind": "linear", "pooling": "mean"},
    "data": {"train": "banking77/train.jsonl", "columns": {"text": "text", "label": "label"}},
    "training": {"batch_size": 64, "epochs": 6, "trackers": [], "learning_rate": 2e-3},
}
LORA = {"kind": "lora", "rank": 8, "alpha": 16, "sites": ["attention.query", "attention.value"]}
VARIANTS: dict[str, tuple[dict[str, Any], bool]] = {
    "top 1 cached": ({**LORA, "top": 1}, True),
    "top 2 cached": ({**LORA, "top": 2}, True),
    "all layers": (LORA, False),
    "head only": ({"kind": "none"}, False),
    "head only cached": ({"kind": "none"}, True),
}
ASKED = {
    "top 1 cached": ("PEFT all layers", 5.5),
    "top 2 cached": ("PEFT all layers", 2.7),
    "head only cached": ("head only", 50.0),
}


def run_of(
    method: dict[str, Any], cache: str, folder: Path, precision: str, limit: int | None, **training: Any
) -> tuple[Any, Iterator[Any]]:
    """An adapter on a backbone of its own, and its training steps. What is not kept yet is computed when they begin."""
    from adapterkit.adapted import build
    from adapterkit.recipe import resolve
    from adapterkit.training.batches import HeldBatches
    from adapterkit.training.environment import compute_dtype, make_accelerator
    from adapterkit.training.job import Job
    from adapterkit.training.learner import make_learner
    from adapterkit.training.reuse import Reuse
    from adapterkit.training.run_display import RunDisplay
    from adapterkit.training.trackers import Tracking
    from adapterkit.training.trunk_cache import use_cache
    from adapterkit.training.turn import Learning, turns

    data = {**RECIPE["data"], "limit": limit}
    chosen = {**RECIPE["training"], "cache": cache, "precision": precision, **training}
    recipe = resolve({**RECIPE, "method": method, "data": data, "training": chosen}, ()).recipe
    reuse, accelerator, display = Reuse(), make_accelerator(recipe, folder), RunDisplay(quiet=True)
    rows, backbone = reuse.rows(recipe, None), reuse.backbone(recipe, accelerator)
    adapted = build(backbone, rows.task, recipe.method, recipe.head, 0)
    adapted.compute_dtype = compute_dtype(recipe, backbone)
    features = reuse.features(rows, adapted, display)
    job = Job(recipe, rows, features, adapted, accelerator, None, display, Tracking(accelerator), folder)
    batches = HeldBatches(features["train"], rows.sample.numbers, recipe.training)

    def steps() -> Iterator[Any]:
        use_cache(job, batches)
        learner = make_learner(adapted, recipe.training, batches.total_steps)
        learning = Learning(adapted, batches, learner, recipe.training, accelerator)
        yield from (turn.take() for turn in turns(learning))

    return adapted, steps()


def steps_of(method: dict[str, Any], cache: str, folder: Path, precision: str, limit: int | None) -> Iterator[Any]:
    """Training steps of one variant."""
    return run_of(method, cache, folder, precision, limit)[1]


def peft_steps(precision: str, limit: int | None) -> Iterator[Any]:
    """The same in plain transformers, PEFT and torch: LoRA on all layers, the same batches."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    from adapterkit.backbone import Backbone
    from adapterkit.recipe import resolve
    from adapterkit.tasks.protocol import Vocabulary
    from adapterkit.training.batches import HeldBatches
    from adapterkit.training.reuse import Reuse
    from adapterkit.training.standing import Position

    recipe = resolve({**RECIPE, "method": LORA, "data": {**RECIPE["data"], "limit": limit}}, ()).recipe
    rows = Reuse().rows(recipe, None)
    backbone = Backbone.load(RECIPE["backbone"]["name"], dtype="bfloat16" if precision == "bf16" else "float32")
    vocabulary = Vocabulary.of(backbone.tokenizer, backbone.max_tokens)
    features = rows.task.encode(rows.sample, vocabulary, "train").features
    model = AutoModelForSequenceClassification.from_pretrained(
        backbone.folder, num_labels=rows.task.classes, dtype=backbone.dtype
    )
    model = get_peft_model(
        model, LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], task_type="SEQ_CLS")
    )
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    for _, part in HeldBatches(features, rows.sample.numbers, recipe.training).after(Position()):
        batch = rows.task.collate(part, vocabulary)
        loss = model(**batch.inputs, labels=batch.labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield loss


def check_losses(folder: Path, cache: str, limit: int | None, steps: int) -> dict[str, float]:
    """The largest difference of a cached variant's losses in fp32 from those without the cache."""
    import torch

    found = {}
    for name, (method, cached) in VARIANTS.items():
        if cached:
            losses = []
            for setting in (cache, "off"):
                torch.manual_seed(0)
                run = steps_of(method, setting, folder, "fp32", limit)
                losses.append([next(run).loss for _ in range(steps)])
            found[name] = max(abs(one - other) for one, other in zip(*losses, strict=True))
            gc.collect()
    return found


def timed(act: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    started = time.process_time()
    act()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rows", type=int, default=1000, help="training rows; a step's time does not depend on them")
    parser.add_argument("--equal-steps", type=int, default=10, help="steps whose losses are compared")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", str(chosen.threads))
    import torch

    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        cache = str(Path(folder) / "cache")
        differences = check_losses(Path(folder), cache, chosen.rows, chosen.equal_steps) if chosen.equal_steps else {}
        runs: dict[str, Iterator[Any]] = {"PEFT all layers": peft_steps(chosen.precision, chosen.rows)}
        for name, (method, cached) in VARIANTS.items():
            runs[name] = steps_of(method, cache if cached else "off", Path(folder), chosen.precision, chosen.rows)
        for run in runs.values():
            next(run), next(run)
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(chosen.rounds):
            for name, run in runs.items():
                times[name].append(timed(partial(next, run)))
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {name: medians[against] / medians[name] for name, (against, _) in ASKED.items()}
    for name, seconds in medians.items():
        against, least = ASKED.get(name, ("", 0.0))
        told = f"{ratios[name]:6.1f} × faster than {against} (asked {least})" if against else ""
        equal = f"  losses differ by {differences[name]:.1e} at most" if name in differences else ""
        print(f"{name:18} {1000 * seconds:8.2f} ms a step  {told}{equal}")
    if chosen.json:
        facts = {"precision": chosen.precision, "threads": chosen.threads, "seconds": medians, "ratios": ratios}
        chosen.json.write_text(json.dumps({**facts, "loss_differences": differences}, indent=1))


if __name__ == "__main__":
    main()
