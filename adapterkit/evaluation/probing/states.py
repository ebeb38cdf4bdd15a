"""The states of every layer, from one forward pass over the rows, kept on the disk for the next time.

Axes: N items, L layers (the embeddings count as layer 0), B rows of a batch, T tokens, D width, W widths kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adapterkit.backbone import Backbone
from adapterkit.backbone.attention import implementation
from adapterkit.data import group_by_length
from adapterkit.errors import BackboneError
from adapterkit.evaluation.probing.asked import Drawn, ProbedItem
from adapterkit.evaluation.probing.subjects import Subject
from adapterkit.heads.pooling import pool
from adapterkit.tasks.protocol import Feature, Task, Vocabulary
from adapterkit.training.trunk_cache.keys import flat_inputs, keys_of
from adapterkit.training.trunk_cache.segment import KEY_BYTES
from adapterkit.training.trunk_cache.space import Space
from adapterkit.training.trunk_cache.store import StateStore

if TYPE_CHECKING:
    from accelerate import Accelerator

BATCH_TOKENS = 1024
"""Tokens per batch, padding included; fewer where all layers' states of so many would not fit into `BATCH_BYTES`."""
BATCH_BYTES = 1 << 27
FLUSH_BYTES = 1 << 24
STATE_BYTES = 1 << 27
"""Of the states of one representation, in memory: fewer widths, then fewer layers, where all of them take more."""
MOST_WIDTHS = 1024


@dataclass(frozen=True)
class LayerWindow:
    """Which layers, by number from the lowest, and which widths are looked at (None for all), of how many; the
    embeddings are a layer too."""

    layers: tuple[int, ...]
    widths: tuple[int, ...] | None
    of_layers: int
    of_widths: int

    @property
    def width(self) -> int:
        """Places that are looked at."""
        return self.of_widths if self.widths is None else len(self.widths)

    @property
    def note(self) -> str:
        """What is left out, or ""."""
        left = []
        if len(self.layers) < self.of_layers:
            left.append(f"{len(self.layers)} of {self.of_layers} layers")
        if self.widths is not None:
            left.append(f"{len(self.widths):,} of {self.of_widths:,} dimensions")
        return f"{' and '.join(left)}, so that the states fit into memory" if left else ""


def window(layers: int, width: int, items: int, seed: int) -> LayerWindow:
    """All layers and widths where they fit, else some: widths drawn by seed, layers at equal distances."""
    widths = None
    if width > MOST_WIDTHS:
        drawn = np.random.default_rng(seed).choice(width, MOST_WIDTHS, replace=False)
        widths = tuple(sorted(drawn.tolist()))
    room = max(2, STATE_BYTES // (items * min(width, MOST_WIDTHS) * 4))
    chosen = range(layers) if layers <= room else np.linspace(0, layers - 1, room).round().astype(int).tolist()
    return LayerWindow(tuple(dict.fromkeys(chosen)), widths, layers, width)


@dataclass(frozen=True)
class LayerStates:
    """The states (N, L, W) of one subject in a window, how a row became one vector ("" for words), and how many items
    were not kept before."""

    states: NDArray[np.float32]
    window: LayerWindow
    pooling: str
    computed: int


def see(
    subject: Subject,
    task: Task,
    vocabulary: Vocabulary,
    features: Sequence[Feature],
    items: Mapping[tuple[int, int], ProbedItem],
    drawn: Drawn,
    *,
    pooling: str,
    seed: int,
    cache: Path | None,
    tell: Callable[[int], None],
    accelerator: Accelerator | None = None,
) -> LayerStates:
    """The states of the drawn items in every layer: one forward pass over what is not kept yet.

    Features are those of the rows in the vocabulary of the subject's backbone, which the task batches; a row that is
    one vector is pooled. `seed` draws widths that are left out, `cache` is the folder of kept states (None keeps none),
    `tell` is told of every item that is done, and all processes call this and compute a share of the batches each.

    Raises BackboneError: a trunk that does not hand out its layers' states.
    """
    width, layers = subject.backbone.hidden_size, int(subject.backbone.config.num_hidden_layers) + 1
    chosen = window(layers, width, len(drawn.keys), seed)
    store = None if cache is None else StateStore(cache, _space(subject, chosen, pooling))
    states = np.empty((len(drawn.keys), len(chosen.layers), chosen.width), np.float32)
    computed = unwritten = 0
    of_feature: dict[int, list[tuple[int, ProbedItem]]] = {}
    for number, key in enumerate(drawn.keys):
        of_feature.setdefault(items[key].feature, []).append((number, items[key]))
    used = list(of_feature)
    processes, own = (1, 0) if accelerator is None else (accelerator.num_processes, accelerator.process_index)
    shared: list[int] = []  # items of this process's batches
    copies: list[tuple[int, int]] = []
    same: dict[bytes, int] = {}  # what is read twice is computed once, so that it has the same bits wherever it stands
    lengths = []  # of a feature in a batch, with all of its choices
    for place in used:
        ids = features[place].inputs["input_ids"]
        lengths.append(features[place].length_tokens * (len(ids) if ids and isinstance(ids[0], list) else 1))
    most = max(1, min(BATCH_TOKENS, BATCH_BYTES // (layers * width * 4)))
    with subject.trunk() as trunk:
        for turn, batch in enumerate(group_by_length(lengths, batch_tokens=most, shuffle=False)):
            places = [used[index] for index in batch]
            inputs = flat_inputs(task.collate([features[place] for place in places], vocabulary).inputs)
            each = len(inputs["input_ids"]) // len(places)
            asked = [
                (number, at * each + item.choice, item.token)
                for at, place in enumerate(places)
                for number, item in of_feature[place]
            ]
            numbers = [number for number, _, _ in asked]
            keys = _keys(inputs, asked)
            empty = list(range(len(asked)))
            if store is not None and keys is not None:
                kept, empty = store.gather(store.find(keys), len(chosen.layers))
                states[numbers] = kept.numpy()
            new = [at for at in empty if keys is None or same.setdefault(keys[at], numbers[at]) == numbers[at]]
            computed += len(new)
            mine = turn % processes == own
            shared += numbers if mine else []
            if new and mine:
                found = _compute(trunk, subject.backbone, inputs, [asked[at][1:] for at in new], chosen, pooling)
                states[[numbers[at] for at in new]] = found.numpy()
                for at, state_LW in zip(new, found, strict=True):
                    if store is not None and keys is not None:
                        store.add(keys[at], state_LW)
                unwritten += found.nbytes
                # Processes that read what others have written meanwhile would not compute the same batches.
                if store is not None and unwritten > FLUSH_BYTES and processes == 1:
                    store.flush()
                    unwritten = 0
            copies += [(numbers[at], same[keys[at]]) for at in empty if keys is not None]
            tell(len(numbers))
    if processes > 1:
        from accelerate.utils import gather_object

        for theirs, of_theirs in gather_object([(shared, states[shared])]):
            states[theirs] = of_theirs
    for number, first in copies:
        states[number] = states[first]
    if store is not None:
        store.flush()
    return LayerStates(states, chosen, pooling, computed)


def _keys(inputs: dict[str, Tensor], asked: Sequence[tuple[int, int, int]]) -> list[bytes] | None:
    """Of the items of a batch: what the model reads, and where in it."""
    keyed = keys_of(inputs)
    if keyed is None:
        return None
    read = (keyed.keys[row] + token.to_bytes(8, "little", signed=True) for _, row, token in asked)
    return [hashlib.blake2b(what, digest_size=KEY_BYTES).digest() for what in read]


def _compute(
    trunk: nn.Module,
    backbone: Backbone,
    inputs: dict[str, Tensor],
    asked: Sequence[tuple[int, int]],
    chosen: LayerWindow,
    pooling: str,
) -> Tensor:
    """(items, L, W) of items of a batch, each (row, token)."""
    rows = sorted({row for row, _ in asked})
    given = {name: value[rows].to(backbone.device) for name, value in inputs.items()}
    at = torch.tensor([rows.index(row) for row, _ in asked], device=backbone.device)
    token = torch.tensor([token for _, token in asked], device=backbone.device)
    narrow = backbone.dtype != torch.float32
    autocast = torch.autocast(backbone.device.type, backbone.dtype if narrow else None, enabled=narrow)
    with torch.inference_mode(), autocast:
        hidden = trunk(**given, output_hidden_states=True).hidden_states
        if hidden is None or len(hidden) != chosen.of_layers:
            told = [f"layers: found {len(hidden or ())}, expected {chosen.of_layers} with the embeddings"]
            raise BackboneError(f"{backbone.contract.architecture} does not hand out the states of its layers", told)
        found = []
        for layer in chosen.layers:
            states_BTD = hidden[layer].float()
            state_ND = pool(states_BTD, given["attention_mask"], pooling)[at] if pooling else states_BTD[at, token]
            found.append(state_ND if chosen.widths is None else state_ND[:, list(chosen.widths)])
    return torch.stack(found, dim=1).cpu()


def _space(subject: Subject, chosen: LayerWindow, pooling: str) -> Space:
    backbone = subject.backbone
    what = hashlib.sha256(f"{pooling} {chosen.layers} {chosen.widths}".encode()).hexdigest()
    return Space(
        backbone=f"{backbone.name}: all layers of {subject.name}",
        fingerprint=f"{subject.digest} {what}",
        tokenizer=backbone.contract.tokenizer,
        layer=chosen.of_layers - 1,
        pooling="",
        width=chosen.width,
        dtype="float32",
        computed_in=(backbone.quantised or str(backbone.dtype), str(backbone.dtype)),
        attention=implementation(backbone.config),
        device=backbone.device.type,
    )
