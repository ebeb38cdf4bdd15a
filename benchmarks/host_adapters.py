"""Adapters for the host's benchmarks: saved artifacts with random weights, on all-MiniLM-L6-v2 in fp32."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import adapterkit as ak
from adapterkit.adapted import build
from adapterkit.artifact import DataFacts, save
from adapterkit.backbone.hardware import bfloat16_is_fast, cpu_features
from adapterkit.recipe import HeadSettings, LoraMethod, TaskSettings
from adapterkit.tasks import TASKS

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
RESULTS = Path(__file__).resolve().parent / "results"
LABELS = tuple(f"label {number}" for number in range(77))
METHODS: Mapping[str, LoraMethod] = {
    "query and value": LoraMethod(rank=8, alpha=16),
    "every linear": LoraMethod(rank=8, alpha=16, sites="all-linear"),
}
OWN = HeadSettings(kind="linear", pooling="mean")
FAMILY = HeadSettings(kind="family")


def saved(folder: Path, backbone: ak.Backbone, method: LoraMethod, head: HeadSettings, count: int) -> list[Path]:
    """So many artifacts of 77 labels, with eight golden rows each, as a training on BANKING77 leaves them."""
    rows = [{"text": f"some words, number {place}", "label": label} for place, label in enumerate(LABELS)]
    task = TASKS["text-classification"].prepare(TaskSettings(kind="text-classification"), rows)
    facts = DataFacts(source="random", label_counts={"train": dict.fromkeys(LABELS, 100)})
    places = []
    with build(backbone, task, method, head, 0) as adapted:
        state = adapted.state()
        for seed in range(count):
            noise = torch.Generator().manual_seed(seed)
            adapted.load_state({n: t + 0.02 * torch.randn(t.shape, generator=noise) for n, t in state.items()})
            place = folder / f"{method.sites!s:.10}-{head.kind}-{seed}"
            places.append(save(place, adapted, recipe={}, data=facts, metrics={}, seed=seed, golden=rows[:8]))
    return places


def alternating(variants: Mapping[str, Any], repeats: int) -> dict[str, float]:
    """Each variant's median in CPU seconds of this process; they take turns, and the first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name, run in variants.items():
            start = time.process_time()
            run()
            if turn:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def percentile(seconds: Sequence[float], share: float) -> float:
    """The smallest value that so many of the others do not exceed."""
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]


def product_flags() -> str:
    """The CPU's instruction sets that products are made of."""
    return " ".join(sorted(name for name in cpu_features() if name.startswith(("avx", "amx", "fma"))))


def conditions() -> dict[str, Any]:
    """Machine, threads, versions and date, as every result carries them."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "flags": product_flags(),
        "load": round(os.getloadavg()[0], 1),
        "bf16 in hardware": bfloat16_is_fast(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
    }


def write(name: str, found: Mapping[str, Any]) -> None:
    """Write benchmarks/results/<name>.json and print it."""
    text = json.dumps({**conditions(), **found}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text, flush=True)
