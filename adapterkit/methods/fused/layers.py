"""Put the fused functions under PEFT's LoRA layers, which keep their names, their saving and their states.

A fused forward stands in a layer's instance, in front of its class's own, and falls back to that one where it does
not apply. It applies to

- PEFT's plain LoRA layer over torch's Linear or GPT-2's Conv1D: no DoRA or other variant, no bias beside B, and no
  quantised or otherwise special linear;
- with the weight and bias frozen, without hooks, and in the format of the products (the one of autocast where that is
  on). A float32 backbone under bf16 autocast is cast for each product by PEFT's forward, as before;
- when gradients are recorded, adapterkit's adapter is the active one, nothing is merged or disabled, the call names no
  adapters, and nothing is being compiled. Without gradients PEFT's own forward answers.

Initialisations play no part: PiSSA and OLoRA change the weight before the first step, and it is frozen from then on.
"""

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor, nn
from torch.utils.weak import TensorWeakRef
from transformers import Conv1D

from adapterkit.backbone import Site
from adapterkit.backbone.module_tables import has_hooks
from adapterkit.backbone.quantisation import is_plain
from adapterkit.methods.adapter_name import ADAPTER
from adapterkit.methods.fused.frozen import product_dtype
from adapterkit.methods.fused.lora import Gelu, LoraLinear, lora_linears


class Widened:
    """What the first linear of a feed-forward gave last, until the second one has read what a GELU made of it.

    Attributes:
        wanted: whether the second one is fused, and will ask.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._output: TensorWeakRef | None = (
            None  # weak: gradient checkpointing stops before the second linear is called
        )

    def keep(self, output: Tensor) -> None:
        """Take note of an output of the first linear."""
        if self.wanted:
            self._output = TensorWeakRef(output)

    def maker_of(self, x: Tensor) -> Gelu | None:
        """The GELU that made x of that output, as the graph of gradients says; None for any other x."""
        output = None if self._output is None else self._output()
        self._output = None
        node = x.grad_fn
        if output is None or node is None or node.name() != "GeluBackward0":
            return None
        source, number = node.next_functions[0]
        if source is not output.grad_fn or number != output.output_nr:
            return None
        return Gelu(output, node._saved_approximate)  # type: ignore[attr-defined]

    def __getstate__(self) -> dict[str, Any]:
        # What is in flight belongs to one model.
        return {"wanted": self.wanted, "_output": None}


class Readers:
    """LoRA layers that read the same x: the first one that is called computes all, the others take what is theirs.

    Whether x is the same is asked by identity, call by call, so a layer that is given another x is still right, and
    only slower. Every member has to be called once for each x, as the linears of an attention are.
    """

    def __init__(self, widened: Widened) -> None:
        """`widened`: of the members' feed-forward."""
        self.members: list[FusedLora] = []
        self.widened = widened
        self._x: Tensor | None = None
        self._waiting: dict[int, Tensor] = {}

    def output(self, member: "FusedLora", x: Tensor) -> Tensor:
        """The output of one member."""
        if self._x is not x or id(member) not in self._waiting:
            self._compute(x)
        found = self._waiting.pop(id(member))
        if not self._waiting:
            self._x = None
        return found

    def _compute(self, x: Tensor) -> None:
        able = [other for other in self.members if other.applies(x)]
        maker = self.widened.maker_of(x) if able[0].role == "feedforward.output" else None
        outputs = lora_linears(x, [other.linear() for other in able], product_dtype(x, able[0].base.weight), maker)
        for other, output in zip(able, outputs, strict=True):
            if other.role == "feedforward.input":
                self.widened.keep(output)
        self._x = x
        self._waiting = {id(other): output for other, output in zip(able, outputs, strict=True)}

    def __getstate__(self) -> dict[str, Any]:
        # What waits belongs to a call in flight: copies and pickles begin empty.
        return {"members": self.members, "widened": self.widened, "_x": None, "_waiting": {}}


class FusedLora:
    """The forward of one LoRA layer. An object and not a closure, so that a copied model calls its own layers."""

    def __init__(self, layer: Any, readers: Readers, role: str) -> None:
        """Made by `put_under`. `role`: the site's name."""
        self.layer = layer
        self.role = role
        self.base = layer.get_base_layer()
        self.readers = readers
        readers.members.append(self)

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """PEFT's forward, or the fused one where it applies."""
        if args or kwargs or not self.applies(x):
            plain: Tensor = type(self.layer).forward(self.layer, x, *args, **kwargs)
            return plain
        return self.readers.output(self, x)

    def applies(self, x: Tensor) -> bool:
        """Whether this layer, as it is now, can be computed fused."""
        layer, base = self.layer, self.base
        return (
            torch.is_grad_enabled()
            and not layer.disable_adapters
            and not layer.merged
            and layer.active_adapters == [ADAPTER]
            and base.weight.dtype == product_dtype(x, base.weight)
            and not base.weight.requires_grad
            and not (base.bias is not None and base.bias.requires_grad)
            and not any(map(has_hooks, (base, layer.lora_A[ADAPTER], layer.lora_B[ADAPTER])))
            and not torch.compiler.is_compiling()
        )

    def linear(self) -> LoraLinear:
        """What is computed now: dropout acts in training mode only."""
        layer, dropout = self.layer, self.layer.lora_dropout[ADAPTER]
        return LoraLinear(
            self.base,
            layer.lora_A[ADAPTER].weight,
            layer.lora_B[ADAPTER].weight,
            layer.scaling[ADAPTER],
            dropout.p if dropout.training and isinstance(dropout, nn.Dropout) else 0.0,
        )


def put_under(layers: Mapping[str, Any], sites: Mapping[str, Site]) -> None:
    """Give every layer that it fits a fused forward. `layers`: PEFT's layers by path. `sites`: of the layers, by path;
    those that are given the same x share a product."""
    readers: dict[tuple[Hashable, int], Readers] = {}
    widened: dict[Hashable, Widened] = {}
    for path, layer in layers.items():
        if _fits(layer):
            site = sites[path]
            block = widened.setdefault((site.side, site.layer), Widened())
            block.wanted |= site.name == "feedforward.output"
            shared = readers.setdefault((_source(site), layer.in_features), Readers(block))
            layer.forward = FusedLora(layer, shared, site.name)


def take_away(layers: Mapping[str, Any]) -> None:
    """Leave every layer with its class's own forward."""
    for layer in layers.values():
        vars(layer).pop("forward", None)


def _source(site: Site) -> Hashable:
    """What a site reads. Queries, keys and values of one attention read the same, so do a gate and what it gates.

    The queries of a cross attention read the decoder, its keys and values the encoder.
    """
    block, _, role = site.name.rpartition(".")
    together = ("gate", "input") if block == "feedforward" else ("query", "key", "value")
    if block == "cross_attention":
        together = ("key", "value")
    return site.side, site.layer, block, together if role in together else role


def _fits(layer: Any) -> bool:
    return (
        type(layer) is PeftLinear
        and type(layer.get_base_layer()) in (nn.Linear, Conv1D)
        and layer.base_layer is layer.get_base_layer()
        and is_plain(layer.base_layer)
        and not layer.lora_variant
        and not any(layer.lora_bias.values())
    )
