"""Learn stages in order, measure every stage after each, and say what was forgotten."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapterkit.artifact import open_artifact
from adapterkit.backbone import Backbone
from adapterkit.errors import DeviceError, OutputError
from adapterkit.evaluation.outcome import Question, ask, made
from adapterkit.manifest import MANIFEST, open_manifest
from adapterkit.metrics import Metric
from adapterkit.metrics.paired import difference
from adapterkit.recipe import Recipe, load_recipe
from adapterkit.records import Answerer
from adapterkit.records.versions import StreamRecord, WayRecord
from adapterkit.stages.course import ISOLATED, JOINT, THROUGH, read_course
from adapterkit.training import check_start, train
from adapterkit.training.environment import load_backbone, make_accelerator
from adapterkit.training.jointly import train_jointly
from adapterkit.training.standing import checkpoint_of, read_progress


@dataclass
class _Walk:
    """One way through the stages, as far as it has come, by stage."""

    folders: dict[str, Path] = field(default_factory=dict)
    """The artifact that was trained there."""
    after: dict[str, dict[str, Metric]] = field(default_factory=dict)
    """Every stage up to it -> its metric then."""
    answering: dict[str, Answerer] = field(default_factory=dict)
    """Who answered for it last."""


def stream(
    course: str | Path | Mapping[str, Any],
    *,
    backbone: Backbone | None = None,
    resume: bool = False,
    overwrite: bool = False,
    resamples: int = 1000,
    quiet: bool = False,
) -> StreamRecord:
    """Train stages one after another, with an adapter each and with one that is trained on, and measure forgetting.

    After every stage all test rows so far are answered again: by each stage's own adapter, and by the one that was
    trained through. So that isolated adapters forget nothing is measured too, and not assumed.

    Args:
        course: a file or a mapping; see `stages.course.Course`.
        backbone: a loaded one; None loads what the recipe names.
        resume: keep the artifacts of stages that have ended, and go on with one that was stopped.
        overwrite: replace what stands at the output.
        resamples: of the bootstrap that gives the 95 % intervals; differences are paired.

    Raises:
        RecipeError: the course cannot be followed.
        AdapterkitError: as of `train` and `evaluate`.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise DeviceError("a stream runs in one process", remedy="Start it without a launcher.")
    wanted, recipes = read_course(course)
    output = Path(wanted.output)
    for folder in (output / name / stage for name in wanted.ways for stage in recipes):
        check_start(folder, resume=resume and _is_stopped(folder), overwrite=overwrite or resume)
    first = next(iter(recipes.values()))
    loaded = backbone or load_backbone(first, make_accelerator(first, output))
    questions: dict[str, Question] = {}
    metrics: dict[str, str] = {}
    walks: dict[str, _Walk] = {way: _Walk() for way in wanted.ways if way != JOINT}

    def measure(walk: _Walk, stage: str, known: str, folder: Path) -> None:
        """Answer the test rows of a known stage after `stage`."""
        opened = open_artifact(folder)
        if known not in questions:
            questions[known] = ask(opened, data_root=recipes[known].data.root, backbone=loaded)
            metrics[known] = opened.task.main_metric
        answered = questions[known].answers(opened)
        walk.after.setdefault(stage, {})[known] = answered.metrics(resamples=resamples)[metrics[known]]
        walk.answering[known] = answered.answering

    for stage, recipe in recipes.items():
        for way, walk in walks.items():
            before = list(walk.folders.values())[-1] if way == THROUGH and walk.folders else None
            shared = walks.get(ISOLATED)
            if way == THROUGH and before is None and shared is not None:
                walk.folders[stage] = shared.folders[stage]  # the first stage is the same either way
            else:
                how: Any = {"backbone": loaded, "resume": resume, "overwrite": overwrite, "quiet": quiet}
                walk.folders[stage] = _trained(recipe, output / way / stage, before, **how)
            for known in walk.folders:
                measure(walk, stage, known, walk.folders[stage if way == THROUGH else known])
    last = list(recipes)[-1]
    if JOINT in wanted.ways:
        folders = {stage: output / JOINT / stage for stage in recipes}
        _train_jointly(recipes, folders, loaded, wanted.temperature, resume=resume, overwrite=overwrite, quiet=quiet)
        walk = walks[JOINT] = _Walk(folders)
        for stage, folder in folders.items():
            measure(walk, last, stage, folder)
    ways = {way: _recorded(walk) for way, walk in walks.items()}
    alone = walks[ISOLATED].after[last] if ISOLATED in walks else None
    against = {
        way: {stage: difference(alone[stage], metric) for stage, metric in walk.after[last].items()}
        for way, walk in walks.items()
        if alone is not None and way != ISOLATED
    }
    return StreamRecord(
        **made(),
        data={stage: question.used for stage, question in questions.items()},
        resamples=resamples,
        metrics=metrics,
        ways=ways,
        against=against,
        findings=tuple(_sentence(way, found, metrics) for way, found in ways.items()),
    )


def _trained(recipe: Recipe, folder: Path, before: Path | None, *, resume: bool, **how: Any) -> Path:
    """The artifact of a stage: that of an earlier call, or a new one."""
    content = recipe.to_dict()
    start = content["training"]["start_from"] if before is None else {"run": str(before), "take": None, "among": None}
    content = {**content, "training": {**content["training"], "start_from": start}, "output": str(folder)}
    if resume and (folder / MANIFEST).is_file():
        _check_kept(folder, load_recipe(content), before)
        return folder
    return train(content, resume=resume and _is_stopped(folder), **how).artifact


def _train_jointly(
    recipes: Mapping[str, Recipe], folders: Mapping[str, Path], backbone: Backbone, temperature: float, **how: bool
) -> None:
    """The artifacts of all stages at once: those of an earlier call, or new ones."""
    if how["resume"] and all((folder / MANIFEST).is_file() for folder in folders.values()):
        for stage, folder in folders.items():
            _check_kept(folder, recipes[stage], None)
        return
    stopped = _is_stopped(next(iter(folders.values())))
    how = {**how, "resume": how["resume"] and stopped, "overwrite": how["overwrite"] or how["resume"]}
    train_jointly(recipes, folders, backbone, temperature=temperature, **how)


def _check_kept(folder: Path, recipe: Recipe, before: Path | None) -> None:
    """Raise OutputError where an artifact is not what a recipe trains after `before`."""
    kept, parent = open_manifest(folder), None if before is None else open_manifest(before).sha256
    if _plain(load_recipe(kept.recipe)) != _plain(recipe) or parent not in (None, kept.parent):
        raise OutputError(
            f"{folder} is not what this course trains there", remedy="Begin anew: --overwrite, or another output."
        )


def _is_stopped(folder: Path) -> bool:
    return read_progress(checkpoint_of(folder)) is not None


def _plain(whole: Recipe) -> dict[str, Any]:
    """A recipe without what an artifact does not keep of it."""
    recipe = whole.to_dict()
    data, backbone = {**recipe["data"], "root": None}, {**recipe["backbone"], "trust_remote_code": False}
    return {**recipe, "output": None, "data": data, "backbone": backbone}


def _recorded(walk: _Walk) -> WayRecord:
    *earlier, last = walk.after
    return WayRecord(
        answering=walk.answering,
        after=walk.after,
        forgetting={stage: difference(walk.after[stage][stage], walk.after[last][stage]) for stage in earlier},
    )


def _sentence(way: str, found: WayRecord, metrics: Mapping[str, str]) -> str:
    """ "through: first −0.120 [−0.150, −0.090]; on average −0.120 (accuracy)."."""
    named = ", ".join(dict.fromkeys(metrics.values()))
    if not found.forgetting:
        end = list(found.after.values())[-1]
        return f"{way}: {', '.join(f'{stage} {cell.value or 0.0:.3f}' for stage, cell in end.items())} ({named})."
    shown = ", ".join(
        f"{stage} {one.difference:+.3f} [{one.low:+.3f}, {one.high:+.3f}]" for stage, one in found.forgetting.items()
    )
    mean = sum(one.difference for one in found.forgetting.values()) / len(found.forgetting)
    return f"{way}: {shown}; on average {mean:+.3f} ({named})."
