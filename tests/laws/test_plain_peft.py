"""Ten kinds of LoRA on four language models are as likely to plain PEFT as to what was saved and loaded here.

The neighbour is `peft.get_peft_model` on transformers' own class, its configuration written by hand, its loop the
model's own loss of one row at a time.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from adapterkit import evaluate
from adapterkit.recipe import LoraMethod
from tests.laws.worlds import adapter, features_of, prepared, write
from tests.tasks.conftest import ROWS

TARGETS = {"gpt2": ["c_attn"], "qwen2": ["q_proj", "v_proj"], "t5": ["q", "v"], "bart": ["q_proj", "v_proj"]}
"""Family -> where LoRA stands by default, in its own names."""
SITE = {"gpt2": ("attention.qkv", "c_attn"), "t5": ("attention.query", r"SelfAttention\.q")}
"""One site, and the module that PEFT's patterns know it by."""

KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "rsLoRA": ({"rslora": True}, {"use_rslora": True}),
    "PiSSA": ({"initialization": "pissa"}, {"init_lora_weights": "pissa"}),
    "OLoRA": ({"initialization": "olora"}, {"init_lora_weights": "olora"}),
    "DoRA": ({"dora": True}, {"use_dora": True}),
    "ranks": ({"rank_pattern": {"SITE": 2}}, {"rank_pattern": {"MODULE": 2}}),
    "alphas": ({"alpha_pattern": {"SITE": 3.0}}, {"alpha_pattern": {"MODULE": 3}}),
    "biases": ({"bias": "all"}, {"bias": "all"}),
    "a layer": ({"layers": (1,)}, {"layers_to_transform": [1]}),
    "all sites": ({"sites": "all-linear"}, {"target_modules": "all-linear"}),
}
"""What is asked of adapterkit, and of PEFT."""
NOT_THERE = {("gpt2", "OLoRA"), ("t5", "biases")}
"""OLoRA in PEFT takes no Conv1D, and T5 has no biases."""


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")  # PEFT corrects its own default on GPT-2
@pytest.mark.parametrize(
    ("family", "kind"), [(family, kind) for family in TARGETS for kind in KINDS if (family, kind) not in NOT_THERE]
)
def test_a_saved_lora_is_as_likely_as_in_plain_peft(
    tmp_path: Path, tiny_backbones: Any, tiny_folders: Any, family: str, kind: str
) -> None:
    ours, theirs = (named(settings, family) for settings in KINDS[kind])
    backbone, task = tiny_backbones[family], "seq2seq-lm" if family in ("t5", "bart") else "causal-lm"
    with adapter(backbone, task, LoraMethod(rank=4, alpha=8.0, **ours), task=prepared(task)) as adapted:
        trained, chance = adapted.attachment.parameters(), torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in trained.values():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=chance))
        plain = plain_peft(tiny_folders[family], task, {"target_modules": TARGETS[family], **theirs})
        copy(trained, plain)
        write(tmp_path / "out", adapted, dtype="float32")
        expected = perplexity(plain, features_of(adapted))
    found = evaluate(tmp_path / "out", ROWS[task], backbone=backbone, resamples=0)["perplexity"].value
    assert found == pytest.approx(expected, rel=1e-6)


def named(settings: dict[str, Any], family: str) -> dict[str, Any]:
    """Settings with the family's own names in the patterns."""
    names = dict(zip(("SITE", "MODULE"), SITE.get(family, ("attention.query", "self_attn.q_proj")), strict=True))
    return {
        name: {names[key]: item for key, item in value.items()} if isinstance(value, dict) else value
        for name, value in settings.items()
    }


def plain_peft(folder: Path, task: str, settings: dict[str, Any]) -> Any:
    """Transformers' class of the checkpoint with PEFT's LoRA on it."""
    sequence = task == "seq2seq-lm"
    found: Any = transformers.AutoModelForSeq2SeqLM if sequence else transformers.AutoModelForCausalLM
    config = LoraConfig(task_type="SEQ_2_SEQ_LM" if sequence else "CAUSAL_LM", r=4, lora_alpha=8, **settings)
    return get_peft_model(found.from_pretrained(folder), config).eval()


def copy(trained: Any, plain: Any) -> None:
    """Give PEFT's model the same weights, after a look that it trains the same ones."""
    own = {name: parameter for name, parameter in plain.base_model.model.named_parameters() if parameter.requires_grad}
    own = {name.replace(".default", "").replace("vector.weight", "vector"): tensor for name, tensor in own.items()}
    assert set(own) == set(trained)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(trained[name])


def perplexity(plain: Any, features: Any) -> float:
    """exp of the mean loss of a labelled token, by the model's own loss."""
    nats, tokens = 0.0, 0
    for feature in features:
        inputs = {name: torch.tensor([values]) for name, values in feature.inputs.items()}
        labels = torch.tensor([feature.labels])
        count = int((labels != -100).sum())
        with torch.inference_mode():
            nats += float(plain(**inputs, labels=labels).loss) * count
        tokens += count
    return math.exp(nats / tokens)
