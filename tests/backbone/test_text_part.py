"""Checkpoints that see too: their text models are backbones as any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import adapterkit as ak
from adapterkit.backbone.checkpoint import text_part
from adapterkit.errors import BackboneError
from adapterkit.recipe import LoraMethod
from tests.laws.worlds import adapter, batch_of
from tests.tiny_tokenizers import tokenizer_of

_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.1,
    "max_position_embeddings": 64,
}
_SIGHT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}


def gemma3(text: dict[str, Any]) -> Any:
    """Its projection is tied to its embeddings."""
    config = transformers.Gemma3Config(
        text_config={**_TEXT, **text, "sliding_window": 8}, vision_config=_SIGHT, mm_tokens_per_image=4
    )
    return transformers.Gemma3ForConditionalGeneration(config)


def llava(text: dict[str, Any]) -> Any:
    """Llama behind the eyes of CLIP; its projection is its own."""
    config = transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(**_TEXT, **text),
        vision_config=transformers.CLIPVisionConfig(**_SIGHT),
        image_token_index=5,
        tie_word_embeddings=False,
    )
    return transformers.LlavaForConditionalGeneration(config)


def qwen(text: dict[str, Any]) -> Any:
    """Layers of linear and of full attention, and positions in three directions."""
    heads = {f"linear_num_{role}_heads": 2 for role in ("key", "value")}
    widths = {f"linear_{role}_head_dim": 8 for role in ("key", "value")}
    kinds = ["linear_attention", "full_attention", "linear_attention"]
    sight = {"depth": 1, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 32}
    config = transformers.Qwen3_5Config(
        text_config={**_TEXT, **text, **heads, **widths, "layer_types": kinds}, vision_config=sight
    )
    return transformers.Qwen3_5ForConditionalGeneration(config)


SEEING: dict[str, Callable[[dict[str, Any]], Any]] = {"gemma3_text": gemma3, "llama": llava, "qwen3_5_text": qwen}


@pytest.fixture(scope="module", params=SEEING)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Any]:
    """What its text model is, its folder, and the whole."""
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = tokenizer_of("qwen3.5" if "qwen" in request.param else "llama")
    tokens = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("pad", "bos", "eos")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = SEEING[request.param]({"vocab_size": len(tokenizer), **tokens}).eval()
    whole.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return request.param, folder, whole


def test_the_text_model_is_the_backbone(checkpoint: tuple[str, Path, Any]) -> None:
    architecture, folder, whole = checkpoint
    backbone = ak.Backbone.load(folder)
    assert backbone.part == "language_model"
    assert backbone.contract.architecture == architecture
    assert backbone.is_decoder
    assert backbone.sites.layer_count == {"decoder": 3}
    assert not any("vision" in name for name, _ in backbone.trunk.named_modules())
    ids = torch.tensor([[5, 9, 20, 31, 7]]) + 1
    with torch.no_grad():
        expected = whole.model(input_ids=ids).last_hidden_state
        assert torch.equal(backbone.trunk(input_ids=ids).last_hidden_state, expected)


def test_its_language_model_answers_as_the_whole_does_without_pictures(checkpoint: tuple[str, Path, Any]) -> None:
    _, folder, whole = checkpoint
    backbone = ak.Backbone.load(folder)
    with adapter(backbone, "causal-lm", LoraMethod()) as adapted, torch.no_grad():
        assert not adapted.head_parameters()  # it is the checkpoint's own
        batch = batch_of(adapted, purpose="predict")
        given = {name: batch.inputs[name] for name in ("input_ids", "attention_mask")}
        expected = whole(**given).logits[given["attention_mask"].bool()]
        found = adapted(batch.inputs)[given["attention_mask"].bool()]
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)


def test_its_adapters_are_planned_trained_and_verified(checkpoint: tuple[str, Path, Any], tmp_path: Path) -> None:
    architecture, folder, _ = checkpoint
    kind = "text-classification" if architecture == "gemma3_text" else "causal-lm"
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "play music", "label": "a"}\n{"text": "stop the music now", "label": "b"}\n' * 8)
    recipe = {
        "task": {"kind": kind},
        "backbone": {"name": str(folder), "dtype": "float32"},
        "data": {"train": str(data), "validation": None},
        "training": {"max_steps": 2, "trackers": []},
        "output": str(tmp_path / "run"),
    }
    planned = ak.plan(recipe)
    result = ak.train(recipe)
    report = ak.verify(result.artifact)
    assert report, str(report)
    card = (result.artifact / "README.md").read_text()
    assert "Plain PEFT does not find its modules: they are those of `language_model`" in card
    assert "PeftModel" not in card
    backbone = ak.Backbone.load(folder)
    assert planned.frozen_parameters == sum(parameter.numel() for parameter in backbone.trunk.parameters()) + (
        backbone.config.vocab_size * 32 if kind == "causal-lm" and not backbone.config.tie_word_embeddings else 0
    )
    with ak.load(result.artifact, backbone) as adapted:
        assert planned.method_parameters == sum(p.numel() for p in adapted.method_parameters().values())


def test_a_model_that_holds_no_text_model_of_its_own_is_refused() -> None:
    class Seer(nn.Module):
        config = SimpleNamespace(text_config=transformers.LlamaConfig())

    with pytest.raises(BackboneError, match="Seer has a text_config and no model of its own for it"):
        text_part(Seer())
