"""What a recipe will need, said without loading weights: parameters, memory, operations, files, and how to fit it.

Axes: B rows, T tokens.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from adapterkit.adapted import Adapted, build
from adapterkit.artifact.saving import pick_dtype
from adapterkit.backbone import pick_device
from adapterkit.backbone.hardware import DTYPES
from adapterkit.backbone.hardware import pick_dtype as pick_backbone_dtype
from adapterkit.backbone.quantisation import linear_weights, quantised_bytes
from adapterkit.data import Rows
from adapterkit.errors import DeviceError, RecipeError
from adapterkit.glance import in_short
from adapterkit.methods.table import method_of
from adapterkit.planning.cache import CachePlan, plan_cache
from adapterkit.planning.dry_step import DryStep, count_step, layers_of
from adapterkit.planning.hollow import Hollow, Unfilled, hollow_backbone
from adapterkit.planning.strategies import Memory, StepNeeds, Strategy, choose, strategies_for
from adapterkit.planning.traffic import Traffic, traffic_of
from adapterkit.recipe import Recipe, resolve
from adapterkit.recipe.formats import FORMATS, QUANTISED, backbone_dtypes
from adapterkit.recipe.kinds import FACTS
from adapterkit.recipe.load import folder_of
from adapterkit.tasks.protocol import Feature
from adapterkit.training.batches import HeldBatches
from adapterkit.training.datasets import RecipeRows, read_recipe_rows
from adapterkit.training.sharded import units_of
from adapterkit.training.standing import Position

ADAM_MOMENTS = 2


@dataclass(frozen=True)
class Plan:
    """What a run will need.

    Attributes:
        method_parameters, head_parameters: that are trained.
        frozen_parameters: of the trunk and of a borrowed head.
        dtype: of matrix products.
        rows: training rows; encoded, they are `features`.
        features, steps: of the whole run; steps of a stream are those of training.max_steps.
        step_rows, step_tokens: of the largest step, (B, T) with padding.
        flops: of a usual step, forward and backward.
        memory: of the largest step, done at once on one device, by what it is for.
        cache: what keeping the states below the lowest adapted layer takes, and saves.
        artifact_bytes: of adapter_model.safetensors.
        devices, memory_bytes: that are there.
        strategies: every way there is, the cheapest first.
        chosen: the cheapest that fits and that adapterkit can do; None where there is none.
        limit: what takes most of the chosen one, or of the smallest that adapterkit can do.
        notes: what had to be assumed.
        traffic: what a step sends between the devices; empty unless it was asked how they are connected.
    """

    method_parameters: int
    head_parameters: int
    frozen_parameters: int
    dtype: str
    rows: int
    features: int
    steps: int
    step_rows: int
    step_tokens: int
    flops: int
    memory: Memory
    cache: CachePlan
    artifact_bytes: int
    devices: int
    memory_bytes: int
    strategies: tuple[Strategy, ...]
    chosen: Strategy | None
    limit: str
    notes: tuple[str, ...]
    traffic: tuple[Traffic, ...] = ()

    __repr__ = in_short("method_parameters", "head_parameters", "dtype", "rows", "steps", "flops", "artifact_bytes")


def plan(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    *,
    gpus: int | None = None,
    memory: int | str | None = None,
    interconnect: int | str | None = None,
    tflops: float = 400.0,
    overrides: Sequence[str] = (),
) -> Plan:
    """Estimate what a recipe will need, without loading weights.

    The adapter is put on a backbone without weights, and a step of training runs on tensors without content. So the
    numbers are those of the code that trains, for every kind, method and family.

    Args:
        recipe: as `train` takes it. Its backbone may be a folder that holds nothing but config.json.
        gpus: how many there will be. None: those of this machine, else its CPU.
        memory: of each: bytes, or text as in "80GiB". None: what this machine has.
        interconnect: what each sends in a second, in bytes, or text as in "50GB"; None to leave out what travels.
        tflops: 10¹² operations a second that each does; an H100 does some 400 of its 990 in bf16.
        overrides: "path=value" each, set on top of the recipe.

    Raises:
        AdapterkitError: as `train` raises them for recipe, rows, backbone, sites and head.
        RecipeError: `gpus`, `memory` or `interconnect` that cannot be read.
    """
    found = resolve(recipe, overrides).recipe
    objective = found.training.objective
    if objective is not None and objective.reads_rows:
        raise RecipeError(
            "what training.objective takes is not estimated",
            [f"training.objective.kind: found {objective.kind}, which looks at the rows of a step once more"],
            "Plan without it: adapterkit plan … training.objective=null",
        )
    devices, memory_bytes, link_bytes = _machine(gpus, memory, interconnect, tflops)
    on_gpu = gpus is not None or torch.cuda.is_available()
    weights, dtype = _dtypes(found, on_gpu)
    rows = read_recipe_rows(found, folder_of(recipe))
    hollow = hollow_backbone(found.backbone, weights)
    form = hollow.backbone.quantised
    narrow = linear_weights(hollow.backbone.trunk, hollow.backbone.sites) if form else []
    adapted = _build(hollow, rows, found)
    adapted.compute_dtype = dtype
    _check_trains(adapted)
    if found.training.gradient_checkpointing and not adapted.checkpointable:
        adapted.checkpoint_layers()  # refuses, as training would
    features = rows.task.encode(rows.sample, adapted.vocabulary, "train").features
    batches = HeldBatches(features, rows.sample.numbers, found.training)
    chosen = _batches(batches)
    learning = [list(own.values()) for own in (adapted.method_parameters(), adapted.head_parameters())]
    method, head = (sum(parameter.numel() for parameter in own) for own in learning)
    trained = {id(tensor) for own in learning for tensor in own}
    every = {id(tensor): tensor for tensor in (*adapted.parameters(), *adapted.buffers())}
    frozen = [tensor for key, tensor in every.items() if key not in trained]
    artifact = _artifact_bytes(adapted, found, dtype)
    cache = plan_cache(adapted, rows, features)
    (_, layers), cut = layers_of(adapted), _cut(adapted)
    largest = count_step(adapted, adapted.task.collate(chosen[1], adapted.vocabulary, seed=0))
    usual = count_step(adapted, adapted.task.collate(chosen[0], adapted.vocabulary, seed=0))
    count, longest = len(chosen[1]), max(feature.length_tokens for feature in chosen[1])
    used = _memory(_weights_bytes(frozen, narrow, form), method + head, largest)
    boundary = count * longest * hollow.backbone.hidden_size * dtype.itemsize
    flops = usual.forward_flops + usual.backward_flops
    ways = strategies_for(
        StepNeeds(
            memory=used,
            rows=count,
            flops=flops,
            below_flops=usual.below_flops,
            above_flops=usual.forward_flops - usual.below_flops,
            layers=len(layers),
            checkpointable=adapted.checkpointable,
            cut_bytes=sum(cut),
            gathered_bytes=max(map(sum, pairwise(cut)), default=sum(cut)),
            boundary_bytes=boundary,
            cacheable=cache.reason,
            checkpointed=found.training.gradient_checkpointing,
        ),
        devices=devices,
        memory_bytes=memory_bytes,
    )
    traffic: tuple[Traffic, ...] = ()
    if link_bytes is not None and devices > 1:
        speeds: Any = {"devices": devices, "link_bytes": link_bytes, "flops_per_second": tflops * 1e12}
        parts = found.training.accumulate
        traffic = traffic_of(used.gradients, used.weights, flops, **speeds, micro_batches=parts)
    best = choose(ways)
    smallest = min(ways, key=lambda way: way.memory.total)
    return Plan(
        method_parameters=method,
        head_parameters=head,
        frozen_parameters=sum(tensor.numel() for tensor in frozen if isinstance(tensor, nn.Parameter)),
        dtype=str(dtype).removeprefix("torch."),
        rows=len(rows.sample),
        features=len(features),
        steps=found.training.max_steps or 0 if not isinstance(rows.train, Rows) else batches.total_steps,
        step_rows=count,
        step_tokens=longest,
        flops=flops,
        memory=used,
        cache=cache,
        artifact_bytes=artifact,
        devices=devices,
        memory_bytes=memory_bytes,
        strategies=ways,
        chosen=best,
        limit=(best or smallest).memory.largest(),
        notes=(*hollow.notes, *rows.notes),
        traffic=traffic,
    )


def _build(hollow: Hollow, rows: RecipeRows, recipe: Recipe) -> Adapted:
    """The recipe's adapter on a hollow backbone. Initialisations that read the weights are left out."""
    method = method_of(recipe.method).without_weights(recipe.method)
    with Unfilled():  # type: ignore[no-untyped-call]
        adapted = build(hollow.backbone, rows.task, method, recipe.head, recipe.training.seed)
    if FACTS[recipe.task.kind].borrows_head and hollow.has_head:
        _borrow(adapted)
    return adapted


def _borrow(adapted: Adapted) -> None:
    """Make the head the checkpoint's own: frozen, and in the trunk's number format instead of float32."""
    trained = adapted.headed.trained
    for path in {name.rpartition(".")[0] for name in trained}:
        adapted.module.get_submodule(path).__dict__.pop("forward", None)  # which computed in float32
    for parameter in trained.values():
        parameter.requires_grad_(False)
        parameter.data = torch.zeros((), dtype=adapted.backbone.dtype).expand(parameter.shape)
    trained.clear()


def _check_trains(adapted: Adapted) -> None:
    if not adapted.method_parameters() and not adapted.head_parameters():
        raise RecipeError(
            "nothing would train: neither the method nor the head has parameters",
            [f"method.kind: found {adapted.method.kind}, and the head of {adapted.task.kind} is the checkpoint's own"],
            "Take method.kind=lora or bottleneck.",
        )


def _dtypes(recipe: Recipe, on_gpu: bool) -> tuple[torch.dtype, torch.dtype]:
    """The number formats of frozen weights that are not quantised, and of products.

    On GPUs that are planned for, auto is bfloat16.
    """
    (name, computed_in), precision = backbone_dtypes(recipe), recipe.training.precision
    if name in QUANTISED:
        name = computed_in
    if name == "auto":
        name = "bfloat16" if on_gpu else "auto"
    weights = pick_backbone_dtype(name, torch.device("cpu") if on_gpu else pick_device(recipe.backbone.device))
    return weights, weights if precision == "auto" else DTYPES[FORMATS[precision]]


def _batches(batches: HeldBatches) -> tuple[Sequence[Feature], Sequence[Feature]]:
    """A usual batch (the median by padded tokens) and the largest one of the first epoch."""
    found: list[Sequence[Feature]] = []
    for position, batch in batches.after(Position()):
        if position.epoch:
            break
        found.append(batch)
    found.sort(key=lambda batch: len(batch) * max(feature.length_tokens for feature in batch))
    return found[len(found) // 2], found[-1]


def _weights_bytes(frozen: Sequence[Tensor], narrow: Collection[Tensor], form: str) -> int:
    """Of the frozen tensors, of which the narrow ones are quantised: an adapter holds them as parameters of its own."""
    return sum(tensor.nbytes for tensor in frozen) + sum(
        quantised_bytes(weight, form) - weight.nbytes for weight in narrow
    )


def _memory(weights_bytes: int, trained: int, step: DryStep) -> Memory:
    """See `strategies`. What is trained is kept in float32, with its gradients in one buffer and two moments."""
    adapter = trained * torch.float32.itemsize
    activations = max(0, step.saved_bytes - step.logits_bytes)
    logits = min(step.logits_bytes, step.peak_bytes)
    return Memory(
        weights=weights_bytes,
        adapter=adapter,
        gradients=adapter,
        optimizer=ADAM_MOMENTS * adapter,
        activations=activations,
        logits=logits,
        working=max(0, step.peak_bytes - activations - logits),
    )


def _cut(adapted: Adapted) -> list[int]:
    """Bytes of the frozen weights of each unit that FSDP cuts, in the order in which they compute; [] where it cannot.

    The ends of the vocabulary come behind the layers in `units_of`, and the first of them computes before.
    """
    try:
        units = units_of(adapted)
    except DeviceError:
        return []
    trunk: Any = adapted.backbone.trunk
    embedding = trunk.get_input_embeddings()
    units.sort(key=lambda unit: unit is not embedding)
    return [sum(weight.nbytes for weight in unit.parameters() if not weight.requires_grad) for unit in units]


def _artifact_bytes(adapted: Adapted, recipe: Recipe, dtype: torch.dtype) -> int:
    """Bytes of adapter_model.safetensors: 8 for the length of the header, the header, the tensors."""
    wanted = recipe.training.save_dtype
    target = dtype if wanted == "auto" else pick_dtype(wanted)
    method = method_of(recipe.method)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, tensor in adapted.state().items():
        shape = list(method.saved_shape(recipe.method, name, tensor.shape))
        end = start + torch.Size(shape).numel() * target.itemsize
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
        start = end
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + -(-length // 8) * 8 + start


def _machine(
    gpus: int | None, memory: int | str | None, interconnect: int | str | None, tflops: float
) -> tuple[int, int, int | None]:
    """How many devices there are, the memory of each, and what each sends in a second, where that was asked."""
    there = torch.cuda.device_count()
    on_gpu = there and gpus != 0
    known = torch.cuda.get_device_properties(0).total_memory if on_gpu else psutil.virtual_memory().total
    size = known if memory is None else _size(memory)
    sent = None if interconnect is None else _size(interconnect)
    problems = [f"gpus: found {gpus}, expected at least 1"] if gpus is not None and gpus < 1 else []
    if size is None:
        problems.append(f"memory: found {memory!r}, expected bytes or a size")
    if interconnect is not None and sent is None:
        problems.append(f"interconnect: found {interconnect!r}, expected bytes or a size for each second")
    if not tflops > 0:
        problems.append(f"tflops: found {tflops}, expected more than 0")
    if problems or size is None:
        remedy = "As in --gpus 8 --memory 80GiB --interconnect 50GB --tflops 400"
        raise RecipeError("this machine cannot be planned for", problems, remedy)
    return gpus or max(1, there), size, sent


def _size(given: int | str) -> int | None:
    """A size in bytes; None where it is none."""
    size = read_bytes(given) if isinstance(given, str) else given
    return None if size is None or size < 1 else size


UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def read_bytes(text: str) -> int | None:
    """ "80GiB" or "24 GB" in bytes; None for anything else."""
    digits = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    unit = text.strip()[len(digits) :].strip().lower()
    try:
        return int(float(digits) * UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        return None
