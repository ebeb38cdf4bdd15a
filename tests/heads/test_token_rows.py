"""Tokens with rows of their own: equal to PEFT's trainable tokens, and what makes a tied, frozen end token stop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel

from adapterkit import Backbone, Host
from adapterkit.adapted import Adapted
from adapterkit.artifact import load, verify
from adapterkit.errors import ArtifactError, HeadError, RecipeError
from adapterkit.recipe import BottleneckMethod, HeadSettings, LoraMethod, load_recipe
from tests.artifact.mutations import resign
from tests.laws.worlds import adapter, batch_of, disturb, logits_of, prepared, write
from tests.methods.cases import bits
from tests.tasks.conftest import ROWS

LORA = LoraMethod(rank=2)


def head_of(backbone: Backbone) -> HeadSettings:
    return HeadSettings(tokens=(backbone.tokenizer.eos_token,))


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen2", "t5", "bart"])
def test_plain_peft_gives_the_same_logits(tmp_path: Path, tiny_backbones: Any, tiny_folders: Any, family: str) -> None:
    backbone, kind = tiny_backbones[family], "seq2seq-lm" if family in ("t5", "bart") else "causal-lm"
    end = backbone.tokenizer.eos_token_id
    before = [bits(parameter) for parameter in backbone.trunk.parameters()]
    with adapter(backbone, kind) as bare:
        untrained = logits_of(bare)
    with adapter(backbone, kind, LORA, head_of(backbone)) as adapted:
        torch.testing.assert_close(logits_of(adapted), untrained, rtol=0, atol=1e-5)
        disturb(adapted)
        write(tmp_path / "out", adapted, dtype="float32", golden=ROWS[kind])
        expected, batch = logits_of(adapted), batch_of(adapted)
        (path,) = adapted.headed.token_rows
        assert list(adapted.head_parameters()) == [f"{path}.token_adapter.trainable_tokens_delta"]
    assert [bits(parameter) for parameter in backbone.trunk.parameters()] == before
    assert json.loads((tmp_path / "out/adapter_config.json").read_text())["trainable_token_indices"] == {path: [end]}
    classes = {"seq2seq-lm": transformers.AutoModelForSeq2SeqLM, "causal-lm": transformers.AutoModelForCausalLM}
    model: Any = classes[kind].from_pretrained(tiny_folders[family])
    plain = PeftModel.from_pretrained(model, str(tmp_path / "out")).eval()
    with torch.inference_mode():
        found = plain(**batch.inputs).logits
    # Padding has no logits here, and some in PEFT.
    there = batch.labels != -100 if kind == "seq2seq-lm" else batch.inputs["attention_mask"] == 1
    torch.testing.assert_close(found[there], expected[there], rtol=0, atol=1e-5)
    assert not torch.allclose(expected[..., end], untrained[..., end], atol=0.1)
    with load(tmp_path / "out", backbone) as again:
        assert torch.equal(logits_of(again), expected)
    assert verify(tmp_path / "out", backbone)


def test_a_host_continues_each_prompt_with_its_own_rows(tmp_path: Path, tiny_backbones: Any) -> None:
    backbone, prompts = tiny_backbones["llama"], ["my card", "the fox", "Ada"]
    host = Host(backbone)
    alone = {}
    for place, (name, head) in enumerate(
        {"own": head_of(backbone), "other": head_of(backbone), "none": HeadSettings()}.items()
    ):
        with adapter(backbone, "causal-lm", LORA, head) as adapted:
            disturb(adapted, size=0.5, seed=place)
            write(tmp_path / name, adapted, dtype="float32")
        with load(tmp_path / name, backbone) as loaded:
            alone[name] = [answer["text"] for answer in loaded.predict(prompts)]
        host.mount(name, tmp_path / name)
    rows = [(name, prompt) for prompt in prompts for name in alone]
    expected = [alone[name][place] for place in range(len(prompts)) for name in alone]
    assert [answer["text"] for answer in host.predict(rows)] == expected


PAIRS = [{"prompt": "where is the fox ?", "completion": "Ada"}, {"prompt": "my card", "completion": "London"}]


def test_a_tied_frozen_end_token_stops_answers_only_with_a_row_of_its_own_or_an_end_text(
    tmp_path: Path, tiny_folders: Mapping[str, Path]
) -> None:
    """The end token's row stands beside another's, as in checkpoints that never saw it."""
    checkpoint = shutil.copytree(tiny_folders["qwen2"], tmp_path / "qwen2")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] = model.lm_head.weight[20:22].mean(dim=0)
    model.save_pretrained(checkpoint)
    backbone = Backbone.load(checkpoint, dtype="float32", device="cpu")
    right = {}
    for way, head, settings in (
        ("neither", HeadSettings(), {}),
        ("a row", head_of(backbone), {}),
        ("a text", HeadSettings(), {"end_text": "\n"}),
    ):
        task = prepared("causal-lm", PAIRS, completions_only=True, **settings)
        with adapter(backbone, "causal-lm", LoraMethod(rank=8, sites="all-linear"), head, task=task) as adapted:
            learn(adapted, steps=40)
            answers = adapted.predict([{"prompt": row["prompt"]} for row in PAIRS])
        right[way] = [answer["text"].strip() == row["completion"] for answer, row in zip(answers, PAIRS, strict=True)]
    assert right == {"neither": [False, False], "a row": [True, True], "a text": [True, True]}


def learn(adapted: Adapted, steps: int) -> None:
    """A loop of one's own over all pairs."""
    batch = batch_of(adapted, PAIRS)
    trained = [*adapted.method_parameters().values(), *adapted.head_parameters().values()]
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        adapted.task.loss(adapted(batch.inputs), batch).mean.backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"head": HeadSettings(tokens=("<end>",))}, HeadError, "head.tokens: '<end>' is no token of this vocabulary"),
        (
            {"method": BottleneckMethod(width=2), "head": HeadSettings(tokens=("</s>",))},
            RecipeError,
            "not with method.kind=bottleneck",
        ),
    ],
)
def test_what_cannot_have_rows_is_refused(
    tiny_backbones: Any, settings: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words), adapter(tiny_backbones["llama"], "causal-lm", **settings):
        pass


def test_a_recipe_for_labels_names_no_tokens() -> None:
    recipe = {"task": {"kind": "text-classification"}, "backbone": {"name": "x"}, "data": {"train": "t.jsonl"}}
    with pytest.raises(RecipeError, match=r"head\.tokens.*no language model"):
        load_recipe({**recipe, "head": {"tokens": ["</s>"]}})
    with pytest.raises(RecipeError, match=r"head\.tokens.*more than once"):
        load_recipe({**recipe, "task": {"kind": "causal-lm"}, "head": {"tokens": ["</s>", "</s>"]}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: config.pop("trainable_token_indices"), "trainable_token_indices: missing"),
        (lambda config: config.update(trainable_token_indices=[2]), "expected 1 token numbers by module name"),
        (lambda config: config.update(trainable_token_indices={"lm_head": [2, 3]}), "expected 1 token numbers"),
        (
            lambda config: config.update(trainable_token_indices={"score": [2]}),
            r"rows of tokens: found \[0\], expected \[1\]",
        ),
        (lambda config: config.update(trainable_token_indices={"lm_head": [3]}), "are others on this backbone"),
    ],
)
def test_a_config_that_names_other_tokens_is_refused(
    tmp_path: Path, tiny_backbones: Any, change: Any, words: str
) -> None:
    backbone = tiny_backbones["llama"]
    with adapter(backbone, "causal-lm", LORA, head_of(backbone)) as adapted:
        write(tmp_path / "out", adapted)
    file = tmp_path / "out/adapter_config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))
    resign(tmp_path / "out")
    with pytest.raises(ArtifactError, match=words), load(tmp_path / "out", backbone):
        pass
