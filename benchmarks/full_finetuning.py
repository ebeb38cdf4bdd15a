"""Full fine-tuning under a recipe's own budget: the score that adapters are measured against.

    python benchmarks/full_finetuning.py recipes/banking77.yaml training.learning_rate=1e-4

The rows, encodings, batches, schedule, loss, metrics and head are the recipe's. Only one thing differs: every weight of
the backbone trains, in fp32 with matrix products in the recipe's format.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from adapterkit.adapted import Adapted, build
from adapterkit.backbone import Backbone
from adapterkit.evaluation import score
from adapterkit.recipe import NoMethod, Recipe, resolve
from adapterkit.tasks import Metric
from adapterkit.training.datasets import RecipeRows, read_recipe_rows
from adapterkit.training.whole import train_fully

LEARNING_RATES = {
    "e2e_small": 1e-3,
    "scan_simple": 1e-3,
    "squad_small": 3e-4,
    "tinyshakespeare": 1e-3,
    "wikitext2": 5e-4,
}
"""By recipe, where validation rows prefer another than the usual one: most of all for trunks far smaller than usual."""
LEARNING_RATE = 1e-4
"""For every other recipe; an override sets another."""


def rate_for(name: str) -> list[str]:
    """The override that sets the rate for a recipe."""
    return [f"training.learning_rate={LEARNING_RATES.get(name, LEARNING_RATE)}"]


def score_untrained(recipe: Recipe) -> dict[str, dict[str, Metric]]:
    """The checkpoint with its own head, as it is. Returns split -> metric -> value with its interval."""
    rows = read_recipe_rows(recipe)
    backbone = Backbone.load(recipe.backbone.name, dtype=recipe.backbone.dtype)
    return _scores(build(backbone, rows.task, NoMethod(), recipe.head, recipe.training.seed), rows)


def score_trained(recipe: Recipe) -> dict[str, dict[str, Metric]]:
    """Train every weight as the recipe says. Returns split -> metric -> value with its interval."""
    rows = read_recipe_rows(recipe)
    return _scores(train_fully(recipe, rows), rows)


def _scores(adapted: Adapted, rows: RecipeRows) -> dict[str, dict[str, Metric]]:
    parts = {"validation": rows.validation, "test": rows.test}
    return {split: score(adapted, held) for split, held in parts.items() if held is not None}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    scores = score_trained(resolve(sys.argv[1], [*rate_for(Path(sys.argv[1]).stem), *sys.argv[2:]]).recipe)
    print(
        json.dumps({split: {name: metric.value for name, metric in found.items()} for split, found in scores.items()})
    )
