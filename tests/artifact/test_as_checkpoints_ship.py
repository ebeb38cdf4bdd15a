"""Imports and exports of what checkpoints and PEFT folders bring along: generation configs, tokenizers, biases."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, TaskType

from adapterkit.artifact import export, import_peft, load, verify
from adapterkit.backbone import Backbone
from adapterkit.errors import AdapterkitError, ArtifactError
from adapterkit.recipe import LoraMethod
from tests.abuse.imports import written as written_classifier
from tests.artifact.test_with_peft import written
from tests.laws import worlds

INVALID = {"do_sample": False, "temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.3}


def test_a_generation_config_that_transformers_refuses_to_write_is_exported_as_it_is(tmp_path, tiny_folders):
    checkpoint = shutil.copytree(tiny_folders["llama"], tmp_path / "llama")
    own = json.loads((checkpoint / "generation_config.json").read_text())
    (checkpoint / "generation_config.json").write_text(json.dumps({**own, **INVALID}))
    backbone = Backbone.load(checkpoint, dtype="float32")
    rows = [{"text": "my card was lost"}, {"text": "the quick brown fox"}]
    with worlds.adapter(backbone, "causal-lm", LoraMethod(rank=2, sites="all-linear")) as adapted:
        worlds.disturb(adapted, 0.2)
        worlds.write(tmp_path / "in", adapted, golden=rows, dtype="float32")
        expected = [answer["text"] for answer in adapted.predict(rows)]
    out = export(tmp_path / "in", tmp_path / "out", backbone=checkpoint)
    kept = json.loads((out / "generation_config.json").read_text())
    assert {name: kept[name] for name in INVALID} == INVALID
    model = transformers.AutoModelForCausalLM.from_pretrained(out).eval()
    for row, text in zip(rows, expected, strict=True):
        prompt = backbone.tokenizer(row["text"], return_tensors="pt")
        ids = model.generate(**prompt, max_new_tokens=8)[0, prompt["input_ids"].shape[1] :]
        assert backbone.tokenizer.decode(ids, skip_special_tokens=True).strip() == text


@pytest.fixture
def causal(tmp_path, tiny_folders):
    """A folder that plain PEFT wrote for a causal LM, and its model."""
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_folders["llama"])
    config = LoraConfig(task_type=TaskType.CAUSAL_LM, r=2, target_modules=["q_proj"], bias="all")
    return written(tmp_path, model, config)


def test_biases_are_asked_for_and_the_model_has_none(tmp_path, causal, tiny_backbones):
    folder, model = causal
    out = import_peft(folder, tmp_path / "out", tiny_backbones["llama"])
    assert verify(out, tiny_backbones["llama"])
    ids = tiny_backbones["llama"].tokenizer("my card was lost", return_tensors="pt")
    with load(out, tiny_backbones["llama"]) as adapted, torch.inference_mode():
        torch.testing.assert_close(adapted(dict(ids)), model(**ids).logits, rtol=0, atol=1e-5)


def test_biases_that_are_asked_for_and_missing_are_missed(tmp_path, tiny_folders, tiny_backbones):
    from safetensors.torch import load_file, save_file

    config = LoraConfig(task_type=TaskType.SEQ_CLS, r=2, target_modules=["query"], bias="all")
    folder = written_classifier(tiny_folders["bert"], tmp_path / "peft", config)
    state = load_file(folder / "adapter_model.safetensors")
    kept = {name: tensor for name, tensor in state.items() if not name.endswith("bias") or "classifier" in name}
    assert len(kept) < len(state)
    save_file(kept, folder / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(ArtifactError, match=r"bias': missing"):
        import_peft(folder, tmp_path / "out", tiny_backbones["bert"], labels=["a", "b", "c"])


TOKENIZERS = {
    "the same": (lambda t: None, ""),
    "another pad": (lambda t: setattr(t, "pad_token", t.eos_token), ""),
    "another end": (
        lambda t: setattr(t, "eos_token", t.convert_ids_to_tokens(30)),
        "it reads text otherwise than the backbone's",
    ),
    "an added token": (lambda t: t.add_tokens(["<new>"]), "'<new>': id "),
    "a chat template": (lambda t: setattr(t, "chat_template", "{{ messages }}"), "chat template: it is not"),
}


@pytest.mark.parametrize("case", TOKENIZERS)
def test_a_tokenizer_in_the_folder_is_the_backbones_or_refused(tmp_path, causal, tiny_folders, tiny_backbones, case):
    change, told = TOKENIZERS[case]
    folder, _ = causal
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_folders["llama"])
    change(tokenizer)
    tokenizer.save_pretrained(folder)
    if not told:
        assert verify(import_peft(folder, tmp_path / "out", tiny_backbones["llama"]), tiny_backbones["llama"])
        return
    with pytest.raises(AdapterkitError) as caught:
        import_peft(folder, tmp_path / "out", tiny_backbones["llama"])
    assert told in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_plain_peft_reads_the_import_again(tmp_path, causal, tiny_folders, tiny_backbones):
    out = import_peft(causal[0], tmp_path / "out", tiny_backbones["llama"])
    model = PeftModel.from_pretrained(
        transformers.AutoModelForCausalLM.from_pretrained(tiny_folders["llama"]), str(out)
    ).eval()
    ids = tiny_backbones["llama"].tokenizer("my card was lost", return_tensors="pt")
    with torch.inference_mode():
        torch.testing.assert_close(model(**ids).logits, causal[1](**ids).logits, rtol=0, atol=1e-5)
