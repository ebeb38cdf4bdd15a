"""Stages learned one after another: isolated adapters forget nothing, and one that is trained on is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import adapterkit as ak
from adapterkit.cli.app import app
from adapterkit.errors import OutputError, RecipeError
from adapterkit.records import StreamRecord, read_record
from adapterkit.report.judged import record_page
from adapterkit.stages.course import read_course
from tests.training.worlds import recipe, rows_of, write_rows


def domain(tmp_path: Path, name: str, labels: tuple[str, str]) -> dict[str, Any]:
    """A stage whose labels are its own."""
    rows = [{**row, "label": labels[number % 2]} for number, row in enumerate(rows_of("text-classification", 52))]
    train, test = tmp_path / f"{name}.jsonl", tmp_path / f"{name}-test.jsonl"
    return {"data": {"train": write_rows(train, rows[:40]), "test": write_rows(test, rows[40:])}}


def plan_of(tmp_path: Path, backbone: Any, **changed: Any) -> dict[str, Any]:
    shared = recipe(tmp_path, backbone, data={"validation": None}, training={"epochs": 2})
    del shared["output"]
    # The second says the opposite of the first with other words, so that a head that grows has to give way.
    stages = {"birds": domain(tmp_path, "birds", ("owl", "wren")), "fish": domain(tmp_path, "fish", ("eel", "cod"))}
    return {"recipe": shared, "stages": stages, "output": str(tmp_path / "stream"), **changed}


@pytest.fixture(scope="module")
def followed(tiny_backbones: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, StreamRecord]:
    folder = tmp_path_factory.mktemp("followed")
    plan = plan_of(folder, tiny_backbones["bert"])
    return folder, plan, ak.stream(plan, backbone=tiny_backbones["bert"], quiet=True, resamples=50)


def test_isolated_adapters_forget_exactly_nothing_and_the_one_trained_on_is_compared_with_them(
    tiny_backbones: Any, followed: tuple[Path, Any, StreamRecord]
) -> None:
    folder, plan, record = followed
    isolated, through = record.ways["isolated"], record.ways["through"]
    lost = isolated.forgetting["birds"]
    assert (lost.difference, lost.low, lost.high) == (0.0, 0.0, 0.0)
    assert list(through.after["birds"]) == ["birds"]
    assert list(through.after["fish"]) == ["birds", "fish"]
    # What `evaluate` says of each artifact on each file is what stands in the record.
    for way, stage, known, holder in (
        ("isolated", "fish", "birds", "isolated/birds"),
        ("through", "fish", "birds", "through/fish"),
        ("through", "fish", "fish", "through/fish"),
    ):
        test = plan["stages"][known]["data"]["test"]
        found = ak.evaluate(folder / "stream" / holder, test, backbone=tiny_backbones["bert"], resamples=50)
        assert record.ways[way].after[stage][known].value == found["accuracy"].value
    forgotten = through.after["fish"]["birds"].value - through.after["birds"]["birds"].value
    assert through.forgetting["birds"].difference == forgotten < 0
    assert (
        record.against["through"]["birds"].difference == forgotten
    )  # since both have learned birds in one and the same run


def test_each_stage_names_the_one_before_as_its_parent_and_its_head_grows(
    followed: tuple[Path, Any, StreamRecord],
) -> None:
    folder, _, record = followed
    first = json.loads((folder / "stream" / "isolated" / "birds" / "adapterkit.json").read_text())
    second = json.loads((folder / "stream" / "through" / "fish" / "adapterkit.json").read_text())
    assert second["parent"] == first["sha256"]
    assert second["task"]["labels"] == ["owl", "wren", "cod", "eel"]
    assert record.ways["through"].answering["birds"].sha256 == second["sha256"]
    assert record.ways["isolated"].answering["birds"].sha256 == first["sha256"]


def test_a_stream_that_goes_on_keeps_what_has_ended_and_says_the_same(
    tiny_backbones: Any, followed: tuple[Path, Any, StreamRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plan, record = followed

    def train(*anything: Any, **more: Any) -> None:
        raise AssertionError("nothing is left to train")

    with pytest.raises(OutputError):
        ak.stream(plan, backbone=tiny_backbones["bert"], quiet=True)
    monkeypatch.setattr("adapterkit.stages.streaming.train", train)
    assert ak.stream(plan, backbone=tiny_backbones["bert"], resume=True, quiet=True, resamples=50) == record
    other = {**plan, "recipe": {**plan["recipe"], "method": {"kind": "lora", "rank": 2}}}
    with pytest.raises(OutputError, match="not what this course trains"):
        ak.stream(other, backbone=tiny_backbones["bert"], resume=True, quiet=True)


def test_the_record_is_read_back_and_has_a_page(followed: tuple[Path, Any, StreamRecord], tmp_path: Path) -> None:
    record = followed[2]
    file = tmp_path / "record.json"
    file.write_text(json.dumps(record.to_dict()))
    assert read_record(StreamRecord, file) == record
    page = record_page(record, "adapterkit stream plan.yaml")
    assert "through, lost of birds" in page
    assert record.ways["isolated"].answering["fish"].sha256[:12] in page


def test_every_problem_of_every_stage_is_told_at_once(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, tmp_path)
    plan["stages"]["birds"]["training"] = {"epochs": 0, "start_from": "runs/a"}
    plan["stages"]["fish"]["task"] = {"kind": "token-classification"}
    plan["stages"]["fish"]["data"]["test"] = None
    plan["stages"]["newts"] = {"backbone": {"name": "another"}, "training": {"start_from": "runs/a"}}
    with pytest.raises(RecipeError) as refused:
        read_course(plan)
    found = "\n".join(refused.value.problems)
    for told in (
        "stages.birds: training.epochs: found 0, expected a number > 0",
        "stages.fish.data.test: found null",
        "stages.newts.training.start_from: is what the way through sets",
        "stages: one backbone is under all of them",
        "stages: one head answers them on the way through, and they differ (fish: token-classification, newts: text",
    ):
        assert told in found


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"stages": {"one": {}}}, "stages: found {'one': {}}, expected at least 2 of them"),
        ({"ways": ["sideways"]}, "ways[0]: found 'sideways', expected isolated, through or joint"),
        ({"stage": 1}, "stage: is not a known name"),
        ({"stages": {"../up": {}, "b": {}}}, "stages"),
    ],
    ids=["one stage", "way", "unknown", "a path"],
)
def test_what_is_no_course_is_refused(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match="not a valid course") as refused:
        read_course({**plan_of(tmp_path, tmp_path), **changed})
    assert told in str(refused.value)


def test_the_command_prints_a_table_and_a_sentence_for_each_way(
    followed: tuple[Path, Any, StreamRecord], tmp_path: Path
) -> None:
    _, plan, record = followed
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan))
    done = CliRunner().invoke(app, ["stream", str(file), "--resume", "--quiet", "--report", str(tmp_path / "p.html")])
    assert done.exit_code == 0, done.output
    assert "isolated: birds +0.000 [+0.000, +0.000]" in done.output
    assert (tmp_path / "p.html").is_file()
    assert record.findings[0].startswith("isolated: birds +0.000")
