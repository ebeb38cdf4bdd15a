"""What a head makes of a backbone: one module that holds the shared trunk and answers with logits.

Axes: B rows, T tokens, K choices, C classes, V vocabulary.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from adapterkit.backbone import Backbone
from adapterkit.backbone.pretrained import is_model
from adapterkit.heads.lanes import Lanes
from adapterkit.heads.row_ends import RowEnds, telling_ends
from adapterkit.recipe import HeadSettings

S = TypeVar("S", bound=HeadSettings)


@dataclass
class Headed:
    """A trunk with a head on it.

    Attributes:
        module: holds the very modules of the backbone's trunk, and the head. An artifact's names are paths in it.
        trained: the head's parameters that are trained and saved, by path in `module`.
        loaded: paths of head tensors whose values come from the checkpoint; those of language models are borrowed.
        lanes: of a batch that several adapters share, or None.
        ends: how a class that looks for the end of a row is told where it is; None for all others.
        token_rows: path of the projection to the vocabulary -> tokens that have rows of their own in it.
    """

    module: nn.Module
    trained: dict[str, nn.Parameter]
    loaded: frozenset[str] = frozenset()
    lanes: Lanes | None = None
    ends: RowEnds | None = None
    token_rows: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def logits(self, inputs: dict[str, Tensor], places_N: Tensor | None = None) -> Tensor:
        """Answer a batch as the tokenizer and the task give it.

        Args:
            places_N: of a language model, the tokens to answer at, as their numbers in the flattened batch.

        Returns:
            (B, C) for text classification, (B, T, C) for token classification, (B, T, 2) start and end for question
            answering, (B, K) for multiple choice, (B, T, V) for language models, of which (N, V) at `places_N`.
        """
        with telling_ends(self.module, self.ends, inputs) as told, answering_at(self.module, places_N) as picked:
            return picked(logits_of(self.module(**told, **self._settings)))

    @cached_property
    def _settings(self) -> dict[str, bool]:
        return without_cache(self.module)


class Head(ABC, Generic[S]):
    """A kind of head. Those that stand on states and are not transformers' derive from `heads.own.OwnHead`."""

    @abstractmethod
    def build(self, backbone: Backbone, trunk: nn.Module, kind: str, classes: int, settings: S) -> Headed:
        """Put it on a trunk. `trunk`: the backbone's, or a view of it; its modules are shared, never copied. `kind`: of
        the task. `classes`: number of labels, 0 for language models. `settings`: nothing in them is left to `auto`.
        Raises HeadError: this head cannot serve this kind on this backbone."""


@contextmanager
def answering_at(model: nn.Module, places_N: Tensor | None) -> Iterator[Callable[[Tensor], Tensor]]:
    """Inside, a language model's projection to the vocabulary, most of a small model's work, skips all other tokens.

    Yields what makes (N, V) of the model's logits. Where the projection cannot be told, it is they that are picked.
    """
    if places_N is None:
        yield lambda logits: logits
        return
    owner: Any = model
    projection = owner.get_output_embeddings() if is_model(model) else None
    if projection is None or isinstance(projection, nn.Embedding):
        yield lambda logits_BTV: logits_BTV.flatten(0, -2)[places_N]
        return
    handle = projection.register_forward_pre_hook(
        lambda _, states: (states[0].flatten(0, -2).index_select(0, places_N)[None], *states[1:])
    )
    try:
        yield lambda logits_1NV: logits_1NV[0]
    finally:
        handle.remove()


def without_cache(model: nn.Module) -> dict[str, bool]:
    """What tells a model that nothing is generated: keys and values need not be kept for tokens to come."""
    return {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}


def logits_of(output: Any) -> Tensor:
    """The logits of a transformers output; start and end logits are stacked in the last axis."""
    if isinstance(output, Tensor):
        return output
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], dim=-1)
    logits: Tensor = output.logits
    return logits


def run_in_float32(module: nn.Module) -> None:
    """Let every leaf module below `module` compute in fp32 whatever the dtype of its input and of autocast.

    Heads are small and decide the answer, so they are trained in fp32 above a trunk in bf16.
    """
    for leaf in module.modules():
        if any(True for _ in leaf.children()) or not any(True for _ in leaf.parameters(recurse=False)):
            continue
        leaf.forward = in_float32(leaf.forward)


def in_float32(forward: Any) -> Any:
    """A module's forward, in fp32 whatever the dtype of its input and of autocast."""

    def run(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        kind = x.device.type
        with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
            return forward(x.float() if x.is_floating_point() else x, *args, **kwargs)

    return run
