"""A run over kept states learns what it learns without them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import adapterkit as ak
from adapterkit.errors import TrainingError
from adapterkit.training.trunk_cache import cut, entries, prepare, segment, store
from adapterkit.training.trunk_cache.cut import Shortcut
from tests.training.worlds import bytes_of, losses, recipe, rows_of, train, write_rows

TOP_1 = {"kind": "lora", "rank": 4, "top": 1}
STEPS, FEW = 50, 8

CASES: list[tuple[str, str, dict[str, Any], dict[str, Any], int]] = [
    ("bert", "text-classification", {"kind": "none"}, {"kind": "linear", "pooling": "mean"}, STEPS),
    ("bert", "text-classification", {"kind": "none"}, {"kind": "attention"}, FEW),
    ("roberta", "text-classification", {"kind": "none"}, {"kind": "family"}, FEW),
    ("roberta", "multiple-choice", {"kind": "none"}, {"kind": "linear", "pooling": "first", "normalize": True}, FEW),
    ("bert", "text-classification", TOP_1, {}, FEW),
    ("bert", "text-classification", {"kind": "lora", "rank": 4, "top": 2, "sites": "all-linear"}, {}, STEPS),
    ("modernbert", "token-classification", {"kind": "lora", "rank": 4, "top": 2}, {}, FEW),
    ("distilbert", "question-answering", {"kind": "bottleneck", "placement": "houlsby", "width": 4, "top": 1}, {}, FEW),
    ("gpt2", "causal-lm", TOP_1, {}, FEW),
    ("qwen2", "causal-lm", {"kind": "bottleneck", "placement": "parallel", "width": 4, "top": 1}, {}, FEW),
    ("t5", "seq2seq-lm", TOP_1, {}, FEW),
    ("bart", "seq2seq-lm", {"kind": "bottleneck", "placement": "houlsby", "width": 4, "top": 1}, {}, FEW),
    ("t5", "text-classification", {"kind": "none"}, {"kind": "linear"}, FEW),
]
"""Family, kind, method, head: every kind of stack, cut at every kind of place; and the steps."""


def settings(steps: int) -> dict[str, Any]:
    return {"epochs": 100, "max_steps": steps, "evaluate_every": steps, "learning_rate": 5e-3}


def plan(folder: Path, backbone: Any, cache: Any, **blocks: Any) -> dict[str, Any]:
    """A recipe that keeps states in a folder, or does not."""
    training = {"cache": str(cache), **blocks.pop("training", {})}
    kind = blocks.pop("kind", "text-classification")
    return recipe(folder, backbone, kind, training=training, **{"method": TOP_1, **blocks})


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each batch that a shortcut was asked for was answered by it."""
    seen: list[bool] = []
    plain = Shortcut.__call__

    def watched(self: Shortcut, inputs: Any, at: Any = None) -> Any:
        logits = plain(self, inputs, at)
        seen.append(logits is not None)
        return logits

    monkeypatch.setattr(Shortcut, "__call__", watched)
    return seen


@pytest.mark.parametrize(
    ("family", "kind", "method", "head", "steps"), CASES, ids=lambda value: str(value).replace(" ", "")
)
def test_losses_are_those_of_a_run_that_keeps_nothing(
    tiny_backbones: Any,
    tmp_path: Path,
    answered: list[bool],
    family: str,
    kind: str,
    method: Any,
    head: Any,
    steps: int,
) -> None:
    backbone = tiny_backbones[family]
    few = write_rows(tmp_path / "few.jsonl", rows_of(kind, 4))
    blocks = {"kind": kind, "method": method, "head": head, "training": settings(steps), "data": {"test": few}}
    plain = train(plan(tmp_path, backbone, "off", output=str(tmp_path / "off"), **blocks), backbone=backbone)
    assert answered == []
    kept = train(plan(tmp_path, backbone, tmp_path / "c", output=str(tmp_path / "on"), **blocks), backbone=backbone)
    assert len(answered) >= steps
    assert all(answered)
    expected, found = losses(plain.artifact), losses(kept.artifact)
    assert len(found) == steps
    assert found == pytest.approx(expected, abs=1e-5)
    for name, metric in plain.metrics["test"].items():
        assert kept.metrics["test"][name].value == pytest.approx(metric.value, rel=1e-5)


@pytest.mark.parametrize("kind", ["token-classification", "causal-lm"])
def test_short_rows_of_different_lengths_are_kept_too(
    tiny_backbones: Any, tmp_path: Path, answered: list[bool], kind: str
) -> None:
    """The rows on which a cut is tried out have padding then, whose logits are nobody's."""
    backbone = tiny_backbones[{"token-classification": "bert", "causal-lm": "gpt2"}[kind]]
    short = {
        "token-classification": [{"tokens": ["a"] * number, "tags": ["O"] * number} for number in (1, 1, 1, 6)],
        "causal-lm": [{"text": " ".join(["a"] * number)} for number in (2, 2, 2, 9)],
    }[kind]
    rows = write_rows(tmp_path / "short.jsonl", [*short, *rows_of(kind, 30)])
    method = {"kind": "lora", "rank": 2, "top": 1}
    train(plan(tmp_path, backbone, tmp_path / "c", kind=kind, method=method, data={"train": rows}), backbone=backbone)
    assert answered
    assert all(answered)


def test_the_second_run_computes_nothing_anew(tiny_backbones: Any, tmp_path: Path, monkeypatch: Any) -> None:
    backbone, cache = tiny_backbones["bert"], tmp_path / "cache"
    first = train(plan(tmp_path, backbone, cache), backbone=backbone)
    (entry,) = entries(cache)
    assert (entry.layer, entry.pooling, entry.rows) == (2, "", 52)

    def refuse(*_: Any) -> None:
        raise AssertionError("states were written")

    monkeypatch.setattr(store, "write_segment", refuse)
    again = train(plan(tmp_path, backbone, cache, output=str(tmp_path / "again")), backbone=backbone)
    assert losses(again.artifact) == losses(first.artifact)
    assert bytes_of(again.artifact) == bytes_of(first.artifact)


def test_another_seed_task_or_length_uses_what_is_kept_of_the_same_texts(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone, cache = tiny_backbones["bert"], tmp_path / "cache"
    train(plan(tmp_path, backbone, cache), backbone=backbone)
    train(plan(tmp_path, backbone, cache, training={"seed": 3}), backbone=backbone, overwrite=True)
    train(plan(tmp_path, backbone, cache, task={"max_tokens": 100}), backbone=backbone, overwrite=True)
    rows = [{**row, "label": [row["label"], "text"]} for row in rows_of("text-classification", 40)]
    other, test = write_rows(tmp_path / "other.jsonl", rows), write_rows(tmp_path / "test.jsonl", rows[:5])
    train(plan(tmp_path, backbone, cache, data={"train": other, "test": test}), backbone=backbone, overwrite=True)
    assert [entry.rows for entry in entries(cache)] == [52]
    # Cut to three tokens, most texts are other texts.
    train(plan(tmp_path, backbone, cache, task={"max_tokens": 4}), backbone=backbone, overwrite=True)
    assert entries(cache)[0].rows > 52


def test_a_stopped_run_goes_on_with_or_without_the_cache(
    tiny_backbones: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, cache = tiny_backbones["bert"], tmp_path / "cache"
    whole = train(plan(tmp_path, backbone, cache, output=str(tmp_path / "whole")), backbone=backbone)
    from adapterkit.training import run

    for name, setting in (("kept", cache), ("plain", "off")):
        stopped = plan(tmp_path, backbone, cache, output=str(tmp_path / name))
        with monkeypatch.context() as patch:
            reported, count = run._report, [0]

            def stop(*arguments: Any, count: list[int] = count, reported: Any = reported) -> None:
                reported(*arguments)
                count[0] += 1
                if count[0] == 6:
                    raise KeyboardInterrupt

            patch.setattr(run, "_report", stop)
            with pytest.raises(KeyboardInterrupt):
                train(stopped, backbone=backbone)
        resumed = train(plan(tmp_path, backbone, setting, output=str(tmp_path / name)), backbone=backbone, resume=True)
        tolerance = 0.0 if setting == cache else 1e-5
        assert losses(resumed.artifact) == pytest.approx(losses(whole.artifact), abs=tolerance)


def test_a_changed_backbone_or_layer_finds_nothing(fresh_backbone: Any, tiny_folders: Any, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    cache = tmp_path / "cache"
    backbone = fresh_backbone("bert")
    train(plan(tmp_path, backbone, cache), backbone=backbone)
    train(plan(tmp_path, backbone, cache, method={**TOP_1, "top": 2}), backbone=backbone, overwrite=True)
    assert sorted((entry.layer, entry.rows) for entry in entries(cache)) == [(1, 52), (2, 52)]
    changed = tmp_path / "bert"
    shutil.copytree(tiny_folders["bert"], changed)
    tensors = load_file(changed / "model.safetensors")
    name = next(name for name in tensors if name.endswith("layer.0.output.dense.bias"))
    tensors[name] = tensors[name] + 1.0
    save_file(tensors, changed / "model.safetensors", {"format": "pt"})
    train(plan(tmp_path, ak.Backbone.load(changed, dtype="float32", device="cpu"), cache), overwrite=True)
    assert sorted((entry.layer, entry.rows) for entry in entries(cache)) == [(1, 52), (2, 52), (2, 52)]


def test_a_backbone_that_was_changed_in_memory_does_not_read_the_states_of_another(
    fresh_backbone: Any, tmp_path: Path, capsys: Any, answered: list[bool]
) -> None:
    backbone = fresh_backbone("bert")
    train(plan(tmp_path, backbone, tmp_path / "cache"), backbone=backbone, quiet=False)
    answered.clear()
    with torch.no_grad():
        backbone.trunk.encoder.layer[0].output.dense.weight.neg_()
    train(plan(tmp_path, backbone, tmp_path / "cache"), backbone=backbone, overwrite=True, quiet=False)
    assert "not used" in capsys.readouterr().err
    assert answered == []


def test_a_full_disk_does_not_stop_the_run(
    tiny_backbones: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    backbone, written = tiny_backbones["bert"], []

    def nearly_full(folder: Path, rows: Any, tagger: Any) -> Path:
        written.append(len(rows))
        if len(written) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return segment.write_segment(folder, rows, tagger)

    plain = train(plan(tmp_path, backbone, "off", output=str(tmp_path / "off")), backbone=backbone)
    monkeypatch.setattr(store, "write_segment", nearly_full)
    monkeypatch.setattr(store, "SEGMENT_BYTES", 10_000)
    kept = train(plan(tmp_path, backbone, tmp_path / "cache"), backbone=backbone, quiet=False)
    said = capsys.readouterr().err
    assert "cannot be written" in said
    assert "No space left on device" in said
    assert "will be computed each time" in said
    assert losses(kept.artifact) == pytest.approx(losses(plain.artifact), abs=1e-5)


def test_a_folder_that_cannot_be_written_does_not_stop_the_run(
    tiny_backbones: Any, tmp_path: Path, capsys: Any
) -> None:
    backbone = tiny_backbones["bert"]
    (tmp_path / "file").write_text("in the way")
    train(plan(tmp_path, backbone, tmp_path / "file"), backbone=backbone, quiet=False)
    said = capsys.readouterr().err
    assert "cannot be written" in said
    assert "nothing could be kept" in said


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        ({"kind": "masked-lm"}, "draws new masks"),
        ({"method": {"kind": "lora", "rank": 4}}, "nothing lies below it"),
        ({"method": {"kind": "lora", "rank": 4, "top": 1, "bias": "all"}}, "nothing lies below it"),
        ({"data": {"streaming": True}, "training": {"max_steps": 3}}, "streamed rows"),
    ],
    ids=["masked-lm", "first-layer", "all-biases", "stream"],
)
def test_where_nothing_can_be_kept_the_run_says_why(
    tiny_backbones: Any, tmp_path: Path, capsys: Any, blocks: dict[str, Any], reason: str
) -> None:
    backbone = tiny_backbones["bert"]
    train(plan(tmp_path, backbone, tmp_path / "cache", **blocks), backbone=backbone, quiet=False)
    assert reason in capsys.readouterr().err
    assert entries(tmp_path / "cache") == []


def test_auto_says_what_it_expects_and_off_says_nothing(
    tiny_backbones: Any, tmp_path: Path, capsys: Any, cache_folder: Path
) -> None:
    backbone = tiny_backbones["bert"]
    train(plan(tmp_path, backbone, "auto", training={"epochs": 20}), backbone=backbone, quiet=False)
    said = capsys.readouterr().err
    assert "trunk cache: 52 texts below layer 2 of 3" in said
    assert "an epoch 1.5 times faster" in said
    assert str(cache_folder / "trunk") in said
    train(plan(tmp_path, backbone, "off"), backbone=backbone, overwrite=True, quiet=False)
    assert "trunk cache" not in capsys.readouterr().err


def test_a_family_that_answers_otherwise_when_split_is_not_split(
    tiny_backbones: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, answered: list[bool]
) -> None:
    backbone = tiny_backbones["bert"]
    halves = cut.below
    monkeypatch.setattr(cut, "below", lambda *of: lambda **inputs: halves(*of)(**inputs) + 0.1)
    train(plan(tmp_path, backbone, tmp_path / "cache"), backbone=backbone, quiet=False)
    assert "answers otherwise when it is split" in capsys.readouterr().err
    assert answered == []


def test_the_setting_is_not_part_of_what_a_checkpoint_has_to_agree_on(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    with pytest.raises(TrainingError, match="no checkpoint"):
        train(plan(tmp_path, backbone, "off"), backbone=backbone, resume=True)


def test_the_artifact_proves_what_the_whole_model_answers(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    result = train(plan(tmp_path, backbone, tmp_path / "cache"), backbone=backbone)
    assert ak.verify(result.artifact, backbone).ok
    assert json.loads((result.artifact / "adapterkit.json").read_text())["golden"]["rows"]


def test_the_root_is_the_recipes_folder_or_adapterkits_own(cache_folder: Path, tmp_path: Path) -> None:
    assert prepare.cache_root() == cache_folder / "trunk"
    assert prepare.cache_root(str(tmp_path)) == tmp_path
