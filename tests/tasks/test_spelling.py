"""Stand-ins: written, read back, and what a tokenizer loses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import adapterkit as ak
from adapterkit.recipe import TaskSettings
from adapterkit.tasks.seq2seq_lm import Spelling, unwritable_note
from adapterkit.tasks.values import Vocabulary
from tests.tasks.test_protocol import Make, Vocabularies
from tests.training.worlds import recipe, train, write_rows

KIND = "seq2seq-lm"


def test_all_are_replaced_at_once_and_the_longest_first() -> None:
    spelling = Spelling({"a": "b", "b": "a", "ab": "c"})
    assert spelling.write("a b ab abab ba") == "b a c cc ab"
    assert spelling.read("b a c cc ab") == "a b ab abab ba"


def test_without_stand_ins_a_text_stays_as_it_is() -> None:
    assert Spelling({}).write("a.b") == "a.b"


def test_signs_of_patterns_are_only_themselves() -> None:
    spelling = Spelling({".*": "!", "[": "("})
    assert spelling.write("a.*[b") == "a!(b"
    assert spelling.read("a!(b") == "a.*[b"


@given(
    st.dictionaries(st.text("{}_\\.", min_size=1, max_size=3), st.integers(0, 9), max_size=6),
    st.text("{}_\\.ab ", max_size=40),
)
def test_what_is_written_with_texts_that_stand_nowhere_else_is_read_back(numbers: dict[str, int], text: str) -> None:
    spelling = Spelling({found: f"<{place}>" for place, found in enumerate(numbers)})
    assert spelling.read(spelling.write(text)) == text


def test_two_texts_with_one_stand_in_are_refused() -> None:
    with pytest.raises(ValueError, match="spelling: holds '-' more than once"):
        TaskSettings(kind=KIND, spelling={"_": "-", "~": "-"})


def note(vocabulary: Vocabulary, targets: list[str], spelling: Spelling, cut: tuple[int, ...] = ()) -> str:
    ids = [vocabulary.tokenizer(spelling.write(target))["input_ids"] for target in targets]
    return unwritable_note(
        targets, [None if place in cut else found for place, found in enumerate(ids)], vocabulary, spelling
    )


def test_what_a_tokenizer_loses_is_named_and_a_stand_in_ends_it(vocabulary_of: Vocabularies) -> None:
    vocabulary = vocabulary_of("t5")
    targets = ["turn left", "turn☃left", "run  and jump", "run☃☃and\x07jump"]
    said = note(vocabulary, targets, Spelling({}))
    assert said.startswith("the tokenizer cannot write 2 of 4 targets: it loses '☃', '\\x07'. ")
    assert note(vocabulary, targets[:3], Spelling({"☃": " to "})) == ""
    assert note(vocabulary, targets, Spelling({}), cut=(1, 3)) == ""


def test_a_text_that_reads_back_as_another_is_named(vocabulary_of: Vocabularies) -> None:
    said = note(vocabulary_of("t5"), ["turn left", "right"], Spelling({"right": "left"}))
    assert "1 of 2 targets" in said


def test_a_trained_adapter_sees_stand_ins_and_everybody_else_the_texts(
    tiny_backbones: Any, task_of: Make, vocabulary_of: Vocabularies
) -> None:
    rows = [{"source": "go~left", "target": "turn~left"}, {"source": "go~right", "target": "turn~right"}]
    task, vocabulary = task_of(KIND, rows, spelling={"~": " to "}), vocabulary_of("t5")
    encoded = task.encode(rows, vocabulary)
    assert encoded.notes == []
    read = [
        vocabulary.tokenizer.decode(ids, skip_special_tokens=True)
        for feature in encoded.features
        for ids in (feature.inputs["input_ids"], feature.labels)
    ]
    assert read == ["go to left", "turn to left", "go to right", "turn to right"]
    assert task.answers(rows, ["turn to left"]) == [{"text": "turn~left"}]  # type: ignore[attr-defined]
    found = task.score_texts(rows, ["turn to left", "turn to left"], resamples=0)  # type: ignore[attr-defined]
    assert found["exact_match"].value == 0.5


def test_an_artifact_remembers_them_and_a_run_tells_what_is_lost(
    tiny_backbones: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    backbone = tiny_backbones["t5"]
    plan = recipe(tmp_path, backbone, KIND)
    words = ("left", "right", "and", "jump", "walk", "turn")
    rows = [{"source": f"run {a} {b}", "target": f"run☃{a} {b}"} for a in words for b in words]
    write_rows(tmp_path / f"{KIND}.jsonl", rows)
    train(plan, backbone=backbone, quiet=False)
    said = capsys.readouterr().err
    assert "Note: train: the tokenizer cannot write" in said
    assert "it loses '☃'" in said
    plan["task"]["spelling"] = {"☃": " to "}
    folder = train(plan, backbone=backbone, quiet=False, overwrite=True).artifact
    assert "cannot write" not in capsys.readouterr().err.partition("test:")[0]
    with ak.load(folder, backbone) as loaded:
        assert loaded.task.settings.spelling == {"☃": " to "}
        assert loaded.task.answers([rows[0]], ["run to left left"]) == [{"text": "run☃left left"}]
