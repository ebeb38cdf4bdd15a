"""Trunks without padding: everything but attention runs on the tokens of a batch, one row behind the other.

The rows are sorted by length and cut into groups of nearly the same length, so that attention reads each group as one
rectangle, (rows, tokens), with no copy. Positions count from 0 in every row and no row sees another, so the answers are
those of the padded batch up to the order of additions.

A trunk is not changed. A view of the model is made for one batch, in which the module whose layers read the text is
replaced by a stand-in; what the batch looks like travels with the call, to `attention.attention_forward`.

Axes: B rows, T tokens of the longest row, N tokens of all rows, P places of the packed batch (N, and little padding),
D hidden width, H heads, G rows of a group, L tokens of its longest row.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adapterkit.backbone.attention import NAME, implementation
from adapterkit.backbone.dropout import note_packed
from adapterkit.backbone.module_tables import with_own_children
from adapterkit.backbone.packed_rows import PackedLayout

_COUNTED = (
    ("BertModel", "DistilBertModel", "ElectraModel", "EuroBertModel", "ModernBertModel"),
    ("GPT2Model", "GPTNeoXModel", "OPTDecoder", "PhiModel", "Phi3Model", "Starcoder2Model", "ModernBertDecoderModel"),
    ("LlamaModel", "MistralModel", "Qwen2Model", "Qwen3Model", "GemmaModel", "Gemma3TextModel"),
    ("GraniteModel", "OlmoModel", "Olmo2Model", "SmolLM3Model"),
)
POSITIONS: Mapping[str, str] = {
    **{name: "counted" for names in _COUNTED for name in names},
    **dict.fromkeys(("RobertaModel", "XLMRobertaModel", "CamembertModel"), "by token"),
    **dict.fromkeys(("BartEncoder", "MBartEncoder"), "embedded"),
    **dict.fromkeys(("T5Stack", "MT5Stack"), "relative"),
}
"""Classes whose layers can run unpadded -> how they come to know positions. Every other one is given padded batches.

counted: from 0, or as `position_ids` says. by token: RoBERTa's, counted over tokens that are not the pad token.
embedded: BART's, whose encoder counts places by itself. relative: T5's bias, by the distance of two tokens.
"""


@dataclass(frozen=True)
class ReadingLayers:
    """The module of a model whose layers read the text: its path ("" for the model itself), how it comes to know
    positions (see `POSITIONS`), and whether it keeps keys and values for generation unless it is told not to."""

    path: str
    positions: str
    keeps: bool


def find_reading_layers(model: nn.Module) -> ReadingLayers | None:
    """The module that can run unpadded: the encoder of an encoder-decoder. None where there is none."""
    for path, module in model.named_modules():
        positions = POSITIONS.get(type(module).__name__)
        config: Any = getattr(module, "config", None)
        if positions is None or implementation(config) != NAME:
            continue
        if getattr(config, "use_bidirectional_attention", False):
            continue  # Gemma 3 as an encoder: its windows look both ways
        # T5's encoder and decoder are of one class.
        if not (positions == "relative" and getattr(module, "is_decoder", False)):
            return ReadingLayers(path, positions, "use_cache" in inspect.signature(module.forward).parameters)
    return None


def unpadded_view(
    model: nn.Module, reading: ReadingLayers, layout: PackedLayout, *, states_padded: bool = True
) -> nn.Module:
    """A view of a model, for one forward over the batch that `layout` describes, with the batch's own padded inputs.

    It gives (B, T, D), zero where there is padding, so that any head can follow; or where `states_padded` is off (1, P,
    D) as packed, for heads that look at each token by itself; `layout.padded` undoes that.
    """
    whole = model.get_submodule(reading.path)
    stand_in = with_own_children(whole)
    stand_in.__dict__["forward"] = partial(_forward, whole, reading, layout, states_padded)
    return stand_in if not reading.path else _with(model, reading.path, stand_in)


def _forward(
    whole: nn.Module,
    reading: ReadingLayers,
    layout: PackedLayout,
    states_padded: bool,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    **inputs: Any,
) -> Any:
    """The forward of a stand-in: as the module's own, with padded inputs, of which it reads the tokens only."""
    note_packed(layout.source, layout.shape)
    layers = with_own_children(whole)
    pooler = getattr(layers, "pooler", None)
    if pooler is not None:
        layers.register_module("pooler", None)
    given = {name: layout.packed(value) if _per_token(value, input_ids) else value for name, value in inputs.items()}
    if reading.keeps:
        given["use_cache"] = False
    if reading.positions == "counted":
        given["position_ids"] = layout.positions
    elif reading.positions == "by token":
        given["position_ids"] = layout.packed(_positions_by_token(layers, input_ids))
    elif reading.positions == "embedded":
        layers.register_module("embed_positions", _Embedded(layers.get_submodule("embed_positions"), layout.positions))
    else:
        layers = _with_short_bias(layers, layout.longest)
    output: Any = type(whole).forward(
        layers,
        input_ids=layout.packed(input_ids),
        # A mask of four axes is handed on as it is. The attention does not read it.
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=input_ids.device),
        packed_rows=layout.rows,
        **given,
    )
    if states_padded:
        states_BTD = layout.padded(output.last_hidden_state)
        output.last_hidden_state = states_BTD
        if pooler is not None:
            output.pooler_output = pooler(states_BTD)
    return output


def _per_token(value: Any, input_ids: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == input_ids.shape


def _positions_by_token(layers: Any, input_ids: Tensor) -> Tensor:
    embeddings = layers.embeddings
    positions: Tensor = embeddings.create_position_ids_from_input_ids(input_ids, embeddings.padding_idx)
    return positions


class _Embedded(nn.Module):
    """BART's learned positions, for tokens whose places do not tell them."""

    def __init__(self, embed: nn.Module, positions_1P: Tensor) -> None:
        super().__init__()
        self.embed = embed
        self.positions_1P = positions_1P

    def forward(self, input_ids: Tensor) -> Tensor:
        embedded_1PD: Tensor = self.embed(input_ids, position_ids=self.positions_1P[0])
        return embedded_1PD


def _with_short_bias(layers: nn.Module, longest: int) -> nn.Module:
    """T5's bias between the tokens of the longest row, (1, H, L, L): every row begins in its first corner."""
    for path, module in layers.named_modules():
        if getattr(module, "has_relative_attention_bias", False):
            attention: Any = with_own_children(module)
            attention.__dict__["compute_bias"] = partial(_short_bias, module, longest)
            return _with(layers, path, attention)
    return layers


def _short_bias(attention: Any, longest: int, *lengths: int, **settings: Any) -> Tensor:
    bias: Tensor = attention.compute_bias(longest, longest, **settings)
    return bias


def _with(model: nn.Module, path: str, module: nn.Module) -> nn.Module:
    """A view of a model in which another module stands at `path`."""
    name, _, rest = path.partition(".")
    view = with_own_children(model)
    view.register_module(name, _with(model.get_submodule(name), rest, module) if rest else module)
    return view
