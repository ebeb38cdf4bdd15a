"""`fuse`: attention over bottlenecks (AdapterFusion). Unlike other compositions it is trained before it is mounted."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapterkit.artifact import Artifact, open_artifact
from adapterkit.compose.members import count
from adapterkit.errors import AdapterkitError, CompositionError
from adapterkit.methods.table import method_of
from adapterkit.recipe import Recipe, load_recipe
from adapterkit.recipe.methods import part_name


def fuse(
    parts: Sequence[str | Path],
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    *,
    output: str | Path | None = None,
    query_width: int | None = None,
    value: bool = True,
    dropout: float = 0.0,
    overrides: Sequence[str] = (),
) -> Recipe:
    """The recipe that trains attention over frozen bottlenecks on a task.

    `ak.train` makes an artifact of it, which is mounted like any other:

        recipe = ak.compose.fuse(["runs/syntax", "runs/names"], "wnut17", output="runs/fused")
        host.mount("fused", ak.train(recipe).artifact)

    Args:
        parts: folders of bottleneck artifacts of one placement, trained on the same layers of one backbone.
        recipe: of the task; its method is left out. None takes the one that the first part was trained by.
        output: folder of the fusion's artifact; None keeps the recipe's.
        query_width: as in a recipe's `method` block.
        value: likewise.
        dropout: likewise.
        overrides: "path=value" each, set on top of the recipe.

    Raises:
        CompositionError: parts that cannot be fused, with the reasons.
        RecipeError: the recipe is not valid.
    """
    folders = _folders(parts)
    _check(folders)
    found = load_recipe(folders[0] if recipe is None else recipe, overrides)
    method = {"kind": "fusion", "parts": folders, "query_width": query_width, "value": value, "dropout": dropout}
    kept = found.output if output is None else str(output)
    return load_recipe({**found.to_dict(), "method": method, "output": kept})


def _folders(parts: Sequence[str | Path]) -> list[str]:
    if isinstance(parts, str | Path):
        raise CompositionError("fuse takes a list of folders", [f"found {str(parts)!r}"], 'As in fuse(["a", "b"]).')
    folders = [str(part) for part in parts]
    if len(folders) < 2:
        raise CompositionError(f"a fusion needs two parts or more, found {count(folders, 'part')}")
    return folders


def _check(folders: Sequence[str]) -> None:
    """Check what can be known before the backbone is there."""
    opened: dict[str, Artifact] = {}
    problems = []
    for folder in folders:
        try:
            opened[folder] = open_artifact(folder)
        except AdapterkitError as error:
            problems += [f"{part_name(folder)}: {problem}" for problem in error.problems or (error.summary,)]
    necks: dict[str, Any] = {}
    for folder, artifact in opened.items():
        method = artifact.manifest.method
        if method_of(method).fuses:
            necks[folder] = method
        else:
            what = f"{part_name(folder)}: is {method.words}"
            problems.append(f"{what}; only what bottlenecks add can be weighed for every token")
    placements = {part_name(folder): method.placement for folder, method in necks.items()}
    if len(set(placements.values())) > 1:
        problems += [f"{name}: its placement is {placement}" for name, placement in placements.items()]
    backbones = {folder: artifact.manifest.backbone for folder, artifact in opened.items()}
    if len({facts.fingerprint for facts in backbones.values()}) > 1:
        problems += [
            f"{part_name(folder)}: was trained on {facts.fingerprint[:12]}… ({facts.name})"
            for folder, facts in backbones.items()
        ]
    if problems:
        raise CompositionError(
            "these parts cannot be fused",
            problems,
            "Fuse bottlenecks of one placement on one backbone; combine LoRAs with weighted or stack.",
        )
