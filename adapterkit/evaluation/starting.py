"""Train from the artifact that suits the training rows best, where a recipe leaves open which one that is."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapterkit import training
from adapterkit.backbone import Backbone
from adapterkit.errors import TrainingError
from adapterkit.evaluation.probing.starting_points import nearest
from adapterkit.manifest import MANIFEST, open_manifest
from adapterkit.recipe import NEAREST, Recipe, resolve
from adapterkit.recipe.load import folder_of
from adapterkit.training.datasets import read_recipe_rows
from adapterkit.training.environment import load_backbone, make_accelerator
from adapterkit.training.run import Result, rows_given
from adapterkit.training.standing import RUN_FOLDER, check_start, checkpoint_of, output_of, read_progress
from adapterkit.training.start import method_differences

logger = logging.getLogger(__name__)


def train(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    *,
    data: Mapping[str, Any] | None = None,
    backbone: Backbone | None = None,
    overrides: Sequence[str] = (),
    **how: Any,
) -> Result:
    """Train as `training.train` does, and find the artifact to start from where the recipe says `nearest`.

    Those that fit are ranked by `nearest` on the training rows: by a probe of the layer that a head reads. A run that
    goes on keeps what was found when it began. All arguments and errors are those of `training.train`.

    Raises:
        TrainingError: no artifact fits; with what is wrong with each.
    """
    given, changes = rows_given(data, overrides)
    resolved = resolve(recipe, changes)
    wanted, output = resolved.recipe.training.start_from, output_of(resolved)
    if wanted is not None and wanted.run == NEAREST:
        resume = check_start(output, resume=how.get("resume", False), overwrite=how.get("overwrite", False))
        progress = read_progress(checkpoint_of(output)) if resume else None
        if progress is not None:
            start = progress.made_of["training"]["start_from"]
        else:
            backbone = backbone or load_backbone(
                resolved.recipe, make_accelerator(resolved.recipe, output / RUN_FOLDER)
            )
            rows = read_recipe_rows(resolved.recipe, folder_of(recipe), given)
            run = _nearest_run(resolved.recipe, wanted.among or ("runs",), list(rows.sample), backbone)
            start = None if run is None else {"run": str(run), "take": wanted.take or ["method"]}
        overrides = [*overrides, f"training.start_from={json.dumps(start)}"]
    return training.train(recipe, data=data, backbone=backbone, overrides=overrides, **how)


def _nearest_run(recipe: Recipe, among: Sequence[str], rows: Sequence[Any], backbone: Backbone) -> Path | None:
    """The folder of the artifact on whose last layer a probe of the rows is best; None for the bare backbone."""
    fitting: dict[str, Path] = {}
    problems: list[str] = []
    for place in map(Path, among):
        inner = sorted(found.parent for found in place.glob(f"*/{MANIFEST}"))
        for folder in [place] if (place / MANIFEST).is_file() else inner:
            manifest = open_manifest(folder)
            reasons = method_differences(manifest.method, recipe.method)
            if backbone.fingerprints.get(manifest.backbone.coverage) != manifest.backbone.fingerprint:
                reasons.insert(0, f"it stands on another backbone ({manifest.backbone.name})")
            if reasons:
                problems.append(f"{folder}: {'; '.join(reasons)}")
            else:
                fitting[manifest.sha256] = folder
    if not fitting:
        raise TrainingError(
            f"none of the artifacts in {', '.join(among)} can be started from",
            problems or ["found: no artifact"],
            "Name other folders in training.start_from.among, or leave start_from out.",
        )
    starts = nearest(list(fitting.values()), rows, backbone=backbone, kind=recipe.task.kind).found.starts
    top = max(start.layer for start in starts)
    tops = [start for start in starts if start.layer == top]
    best = max(tops, key=lambda start: (start.probe or 0.0, start.artifact is not None))
    run = None if best.artifact is None else fitting[best.artifact]
    said = f"{run or 'the bare backbone'}, a probe is right in {best.probe or 0.0:.1%}"
    logger.warning("nearest of %d artifacts and the bare backbone: %s", len(fitting), said)
    return run
