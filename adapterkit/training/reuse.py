"""What several runs in one process share, so that only the first of them pays: the backbone and the encoded rows."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from adapterkit.adapted import Adapted
from adapterkit.backbone import Backbone
from adapterkit.data import Rows
from adapterkit.recipe import Recipe
from adapterkit.recipe.formats import backbone_dtypes
from adapterkit.tasks.protocol import Feature, Task
from adapterkit.training.datasets import RecipeRows, read_recipe_rows
from adapterkit.training.environment import load_backbone
from adapterkit.training.job import encode_splits
from adapterkit.training.run_display import RunDisplay


@dataclass
class _Held:
    """Rows, and what a tokenizer has made of them."""

    rows: RecipeRows
    tokenizer: Any = None
    features: dict[str, list[Feature]] = field(default_factory=dict)


class Reuse:
    """Keeps the last backbone and the last rows, and hands them to the next run that wants the same.

    Few of them, so that memory does not grow with the number of runs: put runs that share them next to each other.
    """

    def __init__(self, expected: Sequence[Recipe] = (), *, room: int = 1) -> None:
        """Begin with nothing. `expected`: of all runs that are to come, as far as they are known. `room`: how many
        different rows to keep, of one backbone."""
        self._expected = Counter(map(_trunk_key, expected))
        self._room = room
        self._notes: set[str] = set()
        self._backbone: tuple[str, Backbone] | None = None
        self._held: dict[str, _Held] = {}

    def backbone(self, recipe: Recipe, accelerator: Accelerator) -> Backbone:
        """The recipe's backbone; see `environment.load_backbone`."""
        key = backbone_key(recipe)
        if self._backbone is None or self._backbone[0] != key:
            self._backbone = None  # before the next is loaded, so that there are never two in memory
            for held in self._held.values():
                held.tokenizer, held.features = None, {}
            self._backbone = (key, load_backbone(recipe, accelerator))
        return self._backbone[1]

    def rows(
        self, recipe: Recipe, folder: Path | None, given: Mapping[str, Rows] | None = None, known: Task | None = None
    ) -> RecipeRows:
        """The recipe's rows; see `datasets.read_recipe_rows`."""
        digests = sorted((split, rows.digest()) for split, rows in (given or {}).items())
        key = f"{rows_key(recipe)} {folder} {digests} {known}"
        if key not in self._held:
            while len(self._held) >= self._room:
                del self._held[next(iter(self._held))]
            self._held[key] = _Held(read_recipe_rows(recipe, folder, given, known))
        self._held[key] = self._held.pop(key)  # the latest stands last
        return self._held[key].rows

    def features(self, rows: RecipeRows, adapted: Adapted, display: RunDisplay) -> dict[str, list[Feature]]:
        """The rows of every split that is in memory, encoded; see `job.encode_splits`."""
        held = next((held for held in self._held.values() if held.rows is rows), None) or _Held(rows)
        tokenizer = adapted.backbone.tokenizer  # which twins of a backbone share
        if held.tokenizer is not tokenizer:
            held.tokenizer, held.features = tokenizer, encode_splits(rows, adapted, display)
        return dict(held.features)

    def runs_like(self, recipe: Recipe) -> int:
        """How many of the expected runs read the same texts below the same layer, this one included."""
        return max(1, self._expected[_trunk_key(recipe)])

    def is_news(self, note: str) -> bool:
        """Whether a note on a recipe was not asked for before: the runs of a sweep have the same notes."""
        known = note in self._notes
        self._notes.add(note)
        return not known


def backbone_key(recipe: Recipe) -> str:
    """Equal for recipes that load the same backbone in the same number format."""
    return json.dumps([recipe.backbone.model_dump(mode="json"), backbone_dtypes(recipe)], sort_keys=True)


def _trunk_key(recipe: Recipe) -> str:
    """Equal for recipes whose runs can share a cached trunk; it is the same whatever share of the rows validates."""
    adapted = recipe.method.model_dump(mode="json", include={"kind", "sites", "placement", "layers", "top"})
    seed = None if recipe.data.limit is None else recipe.training.seed
    rows = [recipe.data.model_dump(mode="json"), recipe.task.model_dump(mode="json"), seed]
    return json.dumps([backbone_key(recipe), rows, adapted], sort_keys=True)


def rows_key(recipe: Recipe) -> str:
    """Equal for recipes that read the same rows; the seed counts where it draws them."""
    data = recipe.data
    drawn = data.limit is not None or data.streaming or isinstance(data.validation, float)
    seed = recipe.training.seed if drawn else None
    return json.dumps([data.model_dump(mode="json"), recipe.task.model_dump(mode="json"), seed], sort_keys=True)
