"""Heads at run time: from what the trunk has already computed to an adapter's logits.

A head is the one that training builds (`heads/`), with a stand-in where its trunk would be that hands back computed
states. So there is no second code for any head. The modules of a head are built once per (kind, classes, settings) and
kept as a template; an adapter is its tensors alone. Each call puts them into shallow copies of the few modules that
hold them, which takes microseconds, and shares no module with any other call: heads need no lock.

Axes: B rows, T tokens, K choices, D hidden width, C classes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPoolingAndCrossAttentions,
    Seq2SeqModelOutput,
)

from adapterkit.adapted import PREFIX
from adapterkit.backbone import Backbone
from adapterkit.backbone.named_tensors import misfits
from adapterkit.backbone.pretrained import is_model
from adapterkit.errors import ArtifactError, HeadError
from adapterkit.heads import build_head
from adapterkit.heads.headed import Headed, logits_of
from adapterkit.heads.own import HEAD_NAME, OwnModel
from adapterkit.host.engine.grown import Branch, Growth, Role
from adapterkit.host.engine.shared_modules import view_of
from adapterkit.recipe import HeadSettings


@dataclass(frozen=True, eq=False)
class States:
    """What the trunk computed for some rows: its last hidden states, the decoder's or of an encoder that ran alone its
    own; those of the encoder where a decoder ran above it; and what the trunk's own pooler made of them, if it has one.
    """

    last: Tensor
    encoder: Tensor | None = None
    pooled: Tensor | None = None

    @classmethod
    def of(cls, output: Any) -> States:
        """The states in a transformers output."""
        encoder, pooled = output.get("encoder_last_hidden_state"), output.get("pooler_output")
        return cls(output.last_hidden_state, encoder, pooled)

    @classmethod
    def joined(cls, several: Sequence[States]) -> States:
        """The states of some rows behind those of others."""
        encoder = [one.encoder for one in several if one.encoder is not None]
        pooled = [one.pooled for one in several if one.pooled is not None]
        last = torch.cat([one.last for one in several])
        return cls(last, torch.cat(encoder) if encoder else None, torch.cat(pooled) if pooled else None)

    def rows(self, places: slice | Tensor) -> States:
        """The states of some of the rows: views for a slice, copies for indices."""
        encoder, pooled = self.encoder, self.pooled
        return States(
            self.last[places], None if encoder is None else encoder[places], None if pooled is None else pooled[places]
        )


class StandIn(nn.Module):
    """Stands where a head's class has its trunk, or a piece of it, and hands back what was computed."""

    def __init__(self, role: Role, pooler: nn.Module | None) -> None:
        super().__init__()
        self.role = role
        self.pooler = pooler
        self.states: States | None = None

    def forward(self, *_: Any, **__: Any) -> Any:
        states: Any = self.states  # transformers says 'floating point' by the type FloatTensor
        if states is None:
            raise RuntimeError("a stand-in was asked before the trunk had computed anything")
        if self.role == "encoder":
            return BaseModelOutput(states.last if states.encoder is None else states.encoder)
        if self.role == "trunk" and states.encoder is not None:
            return Seq2SeqModelOutput(states.last, encoder_last_hidden_state=states.encoder)
        pooled = states.pooled if self.pooler is None else self.pooler(states.last)
        return BaseModelOutputWithPoolingAndCrossAttentions(states.last, pooled)


class Template:
    """The modules of one head, without an adapter's tensors, whose shapes are known by path. Made by `Templates`; never
    written to again.

    It `reads` "encoder" where that is all of an encoder-decoder that it reads, else "trunk". One call of its class can
    answer for several adapters where it `joins` (see `grown`); where it `pools_alike` every adapter makes the same
    vector of a text, above which its own tensors stand. `ends`: see `Headed`.
    """

    def __init__(self, headed: Headed, trunk: nn.Module) -> None:
        self.shapes = {path: tuple(parameter.shape) for path, parameter in headed.trained.items()}
        self.ends = headed.ends
        self._module = headed.module
        self._branch = Branch()
        roles = self._put_stand_ins(headed.module, trunk, "")
        self.reads: Literal["trunk", "encoder"] = "encoder" if roles == {"encoder"} else "trunk"
        names = {id(parameter): path for path, parameter in headed.trained.items()}
        # A tied tensor stands in several places.
        for path, parameter in list(headed.module.named_parameters(remove_duplicate=False)):
            if id(parameter) in names:
                owner, _, name = path.rpartition(".")
                self._branch.at(owner).parameters[name] = names[id(parameter)]
                headed.module.get_submodule(owner).register_parameter(name, None)  # the initial values are nobody's
        headed.module.eval()
        pooling = f"{HEAD_NAME}.pooling."
        is_pooled = isinstance(headed.module, OwnModel) and headed.module.pools
        self.joins = self._branch.joins(headed.module)
        self.pools_alike = is_pooled and not any(path.startswith(pooling) for path in self.shapes)

    def _put_stand_ins(self, module: nn.Module, trunk: nn.Module, path: str) -> set[Role]:
        """Replace the trunk, or its pieces, by stand-ins. Returns their roles."""
        roles: set[Role] = set()
        pieces = {id(child): name for name, child in trunk.named_children()}
        for name, child in list(module.named_children()):
            role: Role | None = None
            pooler = None
            piece = pieces.get(id(child))
            below = f"{path}.{name}" if path else name
            if isinstance(child, type(trunk)):
                role, pooler = "trunk", _trained_pooler(child, trunk)
            elif piece == "encoder" or piece == "decoder":
                role = "encoder" if piece == "encoder" else "decoder"
            elif is_model(child) or hasattr(child, "encoder"):
                roles |= self._put_stand_ins(child, trunk, below)
            if role is not None:
                module.register_module(name, StandIn(role, pooler).eval())
                self._branch.at(below).role = role
                roles.add(role)
        return roles

    def grown(self, growth: Growth) -> Any:
        """The head's module with the tensors of one adapter, or, only where it `joins`, of several."""
        return growth.grown(self._module, self._branch)

    def told(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the head's class is called with."""
        return dict(inputs) if self.ends is None else self.ends.marked(inputs)


def _trained_pooler(child: nn.Module, trunk: nn.Module) -> nn.Module | None:
    """The pooler that belongs to the head; None where there is none, or where the trunk's own answers.
    Raises HeadError: the class calls its pooler in a way that a stand-in does not know."""
    pooler = getattr(child, "pooler", None)
    if pooler is None or pooler is getattr(trunk, "pooler", None):
        return None
    if isinstance(pooler, nn.Linear):
        raise HeadError(
            f"a {type(trunk).__name__} with a pooler of its own cannot be mounted",
            remedy="Train the adapter with head.kind=linear.",
        )
    found: nn.Module = pooler
    return found


@dataclass(frozen=True, eq=False, slots=True)
class AnsweringHead:
    """One adapter's head: a template, shared with every head of the same settings, and the adapter's own fp32 tensors
    by path in the head's module, on the backbone's device and never written to."""

    template: Template
    tensors: Mapping[str, Tensor]

    @property
    def size_bytes(self) -> int:
        """Bytes of the adapter's own tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def logits(self, states: States, inputs: Mapping[str, Tensor]) -> Tensor:
        """Logits of rows whose states are computed; shapes as `Headed.logits` gives them.
        `states`: of these rows; multiple choice: of all choices of all rows, (B·K, T, D). `inputs`: of these rows as
        the task collates them; multiple choice: (B, K, T)."""
        return logits_of(self.template.grown(Growth([self.tensors], states))(**self.template.told(inputs)))


def logits_on_shared_rows(heads: Sequence[AnsweringHead], states: States, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Logits of several heads, of one template that pools alike, above the same rows, which are pooled once."""
    given = dict(inputs)
    modules = [head.template.grown(Growth([head.tensors], states)) for head in heads]
    vectors_BD = modules[0].vectors(given)
    return [logits_of(module.answer(vectors_BD, given)) for module in modules]


def logits_on_own_rows(
    heads: Sequence[AnsweringHead], rows: Sequence[int], states: States, inputs: Mapping[str, Tensor]
) -> Sequence[Tensor]:
    """Logits of a head, or of several of one template that joins, each above so many rows, one behind the other."""
    template = heads[0].template
    module = template.grown(Growth([head.tensors for head in heads], states, rows))
    return torch.split(logits_of(module(**template.told(inputs))), list(rows))


class Templates:
    """The templates of a host, built when first asked for on a view of the backbone's trunk on which nothing is
    attached, whoever trains on the backbone meanwhile."""

    def __init__(self, backbone: Backbone) -> None:
        """`backbone`: bare at this moment."""
        self._backbone = backbone
        self._trunk = view_of(backbone.trunk)
        self._lock = Lock()
        self._built: dict[tuple[str, int, HeadSettings], Template] = {}

    def get(self, kind: str, classes: int, settings: HeadSettings) -> Template:
        """The template of a head. Raises HeadError: the backbone's family has no such head."""
        key = (kind, classes, settings.model_copy(update={"dropout": 0.0}))
        with self._lock:
            found = self._built.get(key)
            if found is None:
                headed = build_head(self._backbone, kind, classes, settings, seed=0, trunk=self._trunk)
                found = self._built[key] = Template(headed, self._trunk)
            return found

    def head(self, kind: str, classes: int, settings: HeadSettings, state: Mapping[str, Tensor]) -> AnsweringHead:
        """A head with the tensors of an artifact, by their names there. Raises HeadError: the backbone's family has no
        such head; ArtifactError: missing or unknown names, other shapes, values that are not finite."""
        template = self.get(kind, classes, settings)
        named = {name.removeprefix(PREFIX): tensor for name, tensor in state.items()}
        problems = misfits(named, template.shapes)
        problems += [f"{name}: this head has no such tensor" for name in named if name not in template.shapes]
        if problems:
            raise ArtifactError("these tensors do not fit the head", sorted(problems))
        device = self._backbone.device
        # Copies: what was read from one file shares its memory, and a host lets go of the file.
        return AnsweringHead(
            template, {name: named[name].detach().to(device, torch.float32, copy=True) for name in template.shapes}
        )
