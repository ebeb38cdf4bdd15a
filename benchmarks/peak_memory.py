"""How much memory does training take above what the loaded model takes: adapterkit, and PEFT with `Trainer`?

    OMP_NUM_THREADS=1 ADAPTERKIT_DATA=… python benchmarks/peak_memory.py

LoRA of rank 8 on every linear of all layers of all-MiniLM-L6-v2, fp32, the same 64 rows of BANKING77 in every step,
with the backbone's own dropout and with or without dropout of the adapter. Each variant trains two steps in a process
of its own; its figure is the highest resident memory during the steps minus the resident memory right before the first
one, as the kernel counts both. Gradients, optimizer and activations are in it; weights and libraries are not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

ROWS, STEPS = 64, 2
LINEARS = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
ASKED = 0.75


def resident_bytes(name: str) -> int:
    """VmRSS (now) or VmHWM (the highest) of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def forget_peak() -> None:
    """Let VmHWM begin again at what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def with_adapterkit(dropout: float, *, again: bool = False) -> int:
    """`again` computes layers again in the backward."""
    from cached_trunk import run_of

    method = {"kind": "lora", "rank": 8, "alpha": 16, "sites": "all-linear", "dropout": dropout}
    with tempfile.TemporaryDirectory() as folder:
        adapted, steps = run_of(method, "off", Path(folder), "fp32", ROWS, epochs=STEPS)
        adapted.checkpoint_layers(again)
        forget_peak()
        before = resident_bytes("VmRSS")
        taken = sum(1 for _ in steps)
    if taken != STEPS:
        raise SystemExit(f"{taken} steps instead of {STEPS}")
    return resident_bytes("VmHWM") - before


def with_peft(dropout: float) -> int:
    import torch
    from cached_trunk import LORA, RECIPE
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

    from adapterkit.backbone import Backbone
    from adapterkit.recipe import resolve
    from adapterkit.tasks.protocol import Vocabulary
    from adapterkit.training.reuse import Reuse

    recipe = resolve({**RECIPE, "method": LORA, "data": {**RECIPE["data"], "limit": ROWS}}, ()).recipe
    rows = Reuse().rows(recipe, None)
    backbone = Backbone.load(RECIPE["backbone"]["name"], dtype="float32", device="cpu")
    vocabulary = Vocabulary.of(backbone.tokenizer, backbone.max_tokens)
    features = rows.task.encode(rows.sample, vocabulary, "train").features
    model = AutoModelForSequenceClassification.from_pretrained(
        backbone.folder, num_labels=rows.task.classes, dtype=torch.float32
    )
    model = get_peft_model(
        model,
        LoraConfig(
            task_type="SEQ_CLS", r=8, lora_alpha=16, lora_dropout=dropout, target_modules=LINEARS,
            exclude_modules=r".*pooler.*",
        ),
    )  # fmt: skip
    peak = [0, 0]

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if not state.global_step:
                forget_peak()
                peak[0] = resident_bytes("VmRSS")

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            peak[1] = resident_bytes("VmHWM")

    def collate(part: Any) -> dict[str, Any]:
        batch = rows.task.collate(part, vocabulary)
        return {**batch.inputs, "labels": batch.labels}

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, max_steps=STEPS, per_device_train_batch_size=ROWS, learning_rate=2e-3, save_strategy="no",
            report_to=[], disable_tqdm=True, remove_unused_columns=False, use_cpu=True,
        )  # fmt: skip
        Trainer(model, arguments, data_collator=collate, train_dataset=features, callbacks=[Watch()]).train()
    return peak[1] - peak[0]


VARIANTS: Mapping[str, Callable[[float], int]] = {
    "adapterkit": with_adapterkit,
    "adapterkit, gradient checkpointing": partial(with_adapterkit, again=True),
    "peft": with_peft,
}


def measure(dropouts: Sequence[float] = (0.0, 0.1)) -> list[dict[str, Any]]:
    """One row for each dropout."""
    # Freed memory goes back at once, so that the peak is what is in use and not what the allocator keeps.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    table = []
    for dropout in dropouts:
        found = {}
        for name in VARIANTS:
            command = [sys.executable, __file__, "--child", name, "--dropout", str(dropout)]
            ran = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            found[name] = int(ran.stdout.split()[-1])
        ratio = round(found["adapterkit"] / found["peft"], 3)
        table.append({"adapter dropout": dropout, "bytes": found, "adapterkit / peft": ratio, "asked": ASKED})
        print(json.dumps(table[-1]), flush=True)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--child", choices=list(VARIANTS))
    parser.add_argument("--dropout", type=float, default=0.0)
    chosen = parser.parse_args()
    if chosen.child is None:
        measure()
    else:
        print(VARIANTS[chosen.child](chosen.dropout))


if __name__ == "__main__":
    main()
