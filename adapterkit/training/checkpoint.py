"""Checkpoints from which a stopped run goes on exactly: adapter, optimizer and position, in safetensors and JSON.

Rates follow from the step, and dropout draws from a seed of every step, so neither stands in a checkpoint, and a run
may go on with another number of processes. A checkpoint is read as an artifact is: nothing in it is believed.
"""

import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from adapterkit.artifact.tensors import MAX_HEADER_BYTES, dump_tensors, parse_header, read_tensors, shortened
from adapterkit.errors import ArtifactError
from adapterkit.manifest import read_file, write_folder
from adapterkit.manifest.facts import FileFacts
from adapterkit.training.environment import by_first
from adapterkit.training.learner import Learner
from adapterkit.training.standing import INDEX, Index, Progress, damaged, read_index

ADAPTER, OPTIMIZER, KEPT = "adapter.safetensors", "optimizer.safetensors", "kept.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


def save_checkpoint(
    folder: Path, progress: Progress, learner: Learner, kept: Mapping[str, Tensor] | None, accelerator: Accelerator
) -> None:
    """Write a checkpoint in the place of the one before; all of it or nothing. Every process calls this.
    `kept`: the validated state that is kept so far, as `Adapted.state` gives it. Raises OutputError: the disk refuses;
    the checkpoint before stands as it was."""
    by_first(accelerator, lambda: _save(folder, progress, learner, kept))


def _save(folder: Path, progress: Progress, learner: Learner, kept: Mapping[str, Tensor] | None) -> None:
    parameters = {name: parameter.detach() for name, parameter in learner.parameters.items()}
    states = learner.optimizer.state_dict()["state"]
    moments = {f"{number}.{name}": tensor for number, state in states.items() for name, tensor in state.items()}
    files: dict[Any, bytes] = {ADAPTER: dump_tensors(parameters), OPTIMIZER: dump_tensors(moments)}
    if kept is not None:
        files[KEPT] = dump_tensors(kept)
    facts = {name: FileFacts(size_bytes=len(raw), sha256=sha256(raw).hexdigest()) for name, raw in files.items()}
    index = Index(progress=progress, scaler=learner.scaler.state_dict(), files=facts)
    write_folder(folder, {**files, INDEX: index.dump()}, overwrite=True)


def load_checkpoint(folder: Path, learner: Learner, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Put a run back to where its checkpoint was written. Returns the state that is kept so far. `learner`: of the run
    that goes on, made for the steps that are done. `state`: what `Adapted.state` gives: what a kept state looks like.
    Raises TrainingError: the checkpoint is damaged, or holds other tensors than this run; nothing changes then."""
    index = read_index(folder)
    # Of each parameter there are a count of steps and two moments, unless it never had a gradient.
    optimizer = learner.optimizer.state_dict()
    flat = [parameter for group in learner.optimizer.param_groups for parameter in group["params"]]
    moments = {f"{number}.{name}": parameter for number, parameter in enumerate(flat) for name in _MOMENTS}
    counts = {f"{number}.step": torch.zeros(()) for number in range(len(flat))}
    expected: dict[str, Mapping[str, Tensor]] = {
        ADAPTER: learner.parameters,
        OPTIMIZER: {**counts, **moments},
        KEPT: state,
    }
    read: dict[str, dict[str, Tensor]] = {}
    problems: list[str] = []
    name: str
    for name, facts in index.files.items():
        try:
            read[name] = _read(folder / name, facts, expected[name], some=name == OPTIMIZER)
        except ArtifactError as error:
            problems += error.problems or [error.summary]
    if index.scaler.keys() != learner.scaler.state_dict().keys():
        problems.append(f"{INDEX}: scaler: it is of another number format than training.precision")
    if problems:
        raise damaged(folder, shortened(problems))
    with torch.no_grad():
        for name, parameter in learner.parameters.items():
            parameter.copy_(read[ADAPTER][name])
    for name, tensor in read[OPTIMIZER].items():
        number, _, what = name.partition(".")
        optimizer["state"].setdefault(int(number), {})[what] = tensor
    learner.optimizer.load_state_dict(optimizer)
    learner.scaler.load_state_dict(index.scaler)
    return read.get(KEPT)


def _read(path: Path, facts: FileFacts, expected: Mapping[str, Tensor], *, some: bool) -> dict[str, Tensor]:
    """The tensors of a file, of the names, shapes and formats that are expected. `some`: whether all tensors of one
    number (`3.step`, `3.exp_avg`, …) may be missing. Raises ArtifactError: with every problem."""
    limit_bytes = MAX_HEADER_BYTES + sum(tensor.numel() * tensor.element_size() for tensor in expected.values())
    raw = read_file(path, limit_bytes)
    if len(raw) != facts.size_bytes or sha256(raw).hexdigest() != facts.sha256:
        raise ArtifactError("", [f"{path.name}: {len(raw):,} bytes that are not those that were written"])
    header = parse_header(raw, path.name)
    there = {name.partition(".")[0] for name in header.entries} if some else set()
    strangers = header.entries.keys() - expected.keys()
    problems = [f"{path.name}: {name[:200]!r} is no tensor of this run" for name in strangers]
    for name, tensor in expected.items():
        entry = header.entries.get(name)
        if entry is None:
            if not some or name.partition(".")[0] in there:
                problems.append(f"{path.name}: {name!r} is missing")
        elif (entry.shape, entry.dtype) != (tuple(tensor.shape), tensor.dtype):
            found, wanted = (f"{list(like.shape)} in {like.dtype}" for like in (entry, tensor))
            problems.append(f"{path.name}: {name!r}: found {found}, expected {wanted}")
    if problems:
        raise ArtifactError("", sorted(problems))
    return read_tensors(raw, header, path.name)


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a run that has ended."""
    shutil.rmtree(folder, ignore_errors=True)
