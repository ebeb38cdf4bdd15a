"""What a bottleneck layer computes, and PEFT's contract for layers."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.functional import delete_adapter, set_adapter
from tests import tiny
from tests.methods import equations
from tests.methods.cases import attached, disturb, hidden, inputs, snapshot
from torch import nn
from transformers.pytorch_utils import Conv1D

from adapterkit.errors import SiteError
from adapterkit.methods import BottleneckConfig, BottleneckLayer, MergeError, attach
from adapterkit.recipe import BottleneckMethod

PLACEMENTS = ("houlsby", "pfeiffer", "parallel")
REFERENCES = {"bert": equations.bert, "gpt2": equations.gpt2, "llama": equations.llama}
placements = pytest.mark.parametrize("placement", PLACEMENTS)


@placements
@pytest.mark.parametrize("family", REFERENCES)
@pytest.mark.parametrize("learned", [False, True])
def test_hidden_states_follow_the_equations(fresh_backbone: Any, family: str, placement: str, learned: bool) -> None:
    backbone = fresh_backbone(family)
    trunk = backbone.trunk.double()
    weights = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    ids = inputs(family)["input_ids"]
    settings = BottleneckMethod(placement=placement, width=8, scale=2.0, scale_learned=learned)
    with attached(backbone, settings, dtype=torch.float64) as attachment, torch.no_grad():
        bare = trunk(input_ids=ids).last_hidden_state
        disturb(attachment, 0.1)
        found = trunk(input_ids=ids).last_hidden_state
        adapter = equations.Adapter(placement, attachment.state(), scale=2.0)
    expected = REFERENCES[family](weights, ids, 4, 3, adapter)
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)
    assert (found - bare).abs().max() > 0.1


@pytest.mark.parametrize("family", REFERENCES)
def test_the_reference_without_an_adapter_is_the_bare_backbone(fresh_backbone: Any, family: str) -> None:
    backbone = fresh_backbone(family)
    trunk = backbone.trunk.double()
    silent = {
        f"{sublayer.output}.bottleneck_{name}": torch.zeros(1, 32) if name.endswith("weight") else torch.zeros(1)
        for sublayer in backbone.sites.sublayers
        for name in ("down.weight", "down.bias", "up.weight", "up.bias")
    }
    silent = {name: tensor.T if "up.weight" in name else tensor for name, tensor in silent.items()}
    ids = inputs(family)["input_ids"]
    with torch.no_grad():
        expected = trunk(input_ids=ids).last_hidden_state
        adapter = equations.Adapter("houlsby", {name: tensor.double() for name, tensor in silent.items()})
        found = REFERENCES[family](trunk.state_dict(), ids, 4, 3, adapter)
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)


@placements
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_hidden_states_are_recorded_where_transformers_records_them(
    tiny_backbones: Any, family: str, placement: str
) -> None:
    backbone = tiny_backbones[family]
    with attached(backbone, BottleneckMethod(placement=placement, width=4)) as attachment, torch.no_grad():
        disturb(attachment)
        output = backbone.trunk(**inputs(family), output_hidden_states=True)
    states = output.get("hidden_states") or output.decoder_hidden_states
    # The last recorded state is the output itself: nothing of the adapter happens outside the layers.
    assert torch.equal(states[-1], output.last_hidden_state)


def linear_world(placement: str, norm: nn.Module | None = None, **more: Any) -> tuple[nn.Linear, BottleneckLayer, Any]:
    """A sublayer by hand: an entry that sees r, and a linear that gives h."""
    torch.manual_seed(0)
    entry, base = nn.Identity(), nn.Linear(4, 4)
    config = BottleneckConfig(
        target_modules=["base"], residual_modules={"base": "entry"}, placement=placement, width=2, **more
    )
    layer = BottleneckLayer(base, "a", config, residual=("entry", entry), norm=norm)
    with torch.no_grad():
        for parameter in layer.bottleneck_up.parameters():
            parameter.normal_()
    return base, layer, entry


@placements
def test_f_by_hand(placement: str) -> None:
    base, layer, entry = linear_world(placement, activation="relu", scale=3.0)
    x, r = torch.randn(2, 4), torch.randn(2, 4)
    down, up = layer.bottleneck_down["a"], layer.bottleneck_up["a"]
    entry(r)
    found = layer(x)
    h = base(x)
    z = {"houlsby": h, "pfeiffer": h + r, "parallel": r}[placement]
    assert torch.allclose(found, h + 3.0 * (up(torch.relu(down(z)))))


def test_the_norm_stays_the_models_own() -> None:
    norm = nn.LayerNorm(4)
    _, layer, _ = linear_world("pfeiffer", norm)
    assert not any(parameter is norm.weight for parameter in layer.parameters())
    assert not any("norm" in name for name in layer.state_dict())
    assert norm not in list(layer.modules())


def test_dropout_acts_on_f_after_the_scaling() -> None:
    base, layer, entry = linear_world("parallel", dropout=0.5, scale=2.0)
    x, r = torch.randn(64, 4), torch.randn(64, 4)
    whole, parts = layer.train(), []
    for mode in (True, False):
        whole.train(mode)
        entry(r)
        parts.append(layer(x) - base(x))
    dropped, kept = parts
    zero = dropped.abs() < 1e-6
    assert 0.3 < zero.float().mean() < 0.7
    assert torch.allclose(dropped[~zero], 2 * kept[~zero], atol=1e-5)


def test_a_sublayer_without_its_residual_says_so() -> None:
    _, layer, entry = linear_world("pfeiffer")
    with pytest.raises(SiteError, match="residual of entry is not there"):
        layer(torch.randn(1, 4))
    entry(torch.randn(1, 4))
    layer(torch.randn(1, 4))
    with pytest.raises(SiteError, match="not there"):
        layer(torch.randn(1, 4))  # it is used once


def test_a_skipped_sublayer_leaves_nothing_for_the_next_call() -> None:
    _, layer, entry = linear_world("parallel")
    x, r = torch.randn(1, 4), torch.randn(1, 4)
    entry(r)
    expected = layer(x)
    entry(torch.randn(1, 4))  # and the linear is never reached
    entry(r)
    assert torch.equal(layer(x), expected)


def test_threads_do_not_see_each_others_residual() -> None:
    _, layer, entry = linear_world("parallel")
    x, own, other = torch.randn(1, 4), torch.randn(1, 4), torch.randn(1, 4)
    entry(own)
    expected = layer(x)
    entry(own)
    thread = threading.Thread(target=entry, args=(other,))
    thread.start()
    thread.join()
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_listens_to_its_own_modules(clone: Any) -> None:
    _, layer, entry = linear_world("parallel")
    model = nn.ModuleDict({"entry": entry, "layer": layer})
    copied = clone(model)
    x, r = torch.randn(1, 4), torch.randn(1, 4)
    copied["entry"](r)
    found = copied["layer"](x)
    entry(r)
    assert torch.equal(found, layer(x))
    copied["layer"].release()
    assert not copied["entry"]._forward_pre_hooks
    assert entry._forward_pre_hooks


def test_a_residual_passed_by_name_is_seen() -> None:
    _, layer, entry = linear_world("parallel")
    x, r = torch.randn(1, 4), torch.randn(1, 4)
    entry(r)
    expected = layer(x)
    entry(input=r)
    assert torch.equal(layer(x), expected)


def test_gpt2s_conv1d_can_be_wrapped_and_other_modules_cannot() -> None:
    config = BottleneckConfig(target_modules=["base"], placement="houlsby", width=2)
    assert BottleneckLayer(Conv1D(6, 4), "a", config).bottleneck_down["a"].in_features == 6
    with pytest.raises(SiteError, match="wraps a linear"):
        BottleneckLayer(nn.LayerNorm(4), "a", config)


def test_a_placement_without_its_residual_is_refused() -> None:
    config = BottleneckConfig(
        target_modules=["base"], residual_modules={"base": "entry"}, placement="parallel", width=2
    )
    with pytest.raises(SiteError, match="needs the residual"):
        BottleneckLayer(nn.Linear(4, 4), "a", config)


# PEFT's contract, over the placements.


class Block(nn.Module):
    """A pre-norm feed-forward block."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(4), nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.outer(torch.relu(self.inner(self.norm(x))))


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def config_of(placement: str, **more: Any) -> BottleneckConfig:
    targets = ["blocks.0.outer", "blocks.1.outer"]
    return BottleneckConfig(
        target_modules=targets,
        residual_modules={target: target.replace("outer", "norm") for target in targets},
        placement=placement,
        width=3,
        **more,
    )


def peft_model(placement: str) -> tuple[Any, Any, torch.Tensor]:
    torch.manual_seed(0)
    blocks, x = Blocks(), torch.randn(5, 4)
    model = get_peft_model(blocks, config_of(placement))
    fill(model, "default", 1.0)
    return model, blocks, x


def fill(model: Any, name: str, value: float) -> None:
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if f".{name}." in path and "bottleneck_up" in path:
                parameter.fill_(value)


@placements
def test_disabling_gives_the_base_model(placement: str) -> None:
    model, _, x = peft_model(placement)
    adapted = model(x)
    with model.disable_adapter():
        bare = model(x)
    assert torch.equal(bare, model.unload()(x))
    assert not torch.allclose(adapted, bare)


@placements
def test_adapters_are_switched_and_deleted(placement: str) -> None:
    model, blocks, x = peft_model(placement)
    first = model(x)
    model.add_adapter("other", config_of(placement))
    fill(model, "other", -2.0)
    assert torch.equal(model(x), first)
    model.set_adapter("other")
    second = model(x)
    assert not torch.allclose(first, second)
    assert {name.split(".")[-2] for name, p in model.named_parameters() if p.requires_grad} == {"other"}
    model.set_adapter("default")
    assert torch.equal(model(x), first)
    model.delete_adapter("other")
    assert torch.equal(model(x), first)
    assert not any("other" in name for name, _ in model.named_parameters())
    assert len(blocks.blocks[0].norm._forward_pre_hooks) == (placement != "houlsby")
    with pytest.warns(UserWarning, match="active which is now deleted|Adapter default"):
        model.add_adapter("third", config_of("houlsby"))
        model.delete_adapter("default")
    assert not blocks.blocks[0].norm._forward_pre_hooks


@placements
def test_two_active_adapters_add_up_on_the_same_h(placement: str) -> None:
    torch.manual_seed(0)
    block = Block()
    config = BottleneckConfig(
        target_modules=["outer"], residual_modules={"outer": "norm"}, placement=placement, width=3
    )
    model: Any = get_peft_model(block, config)
    model.add_adapter("other", copy.copy(config))
    x = torch.randn(5, 4)
    bare = model(x)
    fill(model, "default", 1.0)
    fill(model, "other", -2.0)
    one = model(x) - bare
    model.set_adapter("other")
    two = model(x) - bare
    model.base_model.set_adapter(["default", "other"])
    assert torch.allclose(model(x) - bare, one + two, atol=1e-5)


@placements
def test_every_row_can_have_its_own_adapter(placement: str) -> None:
    model, _, x = peft_model(placement)
    model.add_adapter("other", config_of(placement))
    fill(model, "other", -2.0)
    model.eval()
    answers = {"default": model(x)}
    model.set_adapter("other")
    answers["other"] = model(x)
    with model.disable_adapter():
        answers["__base__"] = model(x)
    names = ["default", "__base__", "other", "other", "default"]
    mixed = model(x, adapter_names=names)
    for row, name in enumerate(names):
        assert torch.allclose(mixed[row], answers[name][row], atol=1e-6)
    with pytest.raises(ValueError, match="non-existing adapter"):
        model(x, adapter_names=["nobody"] * 5)
    with pytest.raises(ValueError, match="2 adapter names for 5 rows"):
        model(x, adapter_names=["other"] * 2)
    assert torch.equal(model(x), answers["other"])  # the failed calls left no routing behind
    model.train()
    with pytest.raises(ValueError, match="training mode"):
        model(x, adapter_names=names)


@placements
def test_merging_is_refused_with_the_reason_and_changes_nothing(placement: str) -> None:
    model, _, x = peft_model(placement)
    before = model(x)
    for act in (model.merge_and_unload, model.merge_adapter, lambda: model.base_model.model.blocks[0].outer.merge()):
        with pytest.raises(MergeError, match="activation stands between"):
            act()
        assert torch.equal(model(x), before)
    layer = model.base_model.model.blocks[0].outer
    layer.unmerge()
    assert not layer.merged
    assert not layer.supports_lora_conversion()
    assert "bottleneck." in repr(layer)


@placements
def test_unloading_leaves_the_model_as_it_was(placement: str) -> None:
    blocks = Blocks()
    before = snapshot(blocks)
    unloaded = get_peft_model(blocks, config_of(placement)).unload()
    after = snapshot(unloaded)
    flags = [entry[:3] for entry in before.pop("parameters")]
    assert flags == [entry[:3] for entry in after.pop("parameters")]  # PEFT leaves the base frozen
    assert after == before


@placements
def test_names_that_the_model_lacks_are_all_reported_before_anything_changes(placement: str) -> None:
    blocks = Blocks()
    before = snapshot(blocks)
    config = BottleneckConfig(
        target_modules=["blocks.0.norm", "blocks.0.outer", "blocks.7.outer"],
        residual_modules=dict.fromkeys(["blocks.0.norm", "blocks.0.outer", "blocks.7.outer"], "blocks.9.norm"),
        norm_modules={"blocks.0.outer": "nowhere"},
        placement=placement,
    )
    with pytest.raises(SiteError) as error:
        get_peft_model(blocks, config)
    assert len(error.value.problems) == 4
    assert snapshot(blocks) == before


@placements
@pytest.mark.parametrize("empty", [False, True])
def test_pefts_own_files_restore_it_exactly(placement: str, empty: bool, tmp_path: Any) -> None:
    model, blocks, x = peft_model(placement)
    model.eval()
    expected = model(x)
    model.save_pretrained(tmp_path)
    base = model.unload()
    again = PeftModel.from_pretrained(base, tmp_path, low_cpu_mem_usage=empty)
    assert torch.equal(again(x), expected)
    assert again.peft_config["default"].to_dict() == {**config_of(placement).to_dict(), "inference_mode": True}
    assert not any(p.requires_grad for p in again.parameters())


@placements
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_what_attach_makes_loads_in_plain_peft(tiny_backbones: Any, family: str, placement: str) -> None:
    backbone = tiny_backbones[family]
    settings = BottleneckMethod(placement=placement, width=4, scale_learned=True)
    before = snapshot(backbone.trunk)
    with torch.no_grad():
        with attached(backbone, settings) as attachment:
            disturb(attachment)
            expected, state, content = hidden(backbone.trunk, family), attachment.state(), attachment.config()
        model: Any = get_peft_model(backbone.trunk, BottleneckConfig.from_peft_type(**content))
        from peft import set_peft_model_state_dict

        result = set_peft_model_state_dict(model, {f"base_model.model.{path}": t for path, t in state.items()})
        found = hidden(model.eval(), family)
        model.unload()
    backbone.trunk.requires_grad_(False)
    assert not result.unexpected_keys
    assert torch.equal(found, expected)
    after = snapshot(backbone.trunk)
    assert after["modules"] == before["modules"]
    assert after["hooks"] == before["hooks"]


def test_the_public_functions_of_peft_work_on_an_attachment(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    attachment = attach(backbone.trunk, backbone, BottleneckMethod(width=4), seed=0)
    set_adapter(backbone.trunk, "default", inference_mode=True)
    assert attachment.parameters() == {}
    set_adapter(backbone.trunk, "default")
    assert len(attachment.parameters()) == 12
    delete_adapter(backbone.trunk, "default", prefix="bottleneck_", layer_cls=BottleneckLayer)
    assert attachment.state() == {}
    attachment.detach()
