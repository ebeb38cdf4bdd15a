"""How soon is a test accuracy reached on BANKING77: adapterkit, PEFT with `Trainer`, full fine-tuning?

    export OMP_NUM_THREADS=1 ADAPTERKIT_DATA=…
    python benchmarks/time_to_accuracy.py          # every variant gets 20 seconds
    python benchmarks/time_to_accuracy.py --full   # the race to 92 %; results/race.json and race.svg

all-MiniLM-L6-v2, fp32, 64 rows a step; LoRA of rank 8 on query and value. A variant's clock counts the process's CPU
seconds from its first step on: filling the trunk cache counts, loading, encoding and scoring do not. In the short
setting 1,000 rows are learned from and every tenth test row is asked, at a constant rate, so that a variant can be cut
anywhere: 92 % are out of reach, and the figure is the accuracy within the budget. In the full one all rows are
learned from in six epochs with a falling rate, and all test rows are asked; each variant runs in a process of its own,
as many at once as there are cores, and is cut at 92 % or when its budget is spent.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cached_trunk import LORA, RECIPE, run_of
from full_finetuning import LEARNING_RATE
from pictures import curves_picture

ASKED = 0.92
SHORT_BUDGET_S, FULL_BUDGET_S = 20.0, 900.0
RESULTS = Path(__file__).resolve().parent / "results"
Accuracy = Callable[[], float]


@dataclass
class Clock:
    """CPU seconds of training, and the accuracy every so often.

    Attributes:
        budget_s: when a variant is cut.
        every_s, every_share: least time between two scorings, in seconds and as a share of the time until the first.
        enough: the accuracy at which it is cut too.
        curve: seconds and accuracy.
    """

    budget_s: float
    every_s: float
    enough: float = 1.1
    every_share: float = 0.0
    curve: list[tuple[float, float]] = field(default_factory=list)
    _spent_s: float = 0.0
    _since_s: float = 0.0

    def start(self) -> None:
        self._since_s = time.process_time()

    def tick(self, accuracy: Accuracy, *, last: bool = False) -> bool:
        """After each step. Returns whether the variant is cut."""
        spent = self._spent_s + time.process_time() - self._since_s
        before = self.curve[-1][0] if self.curve else 0.0
        due = before + max(self.every_s, self.every_share * before)
        if spent < due and not last:
            return False
        self.curve.append((round(spent, 2), round(accuracy(), 4)))
        self._spent_s, self._since_s = spent, time.process_time()
        return spent >= self.budget_s or self.curve[-1][1] >= self.enough


@dataclass(frozen=True)
class World:
    """What all variants share."""

    rows: int | None
    test_every: int
    training: dict[str, Any]


SHORT = World(1000, 10, {"schedule": "constant", "epochs": 1000})
FULL = World(None, 1, {"schedule": "linear", "epochs": 6})


def consume(steps: Iterator[Any], clock: Clock, accuracy: Accuracy) -> None:
    clock.start()
    for _ in steps:
        if clock.tick(accuracy):
            return
    clock.tick(accuracy, last=True)


def scorer(adapted: Any, task: Any, rows: list[Any]) -> Accuracy:
    """The accuracy of an adapter on rows that were encoded once."""
    from adapterkit.evaluation import score

    features = task.encode(rows, adapted.vocabulary, "score").features
    return lambda: score(adapted, rows, features, resamples=0)["accuracy"].value


def test_rows(world: World) -> list[Any]:
    from adapterkit.recipe import resolve
    from adapterkit.training.reuse import Reuse

    data = {**RECIPE["data"], "test": "banking77/test.jsonl"}
    found = Reuse().rows(resolve({**RECIPE, "method": LORA, "data": data}, ()).recipe, None)
    return list(found.test or ())[:: world.test_every]


def ours(method: dict[str, Any], cached: bool, world: World, clock: Clock) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cache = str(Path(folder) / "cache") if cached else "off"
        adapted, steps = run_of(method, cache, Path(folder), "fp32", world.rows, **world.training)
        consume(steps, clock, scorer(adapted, adapted.task, test_rows(world)))


def full(world: World, clock: Clock) -> None:
    """Every weight, at the rate that full fine-tuning wants."""
    from accelerate import Accelerator

    from adapterkit.recipe import resolve
    from adapterkit.training.batches import HeldBatches
    from adapterkit.training.datasets import read_recipe_rows
    from adapterkit.training.learner import make_learner
    from adapterkit.training.turn import Learning, turns
    from adapterkit.training.whole import fully_trained

    training = {**RECIPE["training"], **world.training, "learning_rate": LEARNING_RATE}
    data = {**RECIPE["data"], "limit": world.rows}
    recipe = resolve({**RECIPE, "method": LORA, "data": data, "training": training}, ()).recipe
    rows: Any = read_recipe_rows(recipe)
    adapted = fully_trained(recipe, rows.task)
    features = rows.task.encode(rows.sample, adapted.vocabulary, "train").features
    batches = HeldBatches(features, rows.sample.numbers, recipe.training)
    learner = make_learner(adapted, recipe.training, batches.total_steps)
    accelerator = Accelerator(cpu=True)
    learning = Learning(adapted, batches, learner, recipe.training, accelerator)
    consume((turn.take() for turn in turns(learning)), clock, scorer(adapted, rows.task, test_rows(world)))


def with_trainer(world: World, clock: Clock) -> None:
    """What one writes from the two libraries' documentation: the class's own head, dynamic padding, fp32."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

    from adapterkit.backbone import Backbone
    from adapterkit.recipe import resolve
    from adapterkit.tasks.protocol import Vocabulary
    from adapterkit.training.reuse import Reuse

    recipe = resolve({**RECIPE, "method": LORA, "data": {**RECIPE["data"], "limit": world.rows}}, ()).recipe
    rows: Any = Reuse().rows(recipe, None)
    backbone = Backbone.load(RECIPE["backbone"]["name"], dtype="float32", device="cpu")
    vocabulary = Vocabulary.of(backbone.tokenizer, backbone.max_tokens)
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        backbone.folder, num_labels=rows.task.classes, dtype=torch.float32
    )
    model = get_peft_model(
        model, LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], task_type="SEQ_CLS")
    )
    asked = rows.task.encode(test_rows(world), vocabulary, "train").features
    asked = sorted(asked, key=lambda feature: feature.length_tokens)

    def collate(part: Any) -> dict[str, Any]:
        batch = rows.task.collate(part, vocabulary)
        return {**batch.inputs, "labels": batch.labels}

    def accuracy() -> float:
        right = 0
        model.eval()
        with torch.inference_mode():
            for start in range(0, len(asked), 64):
                batch = collate(asked[start : start + 64])
                labels = batch.pop("labels")
                right += int((model(**batch).logits.argmax(-1) == labels).sum())
        model.train()
        return right / len(asked)

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if not state.global_step:
                clock.start()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop |= clock.tick(accuracy)

    with tempfile.TemporaryDirectory() as folder:
        schedule = "constant_with_warmup" if world.training["schedule"] == "constant" else "linear"
        arguments = TrainingArguments(
            folder, num_train_epochs=world.training["epochs"], per_device_train_batch_size=64, learning_rate=2e-3,
            lr_scheduler_type=schedule, warmup_steps=0.06 if schedule == "linear" else 20, save_strategy="no",
            report_to=[], disable_tqdm=True, remove_unused_columns=False, use_cpu=True, logging_strategy="no", seed=0,
        )  # fmt: skip
        trainer = Trainer(
            model,
            arguments,
            data_collator=collate,
            train_dataset=rows.task.encode(rows.sample, vocabulary, "train").features,
            callbacks=[Watch()],
        )
        trainer.train()


VARIANTS: dict[str, Callable[[World, Clock], None]] = {
    "adapterkit, head only, cached": lambda world, clock: ours({"kind": "none"}, True, world, clock),
    "adapterkit, top 2 layers, cached": lambda world, clock: ours({**LORA, "top": 2}, True, world, clock),
    "adapterkit, all layers": lambda world, clock: ours(LORA, False, world, clock),
    "PEFT with Trainer, all layers": with_trainer,
    "full fine-tuning": full,
}


def measure_one(name: str, world: World, budget_s: float) -> dict[str, Any]:
    """The row of one variant."""
    torch.manual_seed(0)
    short = world is SHORT
    clock = Clock(budget_s, budget_s / 5, 1.1) if short else Clock(budget_s, 10.0, ASKED, every_share=0.15)
    # A warm-up counted in steps, since a share of a thousand epochs would never end.
    training = {**world.training, **({"warmup": 20} if short else {})}
    VARIANTS[name](World(world.rows, world.test_every, training), clock)
    reached = next((seconds for seconds, accuracy in clock.curve if accuracy >= ASKED), None)
    best = max(accuracy for _, accuracy in clock.curve)
    return {"variant": name, "best": best, "seconds to 92 %": reached, "curve": clock.curve}


def measure(world: World, budget_s: float) -> list[dict[str, Any]]:
    """One row for each variant."""
    table = []
    for name in VARIANTS:
        table.append(measure_one(name, world, budget_s))
        print(json.dumps(table[-1]), flush=True)
    return table


def race(budget_s: float) -> list[dict[str, Any]]:
    """The rows of the full setting, each variant in a process of its own."""

    def run(name: str) -> dict[str, Any]:
        command = [sys.executable, __file__, "--full", "--child", name, "--budget", str(budget_s)]
        ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
        print(json.dumps(found), flush=True)
        return found

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # The longest first, so that no core waits at the end.
        rows = {row["variant"]: row for row in pool.map(run, reversed(VARIANTS))}
    return [rows[name] for name in VARIANTS]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--budget", type=float, help="CPU seconds of each variant; 20, or 900 with --full")
    parser.add_argument("--child", choices=list(VARIANTS), help="one variant alone")
    chosen = parser.parse_args()
    world = FULL if chosen.full else SHORT
    budget = chosen.budget or (FULL_BUDGET_S if chosen.full else SHORT_BUDGET_S)
    if chosen.child is not None:
        print(json.dumps(measure_one(chosen.child, world, budget)))
    elif chosen.full:
        rows = race(budget)
        machine = f"{platform.machine()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}"
        report = {"machine": machine, "torch": torch.__version__, "budget, CPU seconds": budget, "variants": rows}
        (RESULTS / "race.json").write_text(json.dumps(report, indent=1) + "\n")
        curves_picture(rows, RESULTS / "race.svg")
    else:
        measure(world, budget)


if __name__ == "__main__":
    main()
