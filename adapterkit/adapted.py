"""An adapted backbone: backbone, method and head for one task, ready to be trained or to answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from adapterkit.backbone import Backbone
from adapterkit.backbone.dropout import use_quick_dropout
from adapterkit.backbone.named_tensors import misfits
from adapterkit.backbone.pretrained import is_layer, keep, recompute
from adapterkit.data import asked_of, group_by_length
from adapterkit.errors import ArtifactError, DetachedError, RecipeError
from adapterkit.glance import in_short
from adapterkit.heads import Headed, build_head, resolve
from adapterkit.heads.unpadded import UnpaddedHeaded
from adapterkit.methods.fusion.part import Part
from adapterkit.methods.table import attach, method_of
from adapterkit.recipe import HeadSettings, MethodSettings
from adapterkit.tasks.asked import Asked, Errors, check_errors, encode_each, in_place, refuse, sort_out
from adapterkit.tasks.continuing import continued
from adapterkit.tasks.finite import no_numbers, without_lost
from adapterkit.tasks.protocol import Batch, Feature, GeneratingTask, Task, Vocabulary

if TYPE_CHECKING:
    from adapterkit.methods.attachment import Attachment

T = TypeVar("T")

PREFIX = "base_model.model."
"""What PEFT puts before every path in a model's file."""


class Adapted(nn.Module):
    """A backbone with one adapter on it, made by `build`. Threads that ask it for answers take turns.

    Attributes:
        backbone: a twin of the backbone it was built on: modules of its own over the same memory, which never changes.
        head: the head's settings, with nothing left to `auto`.
        headed: the trunk with the head on it.
        attachment: the method on the trunk.
        parts: what a fusion is made of; empty for every other method.
        vocabulary: what the task needs to know of the backbone to encode text.
        trained_with: the names that the task's columns had in training; rows to predict may use them.
        compute_dtype: the format of matrix products: the backbone's, unless a training run asks for a narrower one.
        sharded: whether other processes hold parts of the backbone, so that all of them have to compute together.
        shortcut: another way from a batch to its logits, over states that were computed before; None for a batch
            that it cannot answer.
    """

    def __init__(
        self,
        backbone: Backbone,
        task: Task,
        method: MethodSettings,
        head: HeadSettings,
        headed: Headed,
        attachment: Attachment,
        parts: Sequence[Part] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.task = task
        self.method = method
        self.head = head
        self.headed = headed
        self.attachment = attachment
        self.parts = tuple(parts)
        self.module = headed.module
        use_quick_dropout(self.module)
        self.trained_with: Mapping[str, str] = {}
        self.compute_dtype = backbone.dtype
        self.sharded = False
        self.shortcut: Callable[[dict[str, Tensor], Tensor | None], Tensor | None] | None = None
        self._attached = True
        self._turns = RLock()
        self._head_modules = tuple(_outside(headed.module, backbone.trunk))
        self._upper_layers = tuple(_above(backbone, headed.module, attachment.lowest_layer))
        self._checkpointed: list[Any] = []
        self._answers = UnpaddedHeaded(headed, task.kind, encoder_decoder=backbone.is_encoder_decoder)
        start = getattr(backbone.config, "decoder_start_token_id", None)
        self.vocabulary = Vocabulary.of(backbone.tokenizer, backbone.max_tokens, start)

    # -- computing
    __repr__ = in_short("task.kind", "method.kind", "head.kind", "backbone.name")

    def forward(self, inputs: dict[str, Tensor], at_BT: Tensor | None = None) -> Tensor:
        """Logits of a batch: shapes as `Headed.logits` gives them. `at_BT`: of a language model, whether to answer at a
        token; everywhere where it is None. Raises DetachedError after `detach`."""
        self._check_attached()
        with self.autocast():
            logits = None if self.shortcut is None else self.shortcut(inputs, at_BT)
            return self._answers.logits(inputs, at_BT) if logits is None else logits

    def autocast(self) -> torch.autocast:
        """In a narrow format the adapter's fp32 tensors are cast for each product, not stored narrow."""
        narrow = self.compute_dtype != torch.float32
        return torch.autocast(self.backbone.device.type, self.compute_dtype if narrow else None, enabled=narrow)

    def train(self, mode: bool = True) -> Adapted:
        """Training mode from the lowest adapted layer up, and in the head. What lies below stays in eval mode.

        Below the lowest adapted layer nothing trains, so its states depend on the text alone, and may be computed once.
        """
        self.training = mode
        self.module.eval()
        if mode:
            for child in self._head_modules:
                child.training = True
            for layer in self._upper_layers:
                layer.train()
        self.attachment.train(mode)
        return self

    @property
    def checkpointable(self) -> bool:
        """Whether what trains in the trunk can be computed again layer by layer; true where nothing does."""
        return not self._upper_layers or any(map(is_layer, self._upper_layers))

    def checkpoint_layers(self, on: bool = True) -> None:
        """Keep for the backward only what enters each layer that trains, and compute the rest again (Chen et al. 2016,
        arXiv 1604.06174). What is learned stays the same, dropout included: random states are put back.

        Raises RecipeError: the backbone's layers cannot be computed again one by one.
        """
        for layer in self._checkpointed:
            keep(layer)
        if on and not self.checkpointable:
            raise RecipeError(
                f"the layers of {self.backbone.contract.architecture} cannot be computed again one by one",
                remedy="Use training.gradient_checkpointing=false.",
            )
        self._checkpointed = [layer for layer in self._upper_layers if on and is_layer(layer) and recompute(layer)]

    # -- parameters

    def method_parameters(self) -> dict[str, nn.Parameter]:
        """What the method trains, by path in the module."""
        return self.attachment.parameters()

    def head_parameters(self) -> dict[str, nn.Parameter]:
        """What the head trains, by path in the module."""
        return dict(self.headed.trained)

    def state(self) -> dict[str, Tensor]:
        """Copies of every tensor of the adapter, by its name in an artifact. Raises DetachedError after `detach`."""
        self._check_attached()
        own = {name: parameter.detach().clone() for name, parameter in self.headed.trained.items()}
        return {f"{PREFIX}{name}": tensor for name, tensor in sorted({**self.attachment.state(), **own}.items())}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over tensors as `state` gives them. Raises ArtifactError: missing or unknown names, other shapes, values
        that are not finite; nothing changes then; DetachedError after `detach`."""
        self._check_attached()
        named = {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
        trained = self.headed.trained
        if problems := misfits(named, {name: tuple(parameter.shape) for name, parameter in trained.items()}):
            raise ArtifactError("these tensors do not fit the head", problems)
        self.attachment.load({name: tensor for name, tensor in named.items() if name not in trained})
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(named[name])

    def merge(self) -> None:
        """Fold the method into the backbone's weights, until `unmerge`. Raises MergeError for a bottleneck."""
        self._check_attached()
        self.attachment.merge()

    def unmerge(self) -> None:
        """Put the backbone's weights back, bit for bit."""
        self.attachment.unmerge()

    def detach(self) -> None:
        """Take the adapter off and let its tensors go. It answers no more; doing it again does nothing. Whoever drops
        an adapter need not call this: no other adapter and no host waits for it."""
        if self._attached:
            self._attached = False
            self.eval()
            self.checkpoint_layers(False)
            self.attachment.detach()

    def _check_attached(self) -> None:
        if not self._attached:
            raise DetachedError(
                f"this {self.task.kind} adapter was taken off its backbone",
                remedy="Load its artifact again, or build a new adapter.",
            )

    def __enter__(self) -> Adapted:
        return self

    def __exit__(self, *exception: object) -> None:
        self.detach()

    # -- answering

    def outputs(self, features: Sequence[Feature], *, batch_size: int = 64) -> list[Any]:
        """The task's small output of every feature, in their order; longest first inside, so that little is padded.
        Raises NotFiniteError: rows of which the logits are not finite."""
        return _all_finite(features, *self._outputs(features, batch_size))

    def _outputs(self, features: Sequence[Feature], batch_size: int) -> tuple[list[Any], set[int]]:
        """Outputs, and which of them mean nothing, since their logits are not finite."""
        found: dict[int, Any] = {}
        lost: set[int] = set()
        for chosen, batch, computed in self.computed(features, batch_size=batch_size):
            logits, places = without_lost(computed, batch, self.task.answered(batch))
            lost.update(chosen[place] for place in places)
            found.update(zip(chosen, self.task.outputs(logits, batch), strict=True))
        return [found[index] for index in range(len(features))], lost

    def computed(
        self, features: Sequence[Feature], *, batch_size: int = 64
    ) -> Iterator[tuple[Sequence[int], Batch, Tensor]]:
        """Features by their positions, as a batch, with its logits; longest first, so that little is padded."""
        with self._answering():
            for chosen in group_by_length([f.length_tokens for f in features], batch_size=batch_size, shuffle=False):
                batch = self.task.collate([features[i] for i in chosen], self.vocabulary).to(self.backbone.device)
                yield chosen, batch, self(batch.inputs, self.task.answered(batch))

    def generate(
        self,
        features: Sequence[Feature],
        *,
        batch_size: int = 64,
        new_tokens: int | None = None,
        beams: int | None = None,
    ) -> list[str]:
        """Generated text for every prompt feature, in their order.

        Args:
            batch_size: prompts per batch.
            new_tokens: the most new tokens; None for what the task says.
            beams: sequences that are followed per row, 1 for greedy choice; None for what the task says.

        Raises:
            NotFiniteError: rows of which the logits are not finite.
        """
        return _all_finite(features, *self._texts(features, batch_size, new_tokens, beams))

    def _texts(
        self, features: Sequence[Feature], batch_size: int, wanted: int | None = None, beams: int | None = None
    ) -> tuple[list[str], set[int]]:
        """Texts, and which of them mean nothing, since their logits are not finite."""
        task = self.task
        if not isinstance(task, GeneratingTask):
            raise TypeError(f"{task.kind} does not generate text")
        found: dict[int, str | None] = {}
        with self._answering(), self.autocast():
            for new_tokens, group in self._by_room(task, features, wanted).items():
                lengths = [features[index].length_tokens for index in group]
                for chosen in group_by_length(lengths, batch_size=batch_size, shuffle=False):
                    indices = [group[place] for place in chosen]
                    asked = [features[index] for index in indices]
                    prompts = task.collate_prompts(asked, self.vocabulary).to(self.backbone.device)
                    limits, stops = [new_tokens] * len(asked), [task.stops(feature) for feature in asked]
                    texts = continued(self.module, prompts, limits, stops, beams=beams or task.settings.beams)
                    found.update(zip(indices, texts, strict=True))
        return [found[index] or "" for index in range(len(features))], {i for i, text in found.items() if text is None}

    def _by_room(self, task: GeneratingTask, features: Sequence[Feature], wanted: int | None) -> dict[int, list[int]]:
        """Most new tokens -> the prompts that have room for so many, by position.

        A long prompt leaves less room than the recipe asks for. Were it to share a batch with a short one, the answer
        to the short one would be cut by its neighbour.
        """
        groups: dict[int, list[int]] = {}
        for index, feature in enumerate(features):
            room = task.new_tokens(task.collate_prompts([feature], self.vocabulary), wanted)
            groups.setdefault(room, []).append(index)
        return groups

    def predict(self, rows: Any, *, errors: Errors = "raise", batch_size: int = 64) -> list[Any]:
        """Answer rows: dicts with the task's columns, under its names, training's or an alias, or plain text where one
        column is enough.

        Args:
            rows: a list of them, or what else `data.rows_of` takes: a DataFrame, a `datasets.Dataset`.
            errors: "return" gives an error in the place of every row that cannot be answered, with `code` and
                `message`; every other row gets the answer that it has without them.
            batch_size: rows per forward.

        Returns:
            One JSON-able answer per row, in row order.

        Raises:
            DataError: rows that the task cannot use, all of them, with their numbers.
            NotFiniteError: rows of which what the adapter computes is not finite, all of them, with their numbers.
            TypeError: one row instead of a list of them.
        """
        if isinstance(rows, str | Mapping):
            raise TypeError("predict takes a list of rows, found one row: write predict([row])")
        check_errors(errors)
        task, asked = self.task, Asked(self.task, self.trained_with)
        usable, places, bad = sort_out([asked.read(row) for row in asked_of(rows)])
        count = len(usable) + len(bad)
        if errors == "raise":
            refuse(bad, count)
        features, kept, stopped = encode_each(task, usable, self.vocabulary, errors)
        bad.update({places[index]: error for index, error in stopped.items()})
        usable, places = usable.select(kept), [places[index] for index in kept]
        if isinstance(task, GeneratingTask):
            texts, lost = self._texts(features, batch_size)
            answers = task.answers(usable, texts)
        else:
            outputs, lost = self._outputs(features, batch_size)
            answers = task.predictions(usable, features, outputs)
        without = sorted({places[features[index].row] for index in lost})
        if without and errors == "raise":
            raise no_numbers(without)
        bad.update({place: no_numbers([place]) for place in without})
        return in_place(dict(zip(places, answers, strict=True)), bad, count)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        # Modes and hooks are the modules' own, and an answer changes them while it is computed.
        with self._turns:
            self._check_attached()
            before = self.training
            self.eval()
            try:
                with torch.no_grad() if self.sharded else torch.inference_mode():
                    yield
            finally:
                self.train(before)


def _all_finite(features: Sequence[Feature], found: list[T], lost: set[int]) -> list[T]:
    if lost:
        raise no_numbers(sorted({features[index].row for index in lost}))
    return found


def _above(backbone: Backbone, module: nn.Module, lowest: Mapping[str, int]) -> Iterator[nn.Module]:
    """The layers from the lowest adapted one up, of those that the module holds: T5 may be there without a decoder."""
    held = {id(inner) for inner in module.modules()}
    for site in backbone.sites.sites if lowest else ():
        # All of a decoder lies above an adapted encoder.
        floor = 0 if site.side == "decoder" and "encoder" in lowest else lowest.get(site.side)
        if site.name == "layer.output" and floor is not None and site.layer >= floor:
            layer = backbone.trunk.get_submodule(site.path)
            if id(layer) in held:
                yield layer


def _outside(module: nn.Module, trunk: nn.Module) -> Iterator[nn.Module]:
    """Modules that hold nothing of the trunk: those of the head."""
    shared = {id(inner) for inner in trunk.modules()}
    for candidate in module.modules():
        if not any(id(inner) in shared for inner in candidate.modules()):
            yield candidate


def build(
    backbone: Backbone, task: Task, method: MethodSettings, head: HeadSettings, seed: int, *, parts: Sequence[Part] = ()
) -> Adapted:
    """Put a new adapter on a backbone. Its answers are the bare backbone's until it is trained or loaded, a fusion's
    those of the mean of its parts. Its modules are its own, over the backbone's memory: any number use that at once.

    Args:
        parts: of a fusion.

    Raises:
        HeadError: the head does not fit the task or the family.
        SiteError: the method asks for sites that the backbone does not have.
        RecipeError: the parts of a fusion do not fit each other, or `head.tokens` beside a method that is not LoRA.
    """
    if head.tokens and method_of(method).peft_type != "LORA":
        raise RecipeError(f"head.tokens goes with LoRA alone, as in PEFT, and not with method.kind={method.kind}")
    backbone = backbone.twin()
    headed = build_head(backbone, task.kind, task.classes, head, seed=seed)
    attachment = attach(headed.module, backbone, method, seed=seed, parts=parts)
    return Adapted(backbone, task, method, resolve(backbone, task.kind, head), headed, attachment, parts).eval()
