"""Checkpoints from which a stopped run goes on exactly: adapter, optimizer, schedule, generators and position."""

from __future__ import annotations

import io
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from adapterkit.errors import OutputError, TrainingError
from adapterkit.manifest import write_folder
from adapterkit.tasks import Metric
from adapterkit.training.batches import Position
from adapterkit.training.learner import Learner

FOLDER = "checkpoint"
INDEX = "progress.json"
ANEW = "Start again without it: adapterkit train … --overwrite"


@dataclass
class Progress:
    """How far a run is, and which of its states is kept.

    Validation rows are few, so that the highest score is often the luckiest. The state that is kept is the latest of
    those within one standard error of the best score: Breiman's rule (Breiman, Friedman, Olshen and Stone 1984, section
    3.4.3), with the latest for the simplest, as the learning rate falls to its end.

    Attributes:
        run: digest of recipe, rows and backbone; a checkpoint only fits the run that wrote it.
        steps: optimizer steps done.
        position: where in the data the run stands.
        best_value: the best score of the metric that picks the state; None before the first validation with a number.
        best_error: its standard error.
        kept_step: the step of the state that is kept.
        since_best: validations without a better score.
    """

    run: str
    steps: int = 0
    position: Position = field(default_factory=Position)
    best_value: float | None = None
    best_error: float = 0.0
    kept_step: int | None = None
    since_best: int = 0

    def keeps(self, score: Metric) -> bool:
        """Take note of a validation. Returns whether its state is kept for now; one that scored NaN never is."""
        value, best = score.value, self.best_value
        self.since_best += 1
        if math.isnan(value):
            return False
        if best is None or (value > best if score.higher_is_better else value < best):
            self.best_value, self.best_error, self.since_best = value, score.standard_error, 0
        elif abs(value - best) > self.best_error:
            return False
        self.kept_step = self.steps
        return True

    def is_enough(self, patience: int | None) -> bool:
        """Whether so many validations passed without a better score."""
        return patience is not None and self.since_best >= patience


def begin(folder: Path, run: str, *, resume: bool, overwrite: bool) -> Progress:
    """Where a run starts: at the checkpoint in `folder`, or at the beginning.

    Raises:
        OutputError: an unfinished run stands there and neither `resume` nor `overwrite` says what to do with it.
        TrainingError: there is nothing to go on from, or it is another run's.
    """
    if not resume and overwrite:
        return Progress(run)
    found = read_progress(folder)
    if not resume:
        if found is not None:
            raise OutputError(
                f"{folder} holds a run that was stopped at step {found.steps}",
                remedy="Go on with it (resume=True, --resume) or begin anew (overwrite=True, --overwrite).",
            )
        return Progress(run)
    if found is None:
        raise TrainingError(
            f"there is no checkpoint to go on from in {folder}",
            ["found: none; a run that has ended keeps none"],
            "Leave out --resume to begin a run.",
        )
    if found.run != run:
        raise TrainingError(
            f"the checkpoint in {folder} belongs to another run",
            ["its recipe, its rows or its backbone were others than those of this run"],
            "Resume with the recipe and data that it began with, or begin anew: --overwrite.",
        )
    return found


def save_checkpoint(
    folder: Path, progress: Progress, learner: Learner, kept: Mapping[str, Tensor] | None, accelerator: Accelerator
) -> None:
    """Write a checkpoint in the place of the one before; all of it or nothing. Every process calls this.

    Args:
        kept: the validated state that is kept so far, as `Adapted.state` gives it.
    """
    generators = gather_object([generator_states()])
    if accelerator.is_main_process:
        parameters = {name: parameter.detach().contiguous() for name, parameter in learner.parameters.items()}
        learning = {
            "optimizer": learner.optimizer.state_dict(),
            "schedule": learner.schedule.state_dict(),
            "scaler": learner.scaler.state_dict(),
        }
        files = {
            "adapter.safetensors": save_tensors(parameters),
            "learning.pt": _dump(learning),
            "generators.pt": _dump(generators),
        }
        if kept is not None:
            files["kept.safetensors"] = save_tensors({name: tensor.contiguous() for name, tensor in kept.items()})
        digests = {name: sha256(content).hexdigest() for name, content in files.items()}
        index = json.dumps({"progress": asdict(progress), "files": digests}, indent=1)
        write_folder(folder, {**files, INDEX: index.encode()}, overwrite=True)
    accelerator.wait_for_everyone()


def read_progress(folder: Path) -> Progress | None:
    """How far the run of this checkpoint is; None where there is no checkpoint.

    Raises:
        TrainingError: it cannot be read.
    """
    if not (folder / INDEX).is_file():
        return None
    try:
        stored = _read_index(folder)["progress"]
        return Progress(**{**stored, "position": Position(**stored["position"])})
    except (TypeError, LookupError) as error:
        raise TrainingError(f"the checkpoint in {folder} cannot be read", [f"{INDEX}: {error!r}"], ANEW) from error


def load_checkpoint(folder: Path, learner: Learner, accelerator: Accelerator) -> dict[str, Tensor] | None:
    """Put a run back to where its checkpoint was written. Returns the state that is kept so far.

    Raises:
        TrainingError: the checkpoint is damaged, or was written by another number of processes.
    """
    files = _read_files(folder)
    learning, generators = (
        torch.load(io.BytesIO(files[name]), map_location="cpu", weights_only=True)
        for name in ("learning.pt", "generators.pt")
    )
    if len(generators) != accelerator.num_processes:
        raise TrainingError(
            f"the checkpoint in {folder} was written by {len(generators)} processes, this run has "
            f"{accelerator.num_processes}",
            remedy=f"Go on with {len(generators)} processes, or begin anew: --overwrite.",
        )
    stored = load_tensors(files["adapter.safetensors"])
    with torch.no_grad():
        for name, parameter in learner.parameters.items():
            parameter.copy_(stored[name])
    learner.optimizer.load_state_dict(learning["optimizer"])
    learner.schedule.load_state_dict(learning["schedule"])
    learner.scaler.load_state_dict(learning["scaler"])
    restore_generators(generators[accelerator.process_index])
    return load_tensors(files["kept.safetensors"]) if "kept.safetensors" in files else None


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads((folder / INDEX).read_bytes())
    except (OSError, ValueError) as error:
        raise TrainingError(f"the checkpoint in {folder} cannot be read", [f"{INDEX}: {error}"], ANEW) from error
    return index


def _read_files(folder: Path) -> dict[str, bytes]:
    """The checkpoint's files, as they were written. Raises TrainingError for each that is missing or was changed."""
    files: dict[str, bytes] = {}
    problems = []
    for name, digest in _read_index(folder)["files"].items():
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            problems.append(f"{name}: {error.strerror}")
            continue
        if sha256(files[name]).hexdigest() != digest:
            problems.append(f"{name}: {len(files[name]):,} bytes that are not those that were written")
    if problems:
        raise TrainingError(f"the checkpoint in {folder} is damaged", problems, ANEW)
    return files


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a run that has ended."""
    shutil.rmtree(folder, ignore_errors=True)


def _dump(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def generator_states() -> dict[str, Any]:
    """The state of this process's random generators; dropout is all that draws from them."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": torch.mps.get_rng_state() if torch.backends.mps.is_available() else None,
    }


def restore_generators(stored: Mapping[str, Any]) -> None:
    """Put this process's random generators back."""
    torch.set_rng_state(stored["cpu"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(stored["cuda"])
    if torch.backends.mps.is_available():
        torch.mps.set_rng_state(stored["mps"])
