"""The gradients of several adapters from one forward and one backward over the rows of all of them.

The frozen linears work on all rows at once. What learns works on its own rows, its lane: the models of the adapters are
alike, so one more of the kind is built, in which every module that learns is replaced by all adapters' modules in its
place. Gradients reach each adapter's own parameters, and nothing that an adapter learns depends on the others.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapterkit.adapted import Adapted, build
from adapterkit.backbone import Backbone
from adapterkit.heads.lanes import Lanes, NoLanesError
from adapterkit.methods.table import method_of
from adapterkit.training.trunk_cache import share_states
from adapterkit.training.turn import Turn


class Joint:
    """Several adapters of one shape on twins of one backbone."""

    def __init__(self, backbone: Backbone, members: Sequence[Adapted], *, gradient_checkpointing: bool = False) -> None:
        """Build the model of all on a backbone that carries no adapter, and whose twins the members are on.
        Raises NoLanesError: there can be none, and why."""
        first = members[0]
        _check(members)
        self._lanes = Lanes()
        self._members = list(members)
        self._all = build(backbone, first.task, first.method, first.head, seed=0)
        self._all.attachment.fuse(False)
        self._all.compute_dtype = first.compute_dtype
        self._all.headed.lanes = self._lanes
        for path in sorted(_owners(first)):
            parent, _, name = path.rpartition(".")
            joined = Joined([member.module.get_submodule(path) for member in members], self._lanes)
            setattr(self._all.module.get_submodule(parent), name, joined)
        share_states(members, self._all)
        self._all.checkpoint_layers(gradient_checkpointing)
        self._all.train()

    def compute(self, turns: Sequence[tuple[int, Turn]]) -> None:
        """The gradients of the steps of some members, by number, as `Turn.compute` gives them one by one.
        Raises NoLanesError: the batches do not fit beside each other; nothing has a gradient then."""
        started = time.perf_counter()
        batches = [turn.batch(turn.features) for _, turn in turns]
        pad_id = int(self._all.vocabulary.pad_id)
        inputs = {
            name: _stacked([batch.inputs[name] for batch in batches], pad_id if name.endswith("input_ids") else 0)
            for name in batches[0].inputs
        }
        answered = [turn.learning.adapted.task.answered(batch) for (_, turn), batch in zip(turns, batches, strict=True)]
        at_BT = None if answered[0] is None else _stacked([at for at in answered if at is not None], 0)
        choices = inputs["input_ids"].shape[1:-1].numel()
        self._lanes.set([number for number, _ in turns], [choices * len(batch.features) for batch in batches])
        logits = self._all(inputs, at_BT)
        sizes = [len(own.features) if at is None else int(at.sum()) for own, at in zip(batches, answered, strict=True)]
        losses = []
        for piece, batch, (_, turn) in zip(torch.split(logits, sizes), batches, turns, strict=True):
            # Without the tokens or choices by which others' rows are longer.
            own = piece[:, : batch.inputs["input_ids"].shape[1]] if self._all.task.answers_places else piece
            losses.append(turn.loss(own, batch))
        torch.autograd.backward(torch.stack(losses).sum())
        seconds = (time.perf_counter() - started) / len(turns)
        for _, turn in turns:
            turn.seconds += seconds

    @contextmanager
    def without_dropout(self) -> Iterator[None]:
        """Inside, nothing is dropped, in the joint model and in its members."""
        every = [self._all, *self._members]
        for adapted in every:
            adapted.eval()
        try:
            yield
        finally:
            for adapted in every:
                adapted.train()


class Joined(nn.Module):
    """Modules of several adapters in the place of one: each works on its own lane."""

    def __init__(self, members: Sequence[nn.Module], lanes: Lanes) -> None:
        super().__init__()
        self._members = tuple(members)  # in a tuple: they are children of their own models
        self._lanes = lanes

    def __getattr__(self, name: str) -> Any:
        # Whoever asks for a weight wants to know its dtype.
        return getattr(self._members[0], name) if "_members" in self.__dict__ else super().__getattr__(name)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """What the members make of their lanes, in one tensor."""
        members: list[Any] = [self._members[number] for number in self._lanes.members]
        axis, sizes = self._lanes.sizes(x)
        if len(set(sizes)) == 1 and all(type(m) is nn.Linear and "forward" not in vars(m) for m in members):
            return _linears(x, axis, members)
        arguments = [torch.split(tensor, list(sizes), axis) for tensor in (x, *others)]
        return torch.cat([member(*own) for member, *own in zip(members, *arguments, strict=True)], axis)


def _linears(x: Tensor, axis: int, members: Sequence[Any]) -> Tensor:
    """Linears over lanes of one width, as one batched product."""
    lanes_LNI = x.reshape(len(members), -1, x.shape[-1])
    weights_LIO = torch.stack([member.weight for member in members]).transpose(1, 2)
    found = torch.bmm(lanes_LNI, weights_LIO)
    if members[0].bias is not None:
        found = found + torch.stack([member.bias for member in members])[:, None].to(found.dtype)
    return found.view(*x.shape[:-1], found.shape[-1])


def _check(members: Sequence[Adapted]) -> None:
    first = members[0]
    if reason := method_of(first.method).why_not_joined(first.method, first.backbone):
        raise NoLanesError(reason)
    shapes = [
        {path: p.shape for path, p in {**member.method_parameters(), **member.head_parameters()}.items()}
        for member in members
    ]
    if any(other != shapes[0] for other in shapes[1:]):
        raise NoLanesError("heads of different shapes: the rows of some hold other labels")


def _owners(adapted: Adapted) -> set[str]:
    """The paths of the modules that learn. Raises NoLanesError where a parameter is no leaf's own."""
    learning = {id(p) for p in (*adapted.method_parameters().values(), *adapted.head_parameters().values())}
    owners = {
        path: module
        for path, module in adapted.module.named_modules()
        if any(id(p) in learning for p in module.parameters(recurse=False))
    }
    for path, module in owners.items():
        if any(True for _ in module.children()) or not all(id(p) in learning for p in module.parameters()):
            raise NoLanesError(f"{path} learns, and is no module of its own")
    return set(owners)


def _stacked(tensors: Sequence[Tensor], fill: int) -> Tensor:
    """(B, T) or (B, K, T) of several batches: rows are filled on the right, and the first choice is repeated."""
    longest = max(tensor.shape[-1] for tensor in tensors)
    same = [F.pad(tensor, (0, longest - tensor.shape[-1]), value=fill) for tensor in tensors]
    if same[0].ndim == 3:
        most = max(tensor.shape[1] for tensor in same)
        same = [torch.cat([own, own[:, :1].expand(-1, most - own.shape[1], -1)], dim=1) for own in same]
    return torch.cat(same)
