"""Checkpoints from which a stopped run goes on exactly: adapter, optimizer, schedule, generators and position."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from adapterkit.artifact.atomic import write_folder
from adapterkit.errors import TrainingError
from adapterkit.training.batches import Position

FOLDER = "checkpoint"


@dataclass
class Progress:
    """How far a run is, and how it went.

    Attributes:
        recipe: digest of the recipe and of the data; a checkpoint only fits the run that wrote it.
        steps: optimizer steps done.
        position: where in the data the run stands.
        best_value: of the metric that picks the best state; None before the first validation.
        best_step: the step of the best state.
        since_best: validations without a better one.
        history: every validation: step, and metric -> value.
    """

    recipe: str
    steps: int = 0
    position: Position = field(default_factory=Position)
    best_value: float | None = None
    best_step: int | None = None
    since_best: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


def save_checkpoint(
    folder: Path,
    progress: Progress,
    parameters: Mapping[str, nn.Parameter],
    best: Mapping[str, Tensor] | None,
    optimizer: Optimizer,
    schedule: LRScheduler,
    accelerator: Accelerator,
) -> None:
    """Write a checkpoint in the place of the one before; all of it or nothing. Every process calls this."""
    generators = gather_object([_generators()])
    if accelerator.is_main_process:
        files = {
            "progress.json": json.dumps(asdict(progress), indent=1).encode(),
            "adapter.safetensors": save_tensors({name: p.detach().contiguous() for name, p in parameters.items()}),
            "optimizer.pt": _dump(
                {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "scaler": _scaler(accelerator)}
            ),
            "generators.pt": _dump(generators),
        }
        if best is not None:
            files["best.safetensors"] = save_tensors({name: tensor.contiguous() for name, tensor in best.items()})
        write_folder(folder, files, overwrite=True)
    accelerator.wait_for_everyone()


def read_progress(folder: Path) -> Progress | None:
    """How far the run of this checkpoint is; None where there is no checkpoint."""
    path = folder / "progress.json"
    if not path.is_file():
        return None
    try:
        stored = json.loads(path.read_bytes())
        return Progress(**{**stored, "position": Position(**stored["position"])})
    except (ValueError, TypeError, KeyError) as error:
        raise TrainingError(
            f"the checkpoint in {folder} cannot be read",
            [f"{path.name}: {error}"],
            "Start again without it: adapterkit train … --overwrite",
        ) from error


def load_checkpoint(
    folder: Path,
    parameters: Mapping[str, nn.Parameter],
    optimizer: Optimizer,
    schedule: LRScheduler,
    accelerator: Accelerator,
) -> dict[str, Tensor] | None:
    """Put a run back to where its checkpoint was written. Returns the best state so far.

    Raises:
        TrainingError: the checkpoint is damaged, or was written by another number of processes.
    """
    try:
        stored = load_tensors((folder / "adapter.safetensors").read_bytes())
        state = torch.load(folder / "optimizer.pt", map_location=accelerator.device, weights_only=True)
        generators = torch.load(folder / "generators.pt", weights_only=True)
        best_file = folder / "best.safetensors"
        best = load_tensors(best_file.read_bytes()) if best_file.is_file() else None
        if stored.keys() != parameters.keys():
            raise ValueError("it holds the tensors of another adapter")
        if len(generators) != accelerator.num_processes:
            raise ValueError(f"it was written by {len(generators)} processes, this run has {accelerator.num_processes}")
    except (OSError, ValueError, RuntimeError, KeyError, EOFError, _unpickling_error()) as error:
        raise TrainingError(
            f"the checkpoint in {folder} cannot be used",
            [str(error).splitlines()[0]],
            "Start again without it: adapterkit train … --overwrite",
        ) from error
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(stored[name])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    if accelerator.scaler is not None and state["scaler"] is not None:
        accelerator.scaler.load_state_dict(state["scaler"])
    _restore_generators(generators[accelerator.process_index])
    return best


def _unpickling_error() -> type[Exception]:
    import pickle

    return pickle.UnpicklingError


def _scaler(accelerator: Accelerator) -> dict[str, Any] | None:
    return None if accelerator.scaler is None else accelerator.scaler.state_dict()


def _dump(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _generators() -> dict[str, Any]:
    """The state of this process's random generators, of types that torch loads without running code."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_generators(stored: Mapping[str, Any]) -> None:
    version, words, gauss = stored["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = stored["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(stored["torch"])
    if stored["cuda"]:
        torch.cuda.set_rng_state_all(stored["cuda"])
