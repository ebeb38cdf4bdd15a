"""What is seen in files, and what it is taken for."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from adapterkit.errors import DataError
from adapterkit.recipe import load_recipe
from adapterkit.survey import look, recipe_text

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
PAIRS = [("a red fox ran home", "x"), ("the old boat sank", "y"), ("we sang all night", "x"), ("no rain today", "y")]
ANSWER = {"text": ["fox"], "answer_start": [6]}

# Rows, kind, columns, problem.
CASES: dict[str, tuple[list[dict[str, Any]], str, dict[str, str], str]] = {
    "one label": (
        [{"text": text, "label": label} for text, label in PAIRS],
        "text-classification",
        {"text": "text", "label": "label"},
        "single-label",
    ),
    "names of one's own": (
        [{"id": str(n), "said": text, "queue": label} for n, (text, label) in enumerate(PAIRS)],
        "text-classification",
        {"text": "said", "label": "queue"},
        "single-label",
    ),
    "lists of labels": (
        [{"text": text, "labels": [label, "z"]} for text, label in PAIRS],
        "text-classification",
        {"text": "text", "label": "labels"},
        "multi-label",
    ),
    "fractions": (
        [{"text": text, "score": n + 0.5, "label": n + 0.5} for n, (text, _) in enumerate(PAIRS)],
        "text-classification",
        {"text": "text", "label": "label"},
        "regression",
    ),
    "words and tags": (
        [{"tokens": text.split(), "ner_tags": ["O"] * len(text.split())} for text, _ in PAIRS],
        "token-classification",
        {"tokens": "tokens", "tags": "ner_tags"},
        "",
    ),
    "questions": (
        [{"question": f"what {n}?", "context": text, "answers": ANSWER} for n, (text, _) in enumerate(PAIRS)],
        "question-answering",
        {"question": "question", "context": "context", "answers": "answers"},
        "",
    ),
    "choices": (
        [{"question": text, "choices": ["a", "b"], "answer": "a"} for text, _ in PAIRS],
        "multiple-choice",
        {"question": "question", "choices": "choices", "label": "answer"},
        "",
    ),
    "chats": (
        [{"messages": [{"role": "user", "content": text}]} for text, _ in PAIRS],
        "causal-lm",
        {"messages": "messages"},
        "",
    ),
    "prompts": (
        [{"prompt": text, "completion": text.upper()} for text, _ in PAIRS],
        "causal-lm",
        {"prompt": "prompt", "completion": "completion"},
        "",
    ),
    "summaries": (
        [{"document": text * 3, "summary": text} for text, _ in PAIRS],
        "seq2seq-lm",
        {"source": "document", "target": "summary"},
        "",
    ),
    "texts": ([{"text": text} for text, _ in PAIRS], "causal-lm", {"text": "text"}, ""),
}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("case", CASES)
def test_rows_are_taken_for_what_they_are_and_the_recipe_loads(case: str, tmp_path: Path) -> None:
    rows, kind, columns, problem = CASES[case]
    survey = look([write(tmp_path / "rows.jsonl", rows)])
    assert (survey.guess.kind, survey.guess.columns, survey.problem) == (kind, columns, problem)
    recipe = tmp_path / "rows.yaml"
    recipe.write_text(recipe_text(survey, "runs/rows", "adapterkit train rows.yaml"), encoding="utf-8")
    loaded = load_recipe(recipe)
    assert loaded.task.kind == kind
    assert loaded.data.columns in (columns, {})
    assert loaded.task.problem == (problem if problem in ("multi-label", "regression") else "auto")


def test_a_wrong_guess_is_put_right_by_kind_and_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": text, "note": label * 3, "label": label} for text, label in PAIRS])
    asked = look([path], kind="seq2seq-lm", columns={"source": "text", "target": "note"})
    assert asked.guess.columns == {"source": "text", "target": "note"}
    with pytest.raises(DataError) as caught:
        look([path], kind="question-answering")
    assert "question-answering needs question" in "\n".join(caught.value.problems)
    assert "'note' (text)" in caught.value.problems[0]


def test_a_text_by_itself_is_for_what_the_backbone_was_made_for(
    tmp_path: Path, tiny_folders: Mapping[str, Path]
) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": text} for text, _ in PAIRS])
    for family, kind in (("bert", "masked-lm"), ("gpt2", "causal-lm")):
        survey = look([path], backbone=str(tiny_folders[family]))
        assert survey.guess.kind == kind
        assert survey.lengths.tokens is not None


def test_counts_repeats_conflicts_and_what_splits_share(tmp_path: Path) -> None:
    rows = [{"text": text, "label": label} for text, label in PAIRS]
    train = [*rows, {"text": "A red  fox ran HOME", "label": "x"}, {"text": "no rain today", "label": "x"}]
    paths = [
        write(tmp_path / "train.jsonl", train),
        write(tmp_path / "test.jsonl", [rows[0], {"text": "b", "label": "y"}]),
    ]
    survey = look(paths)
    assert survey.rows == {"train": 6, "test": 2}
    assert survey.labels == {"x": 4, "y": 2}
    assert survey.repeats.equal == 2
    assert survey.repeats.conflicts == ((4, 6),)
    assert survey.shared == {"test": 1}
    assert survey.lengths.words == (4, 5, 5, 5)  # of 3, 3, 4, 4, 5, 5
    assert survey.lengths.characters[-1] == len("A red  fox ran HOME")


def test_two_files_of_one_split_are_refused(tmp_path: Path) -> None:
    rows = [{"text": text, "label": label} for text, label in PAIRS]
    with pytest.raises(DataError, match="Two files are for train"):
        look([write(tmp_path / "a.jsonl", rows), write(tmp_path / "b.jsonl", rows)])


def test_a_folder_brings_its_splits(tmp_path: Path) -> None:
    rows = [{"text": text, "label": label} for text, label in PAIRS]
    write(tmp_path / "train.jsonl", rows)
    write(tmp_path / "dev.jsonl", rows[:2])
    survey = look([tmp_path])
    assert survey.rows == {"train": 4, "validation": 2}
    assert survey.shared == {"validation": 2}


def test_an_unread_column_of_a_usual_name_is_told_of(tmp_path: Path) -> None:
    rows = [{"text": text, "sentence": text, "label": label} for text, label in PAIRS]
    notes = look([write(tmp_path / "a.jsonl", rows)]).notes
    assert notes == ("column 'sentence' is not read, though its name is usual for text",)


def test_a_survey_needs_no_library_of_models(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", CASES["one label"][0])
    code = f"import sys; from adapterkit.survey import look; look([{str(path)!r}])"
    code += "; print(*sorted({'torch', 'transformers', 'datasets', 'pandas', 'peft'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


KINDS = {
    "banking77": "text-classification",
    "commonsenseqa": "multiple-choice",
    "e2e_small": "seq2seq-lm",
    "scan_simple": "seq2seq-lm",
    "squad_small": "question-answering",
    "tinyshakespeare": "causal-lm",
    "ud_ewt_upos": "token-classification",
    "wikitext2_raw_small": "causal-lm",
    "wnut17": "token-classification",
}


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the data sets of ../shared/data")
def test_every_shared_data_set_is_taken_for_what_it_is(tmp_path: Path) -> None:
    found = {}
    for folder in sorted(SHARED.iterdir()):
        survey = look([next(iter(sorted(folder.glob("train.*"))))])
        found[folder.name] = survey.guess.kind
        recipe = tmp_path / f"{folder.name}.yaml"
        recipe.write_text(recipe_text(survey, "runs/a", "adapterkit train a.yaml"), encoding="utf-8")
        assert load_recipe(recipe).task.kind == survey.guess.kind
    assert found == KINDS


def test_a_folder_of_plain_text_is_seen_as_its_files_are(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("One line\nand another.\n\nA second paragraph.\n")
    assert look([folder]).rows == look([folder / "a.txt"]).rows == {"train": 2}
