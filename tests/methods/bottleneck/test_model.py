"""PEFT's contract for tuners, over the placements."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model, set_peft_model_state_dict
from peft.functional import delete_adapter, set_adapter
from safetensors.torch import save_file

from adapterkit.backbone import find_sites
from adapterkit.errors import MergeError, SiteError
from adapterkit.methods.bottleneck import BottleneckConfig, BottleneckLayer
from adapterkit.methods.table import attach
from adapterkit.recipe import BottleneckMethod
from tests import tiny
from tests.methods.bottleneck.worlds import Block, Blocks, config_of, fill, peft_model
from tests.methods.cases import attached, disturb, hidden, inputs, snapshot

PLACEMENTS = ("houlsby", "pfeiffer", "parallel")
placements = pytest.mark.parametrize("placement", PLACEMENTS)


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
    model.add_adapter("third", config_of("houlsby"))
    with pytest.warns(UserWarning, match="active which is now deleted"):
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
        target_modules=["blocks.0", "blocks.0.outer", "blocks.7.outer"],
        residual_modules=dict.fromkeys(["blocks.0", "blocks.0.outer", "blocks.7.outer"], "blocks.9.norm"),
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
    model, _, x = peft_model(placement)
    model.eval()
    expected = model(x)
    model.save_pretrained(tmp_path)
    base = model.unload()
    again = PeftModel.from_pretrained(base, tmp_path, low_cpu_mem_usage=empty)
    assert torch.equal(again(x), expected)
    found = {**again.peft_config["default"].to_dict(), "auto_mapping": None}
    assert found == {**config_of(placement).to_dict(), "inference_mode": True}
    assert not any(p.requires_grad for p in again.parameters())


# PEFT asks transformers for a name that transformers has deprecated.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
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


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@placements
@pytest.mark.parametrize("family", ["bert", "distilbert", "llama", "t5", "bart"])
def test_a_folder_loads_into_the_familys_own_class(
    fresh_backbone: Any, family: str, placement: str, tmp_path: Path
) -> None:
    model = fresh_backbone(family).model_class("text-classification").from_pretrained(fresh_backbone(family).folder)
    model = model.eval().requires_grad_(False)
    model.config.pad_token_id = model.config.pad_token_id or 0
    trunk = model.base_model
    backbone: Any = SimpleNamespace(
        trunk=trunk, sites=find_sites(trunk), device=torch.device("cpu"), contract=SimpleNamespace(hidden_size=32)
    )
    batch = {name: tensor for name, tensor in inputs(family).items() if not name.startswith("decoder")}
    batch["input_ids"][:, -1] = model.config.eos_token_id or 5
    batch["attention_mask"][:] = 1
    attachment = attach(model, backbone, BottleneckMethod(placement=placement, width=4), seed=0)
    disturb(attachment)
    expected = model(**batch).logits
    content = {**attachment.config(), "task_type": "SEQ_CLS"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(content))
    tensors = {f"base_model.model.{path}": tensor for path, tensor in attachment.state().items()}
    attachment.detach()
    # PEFT insists on the heads that it knows by name.
    known = ("classifier", "pre_classifier", "score")
    tensors |= {f"base_model.model.{name}": p for name, p in model.named_parameters() if name.startswith(known)}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    bare = model(**batch).logits
    again: Any = PeftModel.from_pretrained(model, str(tmp_path))
    assert torch.equal(again(**batch).logits, expected)
    assert not torch.allclose(bare, expected)


def test_an_adapter_that_is_added_beside_another_starts_inactive_everywhere() -> None:
    model: Any = get_peft_model(Blocks(), config_of("houlsby"))
    elsewhere = BottleneckConfig(target_modules=["blocks.1.inner"], placement="houlsby", width=3)
    model.add_adapter("other", elsewhere)
    fill(model, "other", 5.0)
    x = torch.randn(5, 4)
    assert torch.equal(model(x), model.unload()(x))
    assert not any(p.requires_grad for name, p in model.named_parameters() if ".other." in name)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_rows_keep_their_adapters_under_beam_search(fresh_backbone: Any) -> None:
    backbone = fresh_backbone("llama")
    model = backbone.model_class("causal-lm").from_pretrained(backbone.folder).eval()
    targets = ["model.layers.2.mlp.down_proj"]
    config = BottleneckConfig(target_modules=targets, placement="houlsby", width=3, task_type="CAUSAL_LM")
    peft: Any = get_peft_model(model, config).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in peft.base_model.model.model.layers[2].mlp.down_proj.bottleneck_up.parameters():
            parameter.normal_(std=3.0)
    settings = {"num_beams": 2, "max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    batch = inputs("llama")
    batch["attention_mask"][:] = 1
    adapted = peft.generate(**batch, **settings)
    with peft.disable_adapter():
        bare = peft.generate(**batch, **settings)
    mixed = peft.generate(**batch, **settings, adapter_names=["default", "__base__"])
    assert mixed[0].tolist() == adapted[0].tolist()
    assert mixed[1].tolist() == bare[1].tolist()
    assert adapted[1].tolist() != bare[1].tolist()
