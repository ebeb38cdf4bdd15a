"""PiSSA and OLoRA: trained on a changed backbone, saved relative to the untouched one."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

from adapterkit.recipe import LoraMethod
from tests.methods.cases import attached, disturb, hidden

PATTERNS = {"rank_pattern": {"attention.query@1": 2}, "alpha_pattern": {"attention.query": 5.0}}
VARIANTS = {
    "plain": {},
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "patterns": PATTERNS,
}


# PEFT asks transformers for a name that transformers has deprecated.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("initialization", ["pissa", "olora"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_plain_peft_answers_the_same_on_an_untouched_backbone(
    fresh_backbone: Any, initialization: Any, variant: str
) -> None:
    backbone = fresh_backbone("bert")
    settings = LoraMethod(rank=4, initialization=initialization, **VARIANTS[variant])
    with attached(backbone, settings) as attachment, torch.no_grad():
        disturb(attachment, 0.05)
        expected, state, content = hidden(backbone.trunk, "bert"), attachment.state(), attachment.config()
    untouched = fresh_backbone("bert").trunk
    with torch.no_grad():
        bare = hidden(untouched, "bert")
        model: Any = get_peft_model(untouched, LoraConfig(**content)).eval()
        set_peft_model_state_dict(model, {f"base_model.model.{path}": tensor for path, tensor in state.items()})
        found = hidden(model, "bert")
    # The same weights, put together in another order.
    assert torch.allclose(found, expected, rtol=0, atol=1e-4)
    assert (bare - expected).abs().max() > 0.01


def test_the_file_has_twice_the_rank_and_the_same_scaling(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    path = "encoder.layer.1.attention.self.query"
    for rslora, alpha in ((False, 16), (True, 8 * 2**0.5)):
        settings = LoraMethod(
            rank=4, alpha=8.0, initialization="pissa", rslora=rslora, rank_pattern={"attention.value": 3}
        )
        with attached(backbone, settings) as attachment:
            content, state = attachment.config(), attachment.state()
            trained = attachment.parameters()
        assert content["r"] == 8
        assert content["lora_alpha"] == pytest.approx(alpha)
        assert set(content["rank_pattern"].values()) == {6}
        assert content["init_lora_weights"] is True
        assert trained[f"{path}.lora_A.weight"].shape == (4, 32)
        a, b = state[f"{path}.lora_A.weight"], state[f"{path}.lora_B.weight"]
        assert a.shape == (8, 32)
        assert torch.equal(a[:4], a[4:])  # untrained: what it adds is what it takes away
        assert torch.equal(b[:, :4], -b[:, 4:])


def test_the_adapter_starts_at_the_largest_singular_values(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    path = "encoder.layer.0.attention.self.query"
    left, values, right = torch.linalg.svd(backbone.trunk.get_submodule(path).weight.double())
    expected = (left[:, :4] * values[:4]) @ right[:4]
    with attached(backbone, LoraMethod(rank=4, alpha=8.0, initialization="pissa")) as attachment:
        a, b = (attachment.parameters()[f"{path}.lora_{name}.weight"].double() for name in "AB")
        assert torch.allclose(2 * b @ a, expected, atol=1e-5)


def test_loading_a_file_undoes_the_own_split(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    pissa = LoraMethod(rank=4, initialization="pissa")
    with attached(backbone, LoraMethod(rank=4, initialization="olora")) as attachment, torch.no_grad():
        disturb(attachment, 0.05)
        expected, state = hidden(backbone.trunk, "bert"), attachment.state()
    with attached(backbone, pissa) as attachment, torch.no_grad():
        attachment.load(state)
        assert torch.allclose(hidden(backbone.trunk, "bert"), expected, rtol=0, atol=1e-5)


def test_which_initialisations_split() -> None:
    assert [
        name
        for name in get_args(LoraMethod.model_fields["initialization"].annotation)
        if LoraMethod(initialization=name).moves_weight
    ] == [
        "pissa",
        "olora",
    ]
