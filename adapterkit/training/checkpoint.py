"""Checkpoints from which a stopped run goes on exactly: adapter, optimizer, schedule, generators and position."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from adapterkit.errors import TrainingError
from adapterkit.manifest import write_folder
from adapterkit.training.learner import Learner
from adapterkit.training.standing import ANEW, INDEX, Progress, read_index


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


def _read_files(folder: Path) -> dict[str, bytes]:
    """The checkpoint's files, as they were written. Raises TrainingError for each that is missing or was changed."""
    files: dict[str, bytes] = {}
    problems = []
    for name, digest in read_index(folder)["files"].items():
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
