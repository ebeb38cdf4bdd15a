"""A plain PEFT and transformers `Trainer` script for BANKING77, and adapterkit under the same budget, side by side.

    python benchmarks/banking77_peft.py --data DATA/banking77 [--epochs 6] [--bf16]

Both train LoRA of rank 8 on query and value for the same epochs with the same batch size, schedule and rows, and are
scored on the same test rows. The plain script is what one writes from the two libraries' documentation: the class's
own head, dynamic padding, fp32, or with `--bf16` the Trainer's own mixed precision. It prints the accuracy after every
epoch and the seconds until then, for both, and how long adapterkit took to reach the plain script's best accuracy.
Start both on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from adapterkit.backbone.files import local_copy
from adapterkit.training import train
from adapterkit.training.journal import read_journal

NAME = "sentence-transformers/all-MiniLM-L6-v2"
BATCH_ROWS = 64
RATE = 2e-3


class Clock(TrainerCallback):  # type: ignore[misc]
    """Training seconds and test accuracy after every epoch; time spent on evaluation does not count."""

    def __init__(self) -> None:
        self.seconds, self.curve, self._since = 0.0, list[tuple[float, float]](), time.perf_counter()

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        self._since = time.perf_counter()

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds += time.perf_counter() - self._since

    def on_evaluate(self, *args: Any, metrics: dict[str, float], **kwargs: Any) -> None:
        self.curve.append((self.seconds, metrics["eval_accuracy"]))
        print(f"plain script: {self.seconds:7.1f} s  accuracy {metrics['eval_accuracy']:.4f}", file=sys.stderr)


def plain_script(data: Path, epochs: int, bf16: bool) -> list[tuple[float, float]]:
    """Seconds of training and test accuracy after every epoch."""
    source = local_copy(NAME) or NAME
    tokenizer = AutoTokenizer.from_pretrained(source)
    files = {name: data / f"{name}.jsonl" for name in ("train", "test")}
    parts = {name: [json.loads(row) for row in file.open(encoding="utf-8")] for name, file in files.items()}
    labels = sorted({row["label"] for row in parts["train"]})
    sets = {}
    for name, rows in parts.items():
        encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=128)
        sets[name] = Dataset.from_dict({**encoded, "labels": [labels.index(row["label"]) for row in rows]})
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=len(labels), dtype=torch.float32)
    config = LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=["query", "value"])
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=get_peft_model(model, config),
            args=TrainingArguments(
                folder,
                num_train_epochs=epochs,
                per_device_train_batch_size=BATCH_ROWS,
                per_device_eval_batch_size=BATCH_ROWS,
                learning_rate=RATE,
                warmup_steps=0.06,
                eval_strategy="epoch",
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                bf16=bf16,
                use_cpu=bf16,
                seed=0,
            ),
            train_dataset=sets["train"],
            eval_dataset=sets["test"],
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda p: {"accuracy": float(np.mean(p.predictions.argmax(-1) == p.label_ids))},
            callbacks=[clock],
        )
        trainer.train()
    return clock.curve


def with_adapterkit(data: Path, epochs: int) -> list[tuple[float, float]]:
    """The same from adapterkit's journal: the test rows stand in for validation, so that the curves compare."""
    recipe = Path(__file__).resolve().parent.parent / "recipes" / "banking77.yaml"
    with tempfile.TemporaryDirectory() as folder:
        train(
            recipe,
            overrides=[
                f"data.train={data / 'train.jsonl'}",
                f"data.validation={data / 'test.jsonl'}",
                "data.test=null",
                f"training.epochs={epochs}",
                f"output={folder}/run",
            ],
        )
        events = read_journal(Path(folder) / "run" / "training" / "journal.jsonl")
    curve, seconds = [], 0.0
    for event in events:
        if event["event"] == "step":
            seconds += event["seconds"]
        if event["event"] == "validation":
            curve.append((seconds, event["metrics"]["accuracy"]))
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--bf16", action="store_true", help="let the plain script train in mixed precision too")
    asked = parser.parse_args()
    data = asked.data.resolve()
    ours, theirs = with_adapterkit(data, asked.epochs), plain_script(data, asked.epochs, asked.bf16)
    best = max(accuracy for _, accuracy in theirs)
    reached = next((seconds for seconds, accuracy in ours if accuracy >= best), None)
    needed = next(seconds for seconds, accuracy in theirs if accuracy >= best)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, "
          f"{torch.get_num_threads()} threads")  # fmt: skip
    print("epoch | plain script: seconds, accuracy | adapterkit: seconds, accuracy")
    for epoch, (their, our) in enumerate(zip(theirs, ours, strict=True), start=1):
        print(f"{epoch:5} | {their[0]:9.1f} {their[1]:.4f} | {our[0]:9.1f} {our[1]:.4f}")
    print(f"same epochs: {ours[-1][0] / theirs[-1][0]:.2f} of the plain script's time")
    if reached is not None:
        print(f"to its best accuracy ({best:.4f}): {reached / needed:.2f} of its time")


if __name__ == "__main__":
    main()
