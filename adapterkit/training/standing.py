"""Where a run stands: its output, how far it is, and which state is kept. Known before torch is imported."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from adapterkit.errors import ArtifactError, OutputError, TrainingError
from adapterkit.manifest import KEPT, MANIFEST, check_output, dump_json, parse_object, read_file, validation_problems
from adapterkit.manifest.facts import Count, Facts, FileFacts
from adapterkit.metrics import Metric
from adapterkit.recipe import Resolved

RUN_FOLDER = "training"
"""Where journal, picture, trackers and checkpoint stand inside the output folder."""

FOLDER = "checkpoint"
INDEX = "progress.json"
MAX_INDEX_BYTES = 8 << 20
LONGEST_SHOWN = 40
"""Characters of a value that an error shows."""

ANEW = "Start again without it: adapterkit train … --overwrite"


def output_of(resolved: Resolved) -> Path:
    """The output folder of a recipe."""
    return Path(resolved.recipe.output or Path("runs") / Path(resolved.name).stem)


def checkpoint_of(output: Path) -> Path:
    """Where the checkpoint of a run stands."""
    return output / RUN_FOLDER / FOLDER


@dataclass(frozen=True)
class Position:
    """Where a run stands: steps of earlier epochs do not count into `batch`.

    Attributes:
        epoch: from 0.
        batch: batches of this epoch that are done.
    """

    epoch: Count = 0
    batch: Count = 0


@dataclass
class Progress:
    """How far a run is, and which of its states is kept.

    Validation rows are few, so that the highest score is often the luckiest. The state that is kept is the latest of
    those within one standard error of the best score: Breiman's rule (Breiman, Friedman, Olshen and Stone 1984, section
    3.4.3), with the latest for the simplest, as the learning rate falls to its end.

    Attributes:
        made_of: recipe, rows and backbone; a checkpoint only fits the run that wrote it.
        steps: optimizer steps done.
        position: where in the data the run stands.
        best_value: the best score of the metric that picks the state; None before the first validation with a number.
        best_error: its standard error.
        kept_step: the step of the state that is kept.
        since_best: validations without a better score.
    """

    made_of: dict[str, Any]
    steps: Count = 0
    position: Position = field(default_factory=Position)
    best_value: float | None = None
    best_error: float = 0.0
    kept_step: Count | None = None
    since_best: Count = 0

    def keeps(self, score: Metric) -> bool:
        """Take note of a validation. Returns whether its state is kept for now; one without a finite score never is."""
        value, best = score.value, self.best_value
        self.since_best += 1
        if not math.isfinite(value):
            return False
        if best is None or (value > best if score.higher_is_better else value < best):
            error = score.standard_error
            self.best_value, self.best_error, self.since_best = value, error if math.isfinite(error) else 0.0, 0
        elif abs(value - best) > self.best_error:
            return False
        self.kept_step = self.steps
        return True

    def is_enough(self, patience: int | None) -> bool:
        """Whether so many validations passed without a better score."""
        return patience is not None and self.since_best >= patience


Resume = Literal["auto"] | bool
"""Whether to go on from a checkpoint; "auto" does where there is one."""


def check_start(output: Path, *, resume: Resume, overwrite: bool) -> bool:
    """Refuse a run that could not write its output, or that has nothing to go on from. Returns whether it goes on.

    Raises:
        OutputError: an artifact or an unfinished run stands there, or the folder cannot be written.
        TrainingError: there is no checkpoint to go on from, or it cannot be read.
    """
    if resume == "auto":
        resume = (checkpoint_of(output) / INDEX).is_file()
    check_output(output, overwrite=overwrite or resume, keep=KEPT)
    _found(checkpoint_of(output), resume=resume, overwrite=overwrite)
    return resume


def is_done(output: Path) -> bool:
    """Whether an artifact stands there and no run has anything left to do on it."""
    return (output / MANIFEST).is_file() and not checkpoint_of(output).exists()


def begin(
    folder: Path, made_of: dict[str, Any], *, resume: bool, overwrite: bool, defaults: Mapping[str, Any] = {}
) -> Progress:
    """Where a run starts: at the checkpoint in `folder`, or at the beginning.

    Args:
        folder: of the checkpoint.
        made_of: what the run is made of.
        resume: whether it goes on.
        overwrite: whether it begins in the place of one that was stopped.
        defaults: what a setting was in a checkpoint of a version that did not know it.

    Raises:
        OutputError: an unfinished run stands there and neither `resume` nor `overwrite` says what to do with it.
        TrainingError: there is nothing to go on from, or it is another run's.
    """
    found = _found(folder, resume=resume, overwrite=overwrite)
    if found is None:
        return Progress(made_of)
    now = by_path(made_of)
    before = {**{path: value for path, value in by_path(defaults).items() if path in now}, **by_path(found.made_of)}
    changed = [
        f"{repr(path)[1:-1]}: {_shown(before.get(path))} in the checkpoint, {_shown(now.get(path))} now"
        for path in sorted(before.keys() | now.keys())
        if before.get(path) != now.get(path)
    ]
    if changed:
        raise TrainingError(
            f"the checkpoint in {folder} belongs to another run",
            changed,
            "Resume with the recipe and data that it began with, or begin anew: --overwrite.",
        )
    return found


def by_path(content: Any, path: str = "") -> dict[str, Any]:
    """Values by dotted path, as JSON has them."""
    if isinstance(content, dict) and content:
        return {deep: v for name, inner in content.items() for deep, v in by_path(inner, f"{path}.{name}").items()}
    return {path.removeprefix("."): list(content) if isinstance(content, tuple) else content}


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def _found(folder: Path, *, resume: bool, overwrite: bool) -> Progress | None:
    """The progress of the run to go on with; None to begin anew."""
    if not resume and overwrite:
        return None
    found = read_progress(folder)
    if found is not None and not resume:
        raise OutputError(
            f"{folder} holds a run that was stopped at step {found.steps}",
            remedy="Go on with it (resume=True, --resume) or begin anew (overwrite=True, --overwrite).",
        )
    if found is None and resume:
        raise TrainingError(
            f"there is no checkpoint to go on from in {folder}",
            ["found: none; a run that has ended keeps none"],
            "Leave out --resume to begin a run.",
        )
    return found


class Index(Facts):
    """What a checkpoint says of itself.

    Attributes:
        scaler: the state of fp16's scaler; {} in every other format.
        files: its other files, by name.
    """

    format: Literal[2] = 2
    progress: Progress
    scaler: dict[str, Annotated[float, Field(ge=0)]]
    files: dict[Literal["adapter.safetensors", "optimizer.safetensors", "kept.safetensors"], FileFacts]

    def dump(self) -> bytes:
        """The bytes of its file, with a digest of everything else in it."""
        content = self.model_dump(mode="json")
        return dump_json({**content, "sha256": _digest(content)})


def read_progress(folder: Path) -> Progress | None:
    """How far the run of this checkpoint is; None where there is no checkpoint.
    Raises TrainingError: it cannot be read."""
    return read_index(folder).progress if (folder / INDEX).is_file() else None


def read_index(folder: Path) -> Index:
    """What a checkpoint says of itself. Raises TrainingError where that is not what a run has written."""
    try:
        content = parse_object(read_file(folder / INDEX, MAX_INDEX_BYTES), INDEX)
        if content.pop("sha256", None) != _digest(content):
            raise ArtifactError("", [f"{INDEX}: sha256: it is not the digest of this file: it was edited or damaged"])
        if content.get("format") == 1:
            raise TrainingError(
                f"the checkpoint in {folder} is of an earlier version, and the run would end otherwise than there",
                [f"{INDEX}: format: found 1, expected 2, since which dropout draws by seed, step, row and token"],
                ANEW,
            )
        index = Index.model_validate_json(dump_json(content))
    except ValidationError as error:
        problems = validation_problems(error, INDEX)
    except ArtifactError as error:
        problems = list(error.problems)
    else:
        missing = {"adapter.safetensors", "optimizer.safetensors"} - index.files.keys()
        problems = [f"{INDEX}: files: {name} is missing" for name in sorted(missing)]
        if not problems:
            return index
    raise damaged(folder, problems)


def _digest(content: Mapping[str, Any]) -> str:
    return sha256(dump_json(content)).hexdigest()


def damaged(folder: Path, problems: Sequence[str]) -> TrainingError:
    """The error for a checkpoint that is not as it was written."""
    return TrainingError(f"the checkpoint in {folder} is damaged", problems, ANEW)
