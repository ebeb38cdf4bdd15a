"""What one training run is made of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from adapterkit.adapted import Adapted
from adapterkit.data import Rows
from adapterkit.manifest import Manifest
from adapterkit.recipe import Recipe
from adapterkit.tasks.protocol import Feature
from adapterkit.training.datasets import RecipeRows
from adapterkit.training.objectives.objective import Objective
from adapterkit.training.run_display import RunDisplay
from adapterkit.training.sharded import Sharded
from adapterkit.training.standing import RUN_FOLDER, checkpoint_of
from adapterkit.training.trackers import Tracking


@dataclass(frozen=True)
class Job:
    """What one training run is made of.

    Attributes:
        recipe: what is wanted.
        rows: what it learns from and is scored on.
        features: split -> encoded rows; of a stream only "validation" and "test".
        adapted: what learns.
        accelerator: the processes that take part.
        sharded: how they hold shards of the backbone; None where each has it whole.
        display: where a person looks on.
        tracking: the run's trackers.
        output: folder of the artifact.
        command: what began the run, as a person would type it.
        runs: how many runs are to come, this one included, that read the same texts below the same layer.
        objective: a term beside the task's loss, if there is one.
        before: of the artifact that it starts from, if it does.
    """

    recipe: Recipe
    rows: RecipeRows
    features: dict[str, list[Feature]]
    adapted: Adapted
    accelerator: Accelerator
    sharded: Sharded | None
    display: RunDisplay
    tracking: Tracking
    output: Path
    command: str = ""
    runs: int = 1
    objective: Objective | None = None
    before: Manifest | None = None

    @property
    def folder(self) -> Path:
        """Where journal, picture, trackers and checkpoint stand."""
        return self.output / RUN_FOLDER

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint stands."""
        return checkpoint_of(self.output)

    def held_rows(self) -> Rows:
        """Training rows in memory: all of them, or the first of a stream."""
        return self.rows.train if isinstance(self.rows.train, Rows) else self.rows.sample

    def made_of(self) -> dict[str, Any]:
        """What a checkpoint has to agree on: the recipe but for its output, the rows, and what is frozen."""
        content: dict[str, Any] = {
            **self.recipe.to_dict(),
            "training": {**self.recipe.to_dict()["training"], "cache": None, "packed": None},
            "output": None,
            "rows": self.rows.facts.digests,
            "fingerprint": self.adapted.backbone.fingerprint,
        }
        if self.adapted.parts:
            content["parts"] = [part.sha256 for part in self.adapted.parts]
        if self.before is not None:
            content["before"] = self.before.sha256
        return content


def encode_splits(rows: RecipeRows, adapted: Adapted, display: RunDisplay) -> dict[str, list[Feature]]:
    """Encode every split that is in memory, before anything trains, so that a bad row is found before hours of work."""
    features = {}
    for split, purpose in (("train", "train"), ("validation", "score"), ("test", "score")):
        held = getattr(rows, split)
        if isinstance(held, Rows):
            encoded = rows.task.encode(held, adapted.vocabulary, purpose)  # type: ignore[arg-type]
            features[split] = encoded.features
            for note in encoded.notes:
                display.warn(f"{split}: {note}")
    return features
