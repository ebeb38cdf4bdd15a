"""What do many tasks on one input cost, once what no adapter has touched is computed once for all of them?

    OMP_NUM_THREADS=1 python benchmarks/host_sharing.py            # minutes on one busy core; --tokens 128 is shorter

Eight classifiers of four labels on one text, on all-MiniLM-L6-v2 in fp32 (6 layers, d=384). Their LoRAs (rank 8,
queries and values) stand in the top third of the layers, in the top one, or there are heads alone. A plain pass is
transformers' trunk on token ids that are there already; a host's times hold all that `predict_all` does, from the text
to the answers. The limit counts layers: 8 tasks that share 4 of 6 layers run 4 + 8 · 2 of 8 · 6, so at most 2.4 times
as fast.

Before anything is timed, `predict_all` must equal each adapter alone to 1e-5. Variants take turns. Times are CPU
seconds of the process on one thread, medians, so that other work on the machine counts little. Writes
benchmarks/results/host_sharing.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import adapterkit as ak
from adapterkit.adapted import build
from adapterkit.artifact import DataFacts, save
from adapterkit.recipe import HeadSettings, LoraMethod, MethodSettings, NoMethod, TaskSettings
from adapterkit.tasks import TASKS

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
RESULTS = Path(__file__).resolve().parent / "results" / "host_sharing.json"
TASKS_ASKED, LAYERS = 8, 6
TOLERANCE = 1e-5
METHODS: Mapping[str, tuple[MethodSettings, int]] = {
    "top third": (LoraMethod(rank=8, alpha=16, top=2), 4),
    "top layer": (LoraMethod(rank=8, alpha=16, top=1), 5),
    "all layers": (LoraMethod(rank=8, alpha=16), 0),
    "heads only": (NoMethod(), 6),
}
"""Eight adapters of one method, and how many layers they share."""
HEADS = {
    "linear": HeadSettings(kind="linear", pooling="mean"),
    "family": HeadSettings(kind="family"),
}
"""The family's head has a pooler of its own: d · d more in each of the eight."""


def text_of(backbone: Any, tokens: int) -> str:
    """A text that is read as exactly so many tokens, special ones included."""
    words = ("my", "card", "was", "lost", "and", "the", "bank", "will", "send", "a", "new", "one")
    text = " ".join(words[place % len(words)] for place in range(tokens - 2))
    if len(backbone.tokenizer(text)["input_ids"]) != tokens:
        raise SystemExit("the words of this benchmark are not one token each")
    return text


def hosted(backbone: Any, folder: Path, method: MethodSettings, head: HeadSettings, text: str) -> ak.Host:
    """A host with eight adapters, whose answers were compared with those of each alone."""
    rows = [{"text": "a", "label": str(number % 4)} for number in range(8)]
    task = TASKS["text-classification"].prepare(TaskSettings(kind="text-classification"), rows)
    host = ak.Host(backbone)
    alone = []
    for seed in range(TASKS_ASKED):
        with build(backbone, task, method, head, seed) as adapted:
            state = adapted.state()
            noise = torch.Generator().manual_seed(seed)
            adapted.load_state({n: t + 0.02 * torch.randn(t.shape, generator=noise) for n, t in state.items()})
            alone.append(adapted.predict([{"text": text}])[0]["probabilities"])
            place = folder / str(seed)
            facts = DataFacts(source="random")
            save(
                place, adapted, recipe={}, data=facts, metrics={}, seed=seed, golden=[], dtype="float32", overwrite=True
            )
        host.mount(str(seed), place)
    found = host.predict_all(text)
    largest = max(
        abs(found[str(seed)]["probabilities"][label] - value)
        for seed, answer in enumerate(alone)
        for label, value in answer.items()
    )
    if largest > TOLERANCE:
        raise SystemExit(f"predict_all and the adapters alone differ by {largest:.1e}")
    return host


def seconds_of(variants: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Each variant's median time, the variants taking turns."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(repeats + 2):
        for name, run in variants.items():
            start = time.process_time()
            run()
            if turn > 1:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def plain(trunk: Any, inputs: Mapping[str, Tensor]) -> None:
    with torch.inference_mode():
        trunk(**inputs)


def measure(backbone: Any, folder: Path, name: str, head: str, tokens: int, repeats: int) -> dict[str, Any]:
    text = text_of(backbone, tokens)
    inputs = dict(backbone.tokenizer(text, return_tensors="pt"))
    method, shared = METHODS[name]
    bare = backbone.twin().trunk  # with plain weights, whatever the host does to those of the backbone
    host = hosted(backbone, folder, method, HEADS[head], text)
    names = [str(seed) for seed in range(TASKS_ASKED)]
    seconds = seconds_of(
        {
            "plain": lambda: plain(bare, inputs),
            "predict_all": lambda: host.predict_all(text, tasks=names),
        },
        repeats,
    )
    seconds |= seconds_of({"each alone": lambda: [host.predict([(one, text)]) for one in names]}, 1)
    limit = TASKS_ASKED * LAYERS / (shared + TASKS_ASKED * (LAYERS - shared))
    gain = TASKS_ASKED * seconds["plain"] / seconds["predict_all"]
    found = {
        "adapters": name,
        "head": head,
        "tokens": tokens,
        **{f"{variant} ms": round(1000 * value, 2) for variant, value in seconds.items()},
        "predict_all / 1 plain pass": round(seconds["predict_all"] / seconds["plain"], 3),
        "8 plain passes / predict_all": round(gain, 2),
        "limit": round(limit, 2),
        "of the limit": round(gain / limit, 3),
        "each alone / predict_all": round(seconds["each alone"] / seconds["predict_all"], 2),
    }
    host.close()
    print(json.dumps(found), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--tokens", type=int, nargs="*", default=[32, 128, 256])
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--heads", nargs="*", default=["linear"], choices=list(HEADS))
    parser.add_argument("--no-results", action="store_true", help="print, and write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    backbone = ak.Backbone.load(MINILM, dtype="float32", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        cells = [
            measure(backbone, Path(folder), name, head, tokens, options.repeats)
            for head in options.heads
            for tokens in options.tokens
            for name in options.methods
        ]
    if not options.no_results:
        machine = (
            f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, 1 thread"
        )
        RESULTS.write_text(json.dumps({"machine": machine, "cells": cells}, indent=1) + "\n")


if __name__ == "__main__":
    main()
