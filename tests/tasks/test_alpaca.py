"""Rows of the Alpaca format: nothing of them is dropped, in a prompt, in a chat and in a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapterkit.data import read_rows
from adapterkit.recipe.columns import COLUMNS
from adapterkit.tasks.values import IGNORED
from tests.tasks.test_protocol import Make, Vocabularies

ROW = {"instruction": "Name the animal.", "input": "the lazy dog", "output": "a dog"}
ROWS: list[dict[str, Any]] = [
    {"instruction": "Name the animal.", "input": "the lazy dog", "completion": "a dog"},
    {"instruction": "Name a city.", "input": "", "completion": "London"},
    {
        "instruction": "And Ada ?",
        "input": None,
        "system": "Be short.",
        "history": [["where is the fox ?", "in London"]],
        "completion": "in Paris",
    },
]
PROMPTS = [
    (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n### Instruction:\nName the animal.\n\n### Input:\n"
        "the lazy dog\n\n### Response:\n"
    ),
    (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nName a city.\n\n### Response:\n"
    ),
    (
        "Be short.\n\n### Instruction:\nwhere is the fox ?\n\n### Response:\nin London\n\n### Instruction:\n"
        "And Ada ?\n\n### Response:\n"
    ),
]
"""The prompts of Alpaca's own training, and what the system text and the history add."""


def test_without_a_chat_template_the_prompt_is_alpaca_s(task_of: Make, vocabulary_of: Vocabularies) -> None:
    vocabulary, task = vocabulary_of("llama"), task_of("causal-lm", ROWS, completions_only=True, block_tokens=128)
    vocabulary = type(vocabulary).of(vocabulary.tokenizer, 512)
    task = task_of("causal-lm", ROWS, completions_only=True)
    features, _, note = task.encode(ROWS, vocabulary)
    tokenizer = vocabulary.tokenizer
    for feature, prompt, row in zip(features, PROMPTS, ROWS, strict=True):
        known = tokenizer(prompt)["input_ids"]
        answer = [*tokenizer(row["completion"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        assert feature.inputs["input_ids"] == [*known, *answer]
        assert [label for label in feature.labels if label != IGNORED] == answer
    asked = task.encode(ROWS, vocabulary, "predict").features
    assert [feature.inputs["input_ids"] for feature in asked] == [tokenizer(prompt)["input_ids"] for prompt in PROMPTS]
    assert note == "3 of 3 rows are of the Alpaca format, and are read as prompts, as Alpaca has them"
    assert task.encode(ROWS, vocabulary, "score").note == ""  # said once


def test_with_a_chat_template_rows_are_chats(task_of: Make, vocabulary_of: Vocabularies) -> None:
    tokenizer = vocabulary_of("qwen2").tokenizer
    vocabulary = type(vocabulary_of("qwen2")).of(tokenizer, 512)
    chats = [
        [("user", "Name the animal.\nthe lazy dog"), ("assistant", "a dog")],
        [("user", "Name a city."), ("assistant", "London")],
        [
            ("system", "Be short."),
            ("user", "where is the fox ?"),
            ("assistant", "in London"),
            ("user", "And Ada ?"),
            ("assistant", "in Paris"),
        ],
    ]
    features, _, note = task_of("causal-lm", ROWS).encode(ROWS, vocabulary)
    theirs = [
        tokenizer.apply_chat_template([{"role": role, "content": text} for role, text in chat])["input_ids"]
        for chat in chats
    ]
    assert [feature.inputs["input_ids"] for feature in features] == theirs
    assert note.endswith("are read as chats, through the tokenizer's template")


def test_a_source_begins_with_its_instruction(task_of: Make, vocabulary_of: Vocabularies) -> None:
    vocabulary = vocabulary_of("t5")
    rows = [
        {"instruction": row["instruction"], "source": row["input"], "target": row["completion"], **_rest(row)}
        for row in ROWS
    ]
    task = task_of("seq2seq-lm", rows)
    features, _, note = task.encode(rows, vocabulary)
    sources = [
        "Name the animal.\nthe lazy dog",
        "Name a city.",
        "Be short.\nwhere is the fox ?\nin London\nAnd Ada ?",
    ]
    theirs = vocabulary.tokenizer(sources)["input_ids"]
    assert [feature.inputs["input_ids"] for feature in features] == theirs
    assert note.startswith("3 of 3 rows have an instruction, which is read before the source")
    assert task.groups([rows[0], rows[0], {**rows[0], "instruction": "other"}]) == [[0, 1], [2]]
    assert task.problem_of({"target": "x"}, "train") == "no source"
    assert task.problem_of({"instruction": "x", "target": "y", "history": ["z"]}, "train") == (
        "history is not a list of [question, answer]"
    )


def _rest(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("system", "history") if name in row}


@pytest.mark.parametrize("kind", ["causal-lm", "seq2seq-lm"])
@pytest.mark.parametrize("columns", [("instruction", "input", "output"), ("instruction", "output")])
def test_files_as_they_are_shared_are_read_whole(
    kind: Any, columns: tuple[str, ...], tmp_path: Path, task_of: Make, vocabulary_of: Vocabularies
) -> None:
    text = "\t".join(columns) + "\n" + "\t".join(ROW[name] for name in columns) + "\n"
    (tmp_path / "alpaca.tsv").write_text(text)
    rows = read_rows(tmp_path / "alpaca.tsv", needs=COLUMNS[kind])
    family = "llama" if kind == "causal-lm" else "t5"
    vocabulary = type(vocabulary_of(family)).of(vocabulary_of(family).tokenizer, 512, 0)
    (feature,) = task_of(kind, rows).encode(rows, vocabulary).features
    read = vocabulary.tokenizer.decode([*feature.inputs["input_ids"], *([] if kind == "causal-lm" else feature.labels)])
    for name in columns:
        assert "".join(ROW[name].split()).lower() in "".join(read.split()).lower()


def test_a_prompt_that_is_named_stays_as_it_is(task_of: Make, vocabulary_of: Vocabularies) -> None:
    row = {"prompt": "Name the animal.", "instruction": "Name the animal.", "completion": " a dog"}
    vocabulary = vocabulary_of("llama")
    (feature,) = task_of("causal-lm", [row]).encode([row], vocabulary, "predict").features
    assert feature.inputs["input_ids"] == vocabulary.tokenizer("Name the animal.")["input_ids"]
    task = task_of("causal-lm", [row])
    assert task.problem_of({"instruction": 3}, "predict") == "instruction is int, expected text"
    assert task.problem_of({"instruction": "x"}, "train") == "no completion"
    assert task.problem_of({"instruction": "x", "input": ["y"]}, "predict") == "input is list, expected text"
