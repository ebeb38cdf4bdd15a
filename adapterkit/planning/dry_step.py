"""One training step on tensors without content: what it computes and what it keeps, without weights and without time.

No formula per family, kind or method stands here: the very code that trains runs, on torch's FakeTensors, which have a
shape, a format and a device and nothing else. So what a step costs follows the code when the code changes. Tensors that
come from the batch alone (ids, masks, labels) keep their content: which tokens are padding decides what is computed.
"""

import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapterkit.adapted import Adapted
from adapterkit.backbone.sites import LAYER_OUTPUT
from adapterkit.errors import AdapterkitError, BackboneError
from adapterkit.planning.dispatching import (
    FakeTensor,
    FakeTensorMode,
    FlopCounterMode,
    TorchDispatchMode,
    quiet,
    replace_tensors,
    storage_key,
    tensors_among,
    without_modes,
)
from adapterkit.tasks.protocol import Batch


@dataclass(frozen=True)
class DryStep:
    """What one step of forward and backward takes.

    Attributes:
        forward_flops, backward_flops: multiplications and additions of matrix products, as
            `torch.utils.flop_counter` counts them (2 per multiply-add).
        below_flops: of the forward, below the lowest adapted layer.
        saved_bytes: kept by autograd between forward and backward, without parameters and inputs, each storage once.
        logits_bytes: of these and of the rest, what is as wide as the classes: logits, their copies, their loss.
        peak_bytes: most that was allocated at once, without what was there before the step.
    """

    forward_flops: int
    backward_flops: int
    below_flops: int
    saved_bytes: int
    logits_bytes: int
    peak_bytes: int


def count_step(adapted: Adapted, batch: Batch) -> DryStep:
    """Run a step of a hollow adapter on a batch. The adapter's tensors have no content afterwards.
    `adapted`: on a hollow backbone; see `hollow`. `batch`: a collated one; only its shapes count. Raises BackboneError:
    some operation of the backbone does not run without content."""
    try:
        with quiet():
            return _count_step(adapted, batch)
    except AdapterkitError:
        raise
    except RuntimeError as error:  # what torch raises, and its tensors without content
        family = adapted.backbone.contract.architecture
        raise BackboneError(
            f"the steps of {family} cannot be counted without weights",
            [str(error).strip().partition("\n")[0]],
            "With experts, backbone.dtype=bfloat16 may do. Else train a few steps and look at what they take.",
        ) from error


def _count_step(adapted: Adapted, batch: Batch) -> DryStep:
    adapted.train()
    below, _ = layers_of(adapted)
    with torch.random.fork_rng(devices=[]), FakeTensorMode(allow_non_fake_inputs=True):
        fake = replace_tensors(adapted, lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))
        resident = {_key(tensor) for tensor in (*fake, *batch.inputs.values())}
        counter, backward = FlopCounterMode(display=False), FlopCounterMode(display=False)
        body: dict[int, int] = {}
        tail: dict[int, int] = {}
        with _BatchIsReal(), _Live() as live:  # type: ignore[no-untyped-call]
            with counter, _saved(resident, body):
                logits = adapted(batch.inputs, adapted.task.answered(batch))
            with _saved(resident | body.keys(), tail):
                loss = adapted.task.loss(logits, batch).total
            saved = sum({**body, **tail}.values())
            wide = sum({**tail, _key(logits): logits.untyped_storage().nbytes()}.values())
            with backward:
                torch.autograd.backward(loss)
    counts = counter.get_flop_counts()
    return DryStep(
        forward_flops=counter.get_total_flops(),
        backward_flops=backward.get_total_flops(),
        below_flops=sum(sum(counts.get(path, {}).values()) for path in below),
        saved_bytes=saved,
        logits_bytes=wide,
        peak_bytes=live.peak,
    )


def layers_of(adapted: Adapted) -> tuple[list[str], list[str]]:
    """The layers below the lowest adapted one, all of them where nothing is adapted, and the others, which learn or lie
    above one that does; by the names that are counted."""
    names = {id(module): f"{type(adapted).__name__}.{path}" for path, module in adapted.named_modules()}
    lowest = adapted.attachment.lowest_layer
    below: list[str] = []
    above: list[str] = []
    for site in adapted.backbone.known_sites.sites:
        if site.name != LAYER_OUTPUT:
            continue
        path = names.get(id(adapted.backbone.trunk.get_submodule(site.path)))
        floor = lowest.get(site.side, 0 if site.side == "decoder" and "encoder" in lowest else None)
        if path is not None:
            (below if floor is None or site.layer < floor else above).append(path)
    return below, above


def _key(tensor: Tensor) -> int:
    return storage_key(tensor.untyped_storage())


@contextmanager
def _saved(resident: Collection[int], found: dict[int, int]) -> Iterator[None]:
    """Note every storage that autograd keeps, with its bytes, but for those that are there anyway.

    One that is let go of is taken out again, since another may get its key.
    """

    def pack(tensor: Tensor) -> Tensor:
        key, storage = _key(tensor), tensor.untyped_storage()
        if key not in resident and key not in found:
            found[key] = storage.nbytes()
            weakref.finalize(storage, found.pop, key, None)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that operations have made and nobody has let go of yet."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.is_view:
            return out
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage_key(storage)
        if key not in self._known:
            self._known.add(key)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._remove, key, storage.nbytes())

    def _remove(self, key: int, size_bytes: int) -> None:
        self._known.discard(key)
        self.now -= size_bytes


class _BatchIsReal(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside FakeTensorMode, computes for real what comes from real tensors alone."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = tensors_among((args, kwargs))
        if any(isinstance(tensor, FakeTensor) for tensor in tensors):
            if func in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default):
                args = (args[0], _as_numbers(args[1]), *args[2:])
            return func(*args, **kwargs)
        if not tensors and _makes_floats(func, args, kwargs):
            return func(*args, **kwargs)
        with without_modes():
            return func(*args, **kwargs)


def _makes_floats(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a function that is given no tensor gives one of floats."""
    if (dtype := kwargs.get("dtype")) is not None:
        return bool(dtype.is_floating_point)
    aten, kind = torch.ops.aten, func.overloadpacket
    return kind not in (aten.arange, aten.randint, aten.randperm) or any(isinstance(arg, float) for arg in args)


def _as_numbers(indices: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Masks as the numbers of what they pick, so that how much is picked is known."""
    found: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype == torch.bool and not isinstance(index, FakeTensor):
            with without_modes():
                found.extend(index.nonzero(as_tuple=True))
        else:
            found.append(index)
    return found
