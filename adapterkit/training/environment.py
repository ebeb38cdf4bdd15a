"""Where a run computes and in which number format: its processes, its device, its backbone."""

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list
from accelerate.utils.environment import get_cpu_distributed_information

from adapterkit.backbone import Backbone
from adapterkit.backbone.hardware import pick_device
from adapterkit.errors import AdapterkitError, DeviceError, RecipeError, TrainingError
from adapterkit.recipe import Recipe
from adapterkit.recipe.formats import FORMATS, backbone_dtypes
from adapterkit.training.launch import SHARDING, check_launch
from adapterkit.training.meeting import init_method
from adapterkit.training.trackers import tracker_names

PATIENCE = "ADAPTERKIT_PATIENCE"
PATIENCE_SECONDS = 600
"""How long a process waits for another one, which may be writing a large file, until it takes it for lost; where
$ADAPTERKIT_PATIENCE does not say how many seconds."""


def make_accelerator(recipe: Recipe, folder: Path) -> Accelerator:
    """The processes that this run was launched with, and its trackers, which write into `folder`.

    The format of the computation is `Adapted.compute_dtype`'s business, so Accelerate's is off. Raises RecipeError: a
    tracker that this machine does not have; DeviceError: a device that this machine does not have, or a launcher that
    asks for what no run does."""
    check_launch(os.environ, recipe)
    names = tracker_names(recipe.training.trackers)
    # Of several processes each has to know its device when they meet. A process that is alone need not say, so that
    # one program can train on a GPU first and on the CPU next.
    several = get_cpu_distributed_information().world_size > 1
    on_cpu = several and pick_device(recipe.backbone.device).type == "cpu"
    if several:
        atexit.register(_leave)
    with without_strategy():
        shown: Any = {"log_with": names or None, "project_dir": str(folder)}
        return Accelerator(mixed_precision="no", cpu=on_cpu, kwargs_handlers=_meeting(several), **shown)


def launched_processes() -> Accelerator | None:
    """The processes that a launcher has started, to answer rows together; None where this one is alone."""
    if get_cpu_distributed_information().world_size == 1:
        return None
    atexit.register(_leave)
    with without_strategy():
        return Accelerator(cpu=pick_device("auto").type == "cpu", kwargs_handlers=_meeting(several=True))


def _meeting(several: bool) -> list[InitProcessGroupKwargs]:
    """How processes meet, and how patient they are."""
    said = os.environ.get(PATIENCE, "")
    if said and not (said.isdecimal() and int(said)):
        raise DeviceError(
            "how long processes wait for each other cannot be read",
            [f"{PATIENCE}: found {said!r}, expected whole seconds, 1 or more"],
            f"Set it as in {PATIENCE}=600, or leave it out.",
        )
    patience = timedelta(seconds=int(said or PATIENCE_SECONDS))
    return [InitProcessGroupKwargs(timeout=patience, init_method=init_method(os.environ))] if several else []


@contextmanager
def told_of_lost_processes() -> Iterator[None]:
    """Inside, an exchange with a process that is gone, or does not answer, raises TrainingError with what to do."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
            raise
        raise TrainingError(
            "another process of this run is gone, or cannot be reached",
            [str(error).splitlines()[0]],
            "See what it said and whether its machine is reached, then go on from the last checkpoint: --resume.",
        ) from error


@contextmanager
def without_strategy() -> Iterator[None]:
    """Inside, Accelerate does not know that FSDP was asked for: it would cut what trains, too."""
    asked = os.environ.pop(SHARDING, None)
    try:
        yield
    finally:
        if asked is not None:
            os.environ[SHARDING] = asked


def _leave() -> None:
    """Processes stay together until the program ends, since it may train again."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def by_first(accelerator: Accelerator, act: Callable[[], None]) -> None:
    """Let the first process act while the others wait. Where it fails, all of them raise its error.
    Raises AdapterkitError: the first process's; in the others it is marked as `shared`, since one speaks for all."""
    error: AdapterkitError | None = None
    if accelerator.is_main_process:
        try:
            act()
        except AdapterkitError as raised:
            error = raised
    if accelerator.num_processes > 1:
        (error,) = broadcast_object_list([error])
        if error is not None:
            error.shared = not accelerator.is_main_process
    if error is not None:
        raise error


def load_backbone(recipe: Recipe, accelerator: Accelerator, *, to_shard: bool = False) -> Backbone:
    """The recipe's backbone, on this process's device.
    `to_shard`: leave its weights in their files, from which each process copies its shards to its device. Raises
    BackboneError: it cannot be loaded; DeviceError: a device that this machine does not have."""
    wanted = recipe.backbone
    dtype, computed_in = backbone_dtypes(recipe)
    return Backbone.load(
        wanted.name,
        revision=wanted.revision,
        dtype=dtype,
        device="cpu" if to_shard else _name(accelerator.device) if wanted.device == "auto" else wanted.device,
        trust_remote_code=wanted.trust_remote_code,
        compute_dtype=computed_in,
        fingerprint=wanted.fingerprint,
        mapped=to_shard,
        as_stored=to_shard and not recipe.method.reads_weights,
    )


def check_device(backbone: Backbone, accelerator: Accelerator) -> None:
    """Several processes exchange gradients on the devices that Accelerate chose. Raises DeviceError for another."""
    if accelerator.num_processes > 1 and _name(backbone.device) != _name(accelerator.device):
        raise DeviceError(
            f"process {accelerator.process_index} of {accelerator.num_processes} has its backbone on "
            f"{backbone.device}, and Accelerate is set up for {accelerator.device}",
            remedy="Leave backbone.device at auto; accelerate launch --cpu trains on CPUs.",
        )


def _name(device: torch.device) -> str:
    """Accelerate numbers the CPUs of its processes (cpu:1); torch has one."""
    return "cpu" if device.type == "cpu" else str(device)


def compute_dtype(recipe: Recipe, backbone: Backbone) -> torch.dtype:
    """The format of the run's matrix products. Raises DeviceError: fp16 on a CPU, which multiplies it slowly and loses
    small gradients; RecipeError: a backbone that is loaded in another narrow format than the precision asks for."""
    precision = recipe.training.precision
    wanted = backbone.dtype if precision == "auto" else getattr(torch, FORMATS[precision])
    if wanted == torch.float16 and backbone.device.type == "cpu":
        raise DeviceError("fp16 does not train on a CPU", remedy="Use training.precision=bf16 or fp32.")
    if backbone.dtype not in (torch.float32, wanted):
        raise RecipeError(
            "the backbone's format and the recipe's precision contradict each other",
            [f"training.precision: found {precision}, the backbone is loaded in {backbone.dtype}"],
            "Load the backbone in float32, or leave training.precision at auto.",
        )
    return wanted
