"""A trunk split at a layer answers as the whole trunk does, every bit."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.models.deberta_v2.modeling_deberta_v2 import ConvLayer

from adapterkit.backbone.cut import above, below, can_be_cut, entering, layers_of
from adapterkit.errors import SiteError
from adapterkit.heads.family import build_family
from adapterkit.methods.table import attach
from adapterkit.recipe.methods import LoraMethod
from tests import tiny

SPLIT_FAMILIES = (*tiny.FAMILIES, "t5-gated", "mistral")
UNSPLIT = ("mpnet", "gemma-4")
"""MPNet's layers are not transformers' own; each of Gemma 4's is given embeddings too."""
LAYERS = {"modernbert": 4, "t5": 2, "t5-gated": 2, "bart": 2}
"""Layers of a tiny family's encoder, or of its decoder where it has no encoder; 3 where none is given."""


def inputs(backbone: Any, padding: str = "right", rows: int = 3) -> dict[str, Tensor]:
    """Rows of 9, 6 and 4 tokens (and again), padded on one side."""
    ids_BT = torch.randint(5, 60, (rows, 9), generator=torch.Generator().manual_seed(0))
    mask_BT = torch.ones_like(ids_BT)
    for row in range(rows):
        dropped = (0, 3, 5)[row % 3]
        mask_BT[row, slice(9 - dropped, 9) if padding == "right" else slice(0, dropped)] = 0
    given = {"input_ids": ids_BT * mask_BT, "attention_mask": mask_BT}
    return given | ({"decoder_input_ids": ids_BT[:, :4]} if backbone.is_encoder_decoder else {})


def upper_answer(trunk: nn.Module, at: int, given: dict[str, Tensor]) -> Any:
    states = below(trunk, at)(**given)
    view = above(trunk, at)
    with entering(view, states):
        return view(**given)


def assert_same(found: Any, expected: Any) -> None:
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)
    if getattr(expected, "pooler_output", None) is not None:
        assert torch.equal(found.pooler_output, expected.pooler_output)


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("family", SPLIT_FAMILIES)
@torch.no_grad()
def test_both_halves_give_what_the_whole_trunk_gives_at_every_layer(
    tiny_backbones: Any, family: str, padding: str
) -> None:
    backbone = tiny_backbones[family]
    given = inputs(backbone, padding)
    whole = backbone.trunk(**given)
    for at in range(LAYERS.get(family, 3) + 1):
        assert_same(upper_answer(backbone.trunk, at, given), whole)


@pytest.mark.parametrize("family", [family for family in tiny.OTHERS if family not in UNSPLIT])
@torch.no_grad()
def test_layers_may_give_their_states_alone_or_with_more(tiny_backbones: Any, family: str) -> None:
    backbone = tiny_backbones[family]
    given = inputs(backbone)
    whole = backbone.trunk(**given)
    assert can_be_cut(backbone.trunk)
    for at in range(1, 4):
        found = upper_answer(backbone.trunk, at, given)
        # GPT-J's attention rounds otherwise where it reads another stride.
        assert torch.allclose(found.last_hidden_state, whole.last_hidden_state, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", [*tiny.FAMILIES, *tiny.VARIANTS])
def test_the_families_split(tiny_backbones: Any, family: str) -> None:
    assert can_be_cut(tiny_backbones[family].trunk)


def test_a_trunk_does_not_split_where_something_else_runs_between_its_layers(fresh_backbone: Any) -> None:
    trunk = fresh_backbone("deberta-v2").trunk
    trunk.config.conv_kernel_size = 3
    trunk.encoder.conv = ConvLayer(trunk.config)
    assert not can_be_cut(trunk)


@pytest.mark.parametrize("family", UNSPLIT)
def test_a_trunk_does_not_split_whose_layers_are_others_or_need_more_than_states(
    tiny_backbones: Any, family: str
) -> None:
    assert not can_be_cut(tiny_backbones[family].trunk)


def test_trying_leaves_modes_and_random_numbers_as_they_were(fresh_backbone: Any) -> None:
    trunk = fresh_backbone("electra").trunk
    trunk.encoder.layer[0].train()
    modes, state = [module.training for module in trunk.modules()], torch.get_rng_state()
    assert can_be_cut(trunk)
    assert [module.training for module in trunk.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@torch.no_grad()
def test_both_halves_give_what_the_whole_trunk_gives_in_bf16(fresh_backbone: Any, family: str) -> None:
    backbone = fresh_backbone(family, dtype="bfloat16")
    given = inputs(backbone)
    for at in range(LAYERS.get(family, 3) + 1):
        assert below(backbone.trunk, at)(**given).dtype == torch.bfloat16
        assert_same(upper_answer(backbone.trunk, at, given), backbone.trunk(**given))


@pytest.mark.parametrize("family", tiny.FAMILIES)
@torch.no_grad()
def test_the_lower_half_gives_the_states_that_transformers_hands_out(fresh_backbone: Any, family: str) -> None:
    backbone = fresh_backbone(family)
    given = inputs(backbone)
    whole = backbone.trunk(**given, output_hidden_states=True)
    states = whole.encoder_hidden_states if backbone.is_encoder_decoder else whole.hidden_states
    layers = LAYERS.get(family, 3)
    assert len(states) == layers + 1
    # The last one that transformers hands out has gone through the final norm, where there is one.
    for at in range(layers):
        assert torch.equal(below(backbone.trunk, at)(**given), states[at])


@pytest.mark.parametrize("first", ["view", "trunk"])
@torch.no_grad()
def test_hidden_states_asked_of_a_view_do_not_spoil_those_of_the_trunk(fresh_backbone: Any, first: str) -> None:
    trunk, given = fresh_backbone("bert").trunk, inputs(fresh_backbone("bert"))
    view, states = above(trunk, 2), below(trunk, 2)(**given)
    if first == "trunk":
        trunk(**given, output_hidden_states=True)
    with entering(view, states):
        view(**given, output_hidden_states=True)
    assert len(trunk(**given, output_hidden_states=True).hidden_states) == 4


@torch.no_grad()
def test_layers_of_several_kinds_get_the_masks_of_their_own_kind(fresh_backbone: Any) -> None:
    trunk = fresh_backbone("qwen2").trunk
    trunk.config.layer_types = ["full_attention", "sliding_attention", "full_attention"]
    trunk.config.sliding_window, trunk.has_sliding_layers = 2, True
    given = inputs(fresh_backbone("qwen2"))
    for at in range(4):
        assert_same(upper_answer(trunk, at, given), trunk(**given))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_layers_and_tensors_are_shared_with_the_trunk(tiny_backbones: Any, family: str) -> None:
    trunk = tiny_backbones[family].trunk
    _, layers = layers_of(trunk)
    upper, lower = above(trunk, 1), below(trunk, 1)
    assert all(one is other for one, other in zip(layers_of(upper)[1][1:], layers[1:], strict=True))
    assert layers_of(lower)[1][0] is layers[0]
    assert len(layers_of(lower)[1]) == 1
    held = {id(parameter) for parameter in trunk.parameters()}
    assert {id(parameter) for parameter in upper.parameters()} == held
    assert {id(parameter) for parameter in lower.parameters()} < held
    assert list(upper.state_dict()) == list(trunk.state_dict())
    assert isinstance(upper, type(trunk))
    assert layers_of(trunk)[1] is layers


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("attached", ["before", "after"])
def test_a_method_in_the_upper_layers_is_seen_and_trained(fresh_backbone: Any, family: str, attached: str) -> None:
    backbone = fresh_backbone(family)
    given = inputs(backbone)
    trunk = backbone.trunk
    upper, lower = above(trunk, 1), below(trunk, 1)
    plain = trunk(**given).last_hidden_state
    layers = tuple(range(1, max(backbone.sites.layer_count.values())))
    attachment = attach(trunk, backbone, LoraMethod(sites="all-linear", layers=layers, rank=2), seed=0)
    if attached == "before":
        upper, lower = above(trunk, 1), below(trunk, 1)
    for parameter in attachment.parameters().values():
        nn.init.normal_(parameter, std=0.2)
    whole = trunk(**given).last_hidden_state
    with entering(upper, lower(**given)):
        answer = upper(**given).last_hidden_state
    assert not torch.equal(plain, whole)
    assert torch.equal(answer, whole)
    gradients = []
    for states in (whole, answer):
        states.square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in attachment.parameters().values()])
        for parameter in attachment.parameters().values():
            parameter.grad = None
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@torch.no_grad()
def test_a_copied_trunk_is_split_as_the_trunk_is(tiny_backbones: Any) -> None:
    for family in tiny.FAMILIES:
        backbone = tiny_backbones[family]
        trunk, given = backbone.trunk, inputs(backbone)
        kept: dict[int, Any] = {id(tensor): tensor for tensor in [*trunk.parameters(), *trunk.buffers()]}
        view = copy.deepcopy(trunk, memo=kept)
        assert_same(upper_answer(view, 1, given), trunk(**given))
        upper = copy.deepcopy(above(trunk, 1))
        with entering(upper, below(trunk, 1)(**given)):
            assert_same(upper(**given), trunk(**given))


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("bert", "text-classification"),
        ("roberta", "token-classification"),
        ("distilbert", "question-answering"),
        ("modernbert", "text-classification"),
        ("gpt2", "causal-lm"),
        ("llama", "text-classification"),
        ("qwen2", "causal-lm"),
        ("t5", "seq2seq-lm"),
        ("t5", "token-classification"),
        ("bart", "question-answering"),
    ],
)
@torch.no_grad()
def test_a_head_answers_on_the_upper_half_as_on_the_trunk(tiny_backbones: Any, family: str, kind: str) -> None:
    backbone = tiny_backbones[family]
    given = inputs(backbone)
    if kind != "seq2seq-lm":
        given.pop("decoder_input_ids", None)
    whole = build_family(backbone, backbone.trunk, kind, 2 if kind.endswith(("ion", "ing")) else 0)
    layers = LAYERS.get(family, 3)
    for at in (1, layers):
        states = below(backbone.trunk, at)(**given)
        model = above(whole.module, at)
        with entering(model, states):
            assert torch.equal(type(whole)(model, "family", {}).logits(given), whole.logits(given))
        upper = above(backbone.trunk, at)
        built = build_family(backbone, upper, kind, 2 if kind.endswith(("ion", "ing")) else 0)
        for name, parameter in built.trained.items():
            parameter.copy_(whole.trained[name])
        with entering(upper, states):
            assert torch.equal(built.logits(given), whole.logits(given))


@torch.no_grad()
def test_the_upper_half_answers_more_rows_than_the_lower_half_gave(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    given = inputs(backbone)
    twice = {name: tensor.repeat_interleave(2, 0) for name, tensor in given.items()}
    upper = above(backbone.trunk, 2)
    with entering(upper, below(backbone.trunk, 2)(**given).repeat_interleave(2, 0)):
        answer = upper(**twice).last_hidden_state
    assert torch.equal(answer, backbone.trunk(**twice).last_hidden_state)


@torch.no_grad()
def test_views_of_one_trunk_answer_at_the_same_time(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["llama"]
    batches = [inputs(backbone, rows=rows) for rows in (1, 2, 3, 4)] * 4
    expected = [backbone.trunk(**batch).last_hidden_state for batch in batches]

    def answer(batch: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            found: Tensor = upper_answer(backbone.trunk, 2, batch).last_hidden_state
        return found

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(answer, batches))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("family", tiny.FAMILIES)
@torch.no_grad()
def test_layers_that_do_not_run_and_embeddings_cost_nothing(fresh_backbone: Any, family: str) -> None:
    backbone = fresh_backbone(family)
    given = inputs(backbone)
    states, upper = below(backbone.trunk, 1)(**given), above(backbone.trunk, 1)
    layers = layers_of(backbone.trunk)[1]
    watched = {"layer 0": layers[0], "layer 1": layers[1]}
    if not backbone.is_encoder_decoder:  # whose decoder embeds its own tokens with the same table
        watched["embedding"] = backbone.trunk.get_input_embeddings()
    ran: list[str] = []
    for name, module in watched.items():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    with entering(upper, states):
        upper(**given)
    assert ran == ["layer 1"]


def test_a_layer_that_does_not_exist_is_refused(tiny_backbones: Any) -> None:
    trunk = tiny_backbones["bert"].trunk
    for at in (-1, 4):
        for half in (above, below):
            with pytest.raises(SiteError, match=f"layer {at}: must be between 0 and 3"):
                half(trunk, at)
    with pytest.raises(SiteError, match="no list of layers"):
        above(nn.Linear(2, 2), 0)


def test_states_are_taken_by_a_view_that_asks_for_them_only(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    view = above(backbone.trunk, 1)
    with pytest.raises(SiteError, match="without states"):
        view(**inputs(backbone))
    with pytest.raises(SiteError, match="takes no states"), entering(backbone.trunk, torch.zeros(1, 1, 32)):
        pass
    with pytest.raises(ZeroDivisionError), entering(view, torch.zeros(3, 9, 32)):
        raise ZeroDivisionError
    with pytest.raises(SiteError, match="without states"):
        view(**inputs(backbone))
