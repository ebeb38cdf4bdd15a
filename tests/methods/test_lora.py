"""LoRA: exactly the modules, ranks and biases that a recipe names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from adapterkit.backbone import Site
from adapterkit.errors import RecipeError, SiteError
from adapterkit.methods.lora.choosing import plain
from adapterkit.methods.lora.peft_layers import lora_config
from adapterkit.methods.table import attach
from adapterkit.recipe import LoraMethod
from tests import tiny
from tests.methods.cases import attached, bits, disturb, hidden, inputs, snapshot

# PEFT asks transformers for a name that transformers has deprecated.
peft_warning = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def ranks_of(attachment: Any) -> dict[str, int]:
    """Rank by module path."""
    return {
        path.removesuffix(".lora_A.weight"): len(tensor)
        for path, tensor in attachment.state().items()
        if path.endswith("lora_A.weight")
    }


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("sites", ["auto", "all-linear"])
@pytest.mark.parametrize("top", [None, 1])
def test_exactly_the_selected_sites_are_adapted(tiny_backbones: Any, family: str, sites: Any, top: int | None) -> None:
    backbone = tiny_backbones[family]
    with attached(backbone, LoraMethod(sites=sites, top=top, rank=2)) as attachment:
        found = ranks_of(attachment)
    assert found == {site.path: 2 for site in backbone.sites.select(sites, top=top)}


def test_chosen_layers_are_adapted_in_encoder_and_decoder(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["t5"]
    with attached(backbone, LoraMethod(sites=("attention.query",), layers=(1,))) as attachment:
        paths, lowest = ranks_of(attachment), attachment.lowest_layer
    assert set(paths) == {f"{stack}.block.1.layer.0.SelfAttention.q" for stack in ("encoder", "decoder")}
    assert lowest == {"encoder": 1, "decoder": 1}


def test_the_update_is_alpha_over_rank_times_b_a_x_by_hand(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    path = "encoder.layer.1.output.dense"
    x = torch.randn(3, 64)
    bare = backbone.trunk.get_submodule(path)(x)
    for rslora, scale in ((False, 6 / 4), (True, 6 / 2)):  # 6 / 4, and 6 / √4
        settings = LoraMethod(sites=("feedforward.output",), rank=4, alpha=6.0, rslora=rslora)
        with attached(backbone, settings) as attachment:
            disturb(attachment)
            a, b = (attachment.state()[f"{path}.lora_{name}.weight"] for name in "AB")
            found = backbone.trunk.get_submodule(path)(x)
        assert torch.allclose(found, bare + scale * x @ a.T @ b.T, atol=1e-4)


def test_patterns_set_ranks_and_alphas_by_site_and_by_layer(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    settings = LoraMethod(
        rank=8,
        rank_pattern={"attention.query": 4, "attention.query@1": 2},
        alpha_pattern={"attention.value@2": 3.0, "attention.query": 16.0},
    )
    with attached(backbone, settings) as attachment:
        found, config = ranks_of(attachment), attachment.config()
        scaling = {
            path: backbone.trunk.get_submodule(f"encoder.layer.{path}").scaling["default"]
            for path in ("2.attention.self.value", "1.attention.self.value", "1.attention.self.query")
        }
    at = "encoder.layer.{}.attention.self.{}"
    assert found == {
        **{at.format(layer, "value"): 8 for layer in range(3)},
        at.format(0, "query"): 4,
        at.format(1, "query"): 2,
        at.format(2, "query"): 4,
    }
    assert list(scaling.values()) == [3 / 8, 2.0, 8.0]
    assert config["rank_pattern"] == {at.format(0, "query"): 4, at.format(1, "query"): 2, at.format(2, "query"): 4}
    assert config["alpha_pattern"] == {at.format(2, "value"): 3}


@peft_warning
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_plain_peft_builds_the_same_adapter_from_the_config(fresh_backbone: Any, family: str) -> None:
    backbone = fresh_backbone(family)
    site = "attention.qkv" if family == "gpt2" else "attention.query"
    settings = LoraMethod(sites="all-linear", rank=4, rank_pattern={f"{site}@1": 2}, alpha_pattern={site: 5.0})
    with attached(backbone, settings) as attachment, torch.no_grad():
        disturb(attachment)
        expected, state, content = hidden(backbone.trunk, family), attachment.state(), attachment.config()
    model: Any = get_peft_model(backbone.trunk, LoraConfig(**content))
    names = {name for name, _ in model.base_model.model.named_modules() if name.endswith("lora_A.default")}
    assert names == {name.replace(".weight", ".default") for name in state if "lora_A" in name}
    with torch.no_grad():
        for name, parameter in model.base_model.model.named_parameters():
            if "lora_" in name:
                parameter.copy_(state[name.replace(".default", "")])
        assert torch.equal(hidden(model.eval(), family), expected)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (LoraMethod(sites=("attention.qeury",)), "attention.qeury"),
        (LoraMethod(sites=("layer.output",)), "not a linear"),
        (LoraMethod(rank_pattern={"attention.qeury": 4}), "rank_pattern: 'attention.qeury'"),
        (LoraMethod(rank_pattern={".*": 4}), "matches none of the chosen sites"),
        (LoraMethod(alpha_pattern={"attention.query@9": 4.0}), "alpha_pattern: 'attention.query@9'"),
        (LoraMethod(top=1, rank_pattern={"attention.query@0": 4}), "rank_pattern: 'attention.query@0'"),
        (LoraMethod(layers=(9,)), "layer 9"),
    ],
)
def test_what_matches_nothing_is_an_error_that_lists_what_exists(
    tiny_backbones: Any, settings: LoraMethod, words: str
) -> None:
    backbone = tiny_backbones["bert"]
    before = snapshot(backbone.trunk)
    with pytest.raises(SiteError) as error:
        attach(backbone.trunk, backbone, settings, seed=0)
    assert words in str(error.value)
    assert "attention.query, attention.key" in str(error.value)
    assert snapshot(backbone.trunk) == before


@pytest.mark.parametrize(
    ("family", "settings", "words"),
    [
        ("gpt2", LoraMethod(initialization="olora"), "Conv1D"),
        ("bert", LoraMethod(initialization="orthogonal", rank=3), "even rank"),
        ("bert", LoraMethod(initialization="pissa", rank=33), "narrower side"),
        ("bert", LoraMethod(initialization="olora", rank_pattern={"attention.query@1": 64}), "rank 64"),
    ],
)
def test_an_initialisation_that_cannot_work_is_refused_before_anything_changes(
    tiny_backbones: Any, family: str, settings: LoraMethod, words: str
) -> None:
    backbone = tiny_backbones[family]
    before = snapshot(backbone.trunk)
    with pytest.raises(RecipeError) as error:
        attach(backbone.trunk, backbone, settings, seed=0)
    assert words in str(error.value)
    assert snapshot(backbone.trunk) == before


@pytest.mark.parametrize("bias", ["all", "lora_only"])
@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "qwen2", "bart"])
def test_biases_are_trained_saved_and_put_back(tiny_backbones: Any, family: str, bias: Any) -> None:
    backbone = tiny_backbones[family]
    before = snapshot(backbone.trunk)
    at_sites = {site.path for site in backbone.sites.select("auto")}
    expected = {
        name.replace(".bias", ".base_layer.bias") if name.rpartition(".")[0] in at_sites else name
        for name, _ in backbone.trunk.named_parameters()
        if name.endswith(".bias") and (bias == "all" or name.rpartition(".")[0] in at_sites)
    }
    attachment = attach(backbone.trunk, backbone, LoraMethod(bias=bias), seed=0)
    found = {path for path in attachment.parameters() if ".lora_" not in path}
    disturb(attachment)
    with torch.no_grad():
        answer, state = hidden(backbone.trunk, family), attachment.state()
    hidden(backbone.trunk, family).sum().backward()
    lowest = attachment.lowest_layer
    attachment.detach()
    assert found == expected
    assert snapshot(backbone.trunk) == before
    assert set(lowest.values()) == ({-1} if bias == "all" else {0})
    with attached(backbone, LoraMethod(bias=bias)) as again, torch.no_grad():
        again.load(state)
        assert torch.equal(hidden(backbone.trunk, family), answer)


def test_biases_of_a_head_are_left_to_the_head(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    model = nn.ModuleDict({"trunk": backbone.trunk, "head": nn.Linear(32, 2), "borrowed": nn.Linear(32, 2)})
    model["borrowed"].requires_grad_(False)
    attachment = attach(model, backbone, LoraMethod(bias="all"), seed=0)
    flags = {name: p.requires_grad for name, p in model.named_parameters() if not name.startswith("trunk.")}
    assert not [path for path in attachment.parameters() if not path.startswith("trunk.")]
    attachment.detach()
    assert flags == {"head.weight": True, "head.bias": True, "borrowed.weight": False, "borrowed.bias": False}


def test_asking_for_biases_where_there_are_none_is_an_error(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["llama"]
    before = snapshot(backbone.trunk)
    with pytest.raises(SiteError, match="there are none"):
        attach(backbone.trunk, backbone, LoraMethod(bias="lora_only"), seed=0)
    assert snapshot(backbone.trunk) == before


# A world where PEFT's matching by suffix would adapt more than was asked for.


class Twins(nn.Module):
    """`layers.0.q` is a suffix of `inner.layers.0.q`."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.ModuleDict({"q": nn.Linear(4, 4)})])
        self.inner = nn.ModuleDict({"layers": nn.ModuleList([nn.ModuleDict({"q": nn.Linear(4, 4)})])})


def twin_backbone(*paths: str) -> Any:
    sites = tuple(Site("attention.query", 0, "encoder", path, linear=True) for path in paths)
    described = SimpleNamespace(select=lambda *_, **__: sites, describe=lambda: "")
    return SimpleNamespace(trunk=Twins().requires_grad_(False), sites=described, device=torch.device("cpu"))


def test_a_module_whose_name_ends_alike_is_not_adapted() -> None:
    backbone = twin_backbone("layers.0.q")
    with attached(backbone, LoraMethod(rank=2)) as attachment:
        assert set(ranks_of(attachment)) == {"layers.0.q"}
        content = attachment.config()
    assert content["exclude_modules"] == ["inner.layers.0.q"]
    model = get_peft_model(backbone.trunk, LoraConfig(**content))
    assert model.targeted_module_names == ["layers.0.q"]


def test_the_longer_of_two_names_that_end_alike_can_be_adapted_alone() -> None:
    backbone = twin_backbone("inner.layers.0.q")
    with attached(backbone, LoraMethod(rank=2)) as attachment:
        assert set(ranks_of(attachment)) == {"inner.layers.0.q"}


def test_names_that_peft_cannot_keep_apart_are_refused() -> None:
    trunk = nn.ModuleDict({"q": nn.Linear(4, 4), "a": nn.ModuleDict({"q": nn.Linear(4, 4)})})
    trunk["b"] = nn.ModuleDict({"a": nn.ModuleDict({"q": nn.Linear(4, 4)})})
    # Of q, a.q and b.a.q the outer two: excluding a.q by its name excludes b.a.q too.
    sites = {path: Site("attention.query", 0, "encoder", path, linear=True) for path in ("q", "b.a.q")}
    with pytest.raises(SiteError, match="cannot tell"):
        lora_config(trunk, sites, LoraMethod())


@pytest.mark.parametrize("sites", ["all-linear", ("shared_expert.gate",), ("attention.output", "shared_expert.output")])
def test_a_linear_that_peft_takes_for_the_experts_is_refused(tiny_backbones: Any, sites: Any) -> None:
    with (
        pytest.raises(SiteError, match="PEFT cannot adapt") as caught,
        attached(tiny_backbones["deepseek"], LoraMethod(sites=sites)),
    ):
        pass
    assert any("shared_expert" in problem for problem in caught.value.problems)
    assert "attention" in caught.value.remedy
    assert "shared_expert.gate" not in caught.value.remedy


@pytest.mark.parametrize("family", ["deepseek", "qwen2-experts", "mixtral"])
def test_the_attention_of_experts_can_be_adapted(tiny_backbones: Any, family: str) -> None:
    names = [name for name in tiny_backbones[family].sites.names() if name.startswith("attention.")]
    with attached(tiny_backbones[family], LoraMethod(sites=tuple(names), rank=2)) as attachment:
        assert set(ranks_of(attachment)) == {site.path for site in tiny_backbones[family].sites.select(names)}


def test_a_pattern_that_reaches_another_module_is_noticed() -> None:
    backbone = twin_backbone("layers.0.q", "inner.layers.0.q")
    backbone.sites.select = lambda *_, **__: (
        Site("attention.query", 0, "encoder", "layers.0.q", linear=True),
        Site("attention.key", 0, "encoder", "inner.layers.0.q", linear=True),
    )
    before = snapshot(backbone.trunk)
    with pytest.raises(SiteError, match="something else than asked for"):
        attach(backbone.trunk, backbone, LoraMethod(rank_pattern={"attention.query": 2}), seed=0)
    assert snapshot(backbone.trunk) == before


def test_gpt2_is_adapted_without_a_warning(tiny_backbones: Any) -> None:
    # Warnings are errors in this suite; PEFT warns when fan_in_fan_out is not what Conv1D needs.
    backbone = tiny_backbones["gpt2"]
    with attached(backbone, LoraMethod(sites="all-linear")) as attachment:
        assert attachment.config()["fan_in_fan_out"] is True
    with attached(tiny_backbones["bert"], LoraMethod()) as attachment:
        assert attachment.config()["fan_in_fan_out"] is False


def test_the_numbers_of_a_config_are_whole_where_they_can_be() -> None:
    assert plain(16.0) == 16
    assert isinstance(plain(16.0), int)
    assert plain(0.5) == 0.5


def test_half_precision_backbones_are_not_written_to(fresh_backbone: Any) -> None:
    backbone = fresh_backbone("bert", dtype="bfloat16")
    before = {name: bits(tensor) for name, tensor in backbone.trunk.state_dict().items()}
    with attached(backbone, LoraMethod(sites="all-linear", initialization="pissa", dora=True)) as attachment:
        disturb(attachment)
        attachment.merge()
        backbone.trunk(**inputs("bert"))
    assert {name: bits(tensor) for name, tensor in backbone.trunk.state_dict().items()} == before
