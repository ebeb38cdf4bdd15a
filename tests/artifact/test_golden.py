from __future__ import annotations

import json

import pytest
import torch
import transformers
from peft import PeftModel

from adapterkit.adapted import build
from adapterkit.artifact import load, open_artifact, verify
from adapterkit.artifact.golden import (
    EXCERPT_CHARACTERS,
    MAX_NUMBERS,
    MAX_ROW_BYTES,
    NEW_TOKENS,
    choose_rows,
    compute_golden,
    golden_problems,
)
from adapterkit.recipe import KINDS, HeadSettings, LoraMethod, TaskSettings
from adapterkit.tasks.table import TASKS
from tests.artifact.conftest import ROWS, make, shake, write
from tests.artifact.mutations import MANIFEST, resign

FAMILY_OF = {
    "text-classification": "roberta",
    "token-classification": "bert",
    "question-answering": "distilbert",
    "multiple-choice": "bert",
    "masked-lm": "modernbert",
    "causal-lm": "llama",
    "seq2seq-lm": "t5",
}


def test_every_kind_has_a_family_to_be_tried_on():
    assert FAMILY_OF.keys() == set(KINDS)


def adapted_for(kind, backbone):
    labels = ("a", "b", "c") if kind in ("text-classification", "token-classification") else None
    task = TASKS[kind].prepare(
        TaskSettings(kind=kind, **({"labels": labels} if labels else {})), TASKS[kind].sample_rows(labels or ())
    )
    adapted = build(backbone, task, LoraMethod(rank=2), HeadSettings(), seed=0)
    shake(adapted)
    return adapted


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_saved_loaded_and_verified(tmp_path, tiny_backbones, kind):
    backbone = tiny_backbones[FAMILY_OF[kind]]
    with adapted_for(kind, backbone) as adapted:
        write(tmp_path / "out", adapted, golden=TASKS[kind].sample_rows(), golden_rows=3)
        state = adapted.state()
    artifact = open_artifact(tmp_path / "out")
    assert len(artifact.manifest.golden.rows) == 3
    assert artifact.task.to_dict() == adapted.task.to_dict()
    with load(tmp_path / "out", backbone) as loaded:
        assert loaded.state().keys() == state.keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state().items())
    report = verify(tmp_path / "out", backbone)
    assert report, str(report)


@pytest.mark.parametrize("kind", ["masked-lm", "causal-lm", "seq2seq-lm"])
def test_language_models_store_one_loss_per_row_and_no_tensor_of_the_backbone(tmp_path, tiny_backbones, kind):
    backbone = tiny_backbones[FAMILY_OF[kind]]
    with adapted_for(kind, backbone) as adapted:
        write(tmp_path / "out", adapted, golden=TASKS[kind].sample_rows())
    artifact = open_artifact(tmp_path / "out")
    assert all(len(row.numbers) == 1 and row.prediction is None for row in artifact.manifest.golden.rows)
    assert all("lora_" in name for name in artifact.state)


def test_changed_weights_change_a_golden_row(tiny_backbones):
    with make(tiny_backbones["bert"]) as adapted:
        golden = compute_golden(adapted, ROWS[:2])
        assert golden_problems(adapted, golden) == []
        with torch.no_grad():
            adapted.head_parameters()["classifier.bias"][0] += 1.0
        assert len(golden_problems(adapted, golden)) == 2


def test_golden_rows_say_what_computed_them(tiny_backbones):
    with make(tiny_backbones["bert"]) as adapted:
        assert compute_golden(adapted, ROWS[:1]).dtype == "float32"
        adapted.compute_dtype = torch.bfloat16
        assert compute_golden(adapted, ROWS[:1]).dtype == "bfloat16"


def test_rows_are_chosen_short_usable_and_without_other_columns(tiny_backbones):
    with make(tiny_backbones["bert"]) as adapted:
        rows = [
            {"text": "x" * MAX_ROW_BYTES, "label": "no"},
            {"text": None, "label": "no"},
            {"text": "short", "label": "no", "secret": 1},
            {"text": "odd", "label": float("nan")},
        ]
        assert choose_rows(adapted.task, rows, 1, seed=0) == [{"text": "short", "label": "no"}]
        assert len(choose_rows(adapted.task, rows, 9, seed=0)) == 2


def test_other_seeds_choose_other_rows(tiny_backbones):
    with make(tiny_backbones["bert"]) as adapted:
        chosen = {str(choose_rows(adapted.task, ROWS, 2, seed=seed)) for seed in range(10)}
    assert len(chosen) > 1


def test_long_answers_are_thinned_out(tiny_backbones):
    backbone = tiny_backbones["distilbert"]
    with adapted_for("question-answering", backbone) as adapted:
        row = {"question": "what?", "context": "my card was lost " * 100}
        (stored,) = compute_golden(adapted, [row]).rows
    assert len(stored.numbers) == MAX_NUMBERS


def test_answering_golden_rows_leaves_the_training_mode_alone(tiny_backbones):
    with make(tiny_backbones["bert"]) as adapted:
        adapted.train()
        compute_golden(adapted, ROWS[:1])
        assert adapted.training
        adapted.eval()


def test_a_language_models_book_is_shown_by_excerpts(tiny_backbones):
    task = TASKS["causal-lm"].prepare(TaskSettings(kind="causal-lm"), [{"text": "word " * 5_000}])
    book = {"text": "".join(f"sentence {number}. " for number in range(5_000))}
    chosen = choose_rows(task, [book], 4, seed=0)
    assert len(chosen) == 4
    assert all(len(row["text"]) == EXCERPT_CHARACTERS and row["text"] in book["text"] for row in chosen)


@pytest.mark.parametrize("kind", ["causal-lm", "seq2seq-lm"])
def test_the_rows_of_what_generates_hold_the_text_that_peft_and_transformers_generate(
    tmp_path, tiny_backbones, tiny_folders, kind
):
    backbone = tiny_backbones[FAMILY_OF[kind]]
    with adapted_for(kind, backbone) as adapted:
        folder = write(tmp_path / "out", adapted, golden=TASKS[kind].sample_rows(), dtype="float32")
    rows = open_artifact(folder).manifest.golden.rows
    auto = {"causal-lm": transformers.AutoModelForCausalLM, "seq2seq-lm": transformers.AutoModelForSeq2SeqLM}[kind]
    model = PeftModel.from_pretrained(auto.from_pretrained(tiny_folders[FAMILY_OF[kind]]), str(folder)).eval()
    for row in rows:
        prompt = backbone.tokenizer(row.row.get("text") or row.row["source"], return_tensors="pt")
        prompt = {name: prompt[name] for name in ("input_ids", "attention_mask")}
        ids = model.generate(**prompt, max_new_tokens=NEW_TOKENS, do_sample=False)[0]
        new = ids[len(prompt["input_ids"][0]) :] if kind == "causal-lm" else ids
        assert row.text == backbone.tokenizer.decode(new, skip_special_tokens=True).strip()
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["golden"]["rows"][0]["text"] += " and on"
    resign(folder, manifest)
    assert "golden row 1: goes on with " in str(verify(folder, backbone))


def test_the_rows_of_what_does_not_generate_hold_no_text(saved_once):
    assert {row.text for row in open_artifact(saved_once).manifest.golden.rows} == {None}


def test_a_chat_that_can_be_learned_and_not_be_continued_is_proven_by_its_loss_alone(fresh_backbone):
    backbone = fresh_backbone("llama")
    backbone.tokenizer.chat_template = (
        "{% if add_generation_prompt %}{{ raise_exception('no') }}{% endif %}"
        "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    )
    row = {"messages": [{"role": "user", "content": "my card"}, {"role": "assistant", "content": "was lost"}]}
    task = TASKS["causal-lm"].prepare(TaskSettings(kind="causal-lm"), [row])
    with build(backbone, task, LoraMethod(rank=2), HeadSettings(), seed=0) as adapted:
        golden = compute_golden(adapted, [row])
        assert [len(each.numbers) for each in golden.rows] == [1]
        assert golden.rows[0].text is None
        assert golden_problems(adapted, golden) == []
