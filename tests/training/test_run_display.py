"""What a person sees of a run."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

import adapterkit as ak
from adapterkit.metrics import Metric
from adapterkit.training.run_display import RunDisplay
from adapterkit.training.standing import Position
from adapterkit.training.turn import Step
from tests.training.worlds import recipe


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def step_of(number: int) -> Step:
    return Step(number, Position(), 0.25, 1.0, 0.01, 8, 80, 0.1)


def watch(monkeypatch: pytest.MonkeyPatch, where: io.StringIO, *, quiet: bool = False, validate: int = 0) -> str:
    """What is shown of 20 steps, with a validation every so many."""
    monkeypatch.setattr(sys, "stderr", where)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with RunDisplay(quiet=quiet) as console:
        console.warn("one row cannot be used [3]")
        console.begin(20, 0)
        for number in range(1, 21):
            if validate and number % validate == 0:
                metrics = {"f1": Metric(0.5, 0.5, 0.5)}
                console.validation(step_of(number), metrics, "f1", kept=number == validate)
            console.step(step_of(number), 10)
        console.finish()
    return where.getvalue()


def test_without_a_terminal_there_are_ten_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = watch(monkeypatch, io.StringIO()).splitlines()
    assert lines[0] == "Note: one row cannot be used [3]"
    assert lines[1:] == [f"step {number:>6}  loss 0.2500" for number in range(2, 21, 2)]


def test_validations_are_the_lines_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = watch(monkeypatch, io.StringIO(), validate=2).splitlines()
    assert lines[1] == "step      2  loss 0.2500  validation f1 0.5000  (kept)"
    assert lines[2] == "step      4  loss 0.2500  validation f1 0.5000"
    assert len(lines) == 11


def test_a_terminal_has_a_bar_with_loss_and_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = watch(monkeypatch, Terminal(), validate=10)
    for part in ("training", "━", "20/20", "loss 0.2500", "f1 0.5000", "(kept)"):
        assert part in shown


def test_a_quiet_console_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watch(monkeypatch, Terminal(), quiet=True, validate=2) == ""


def test_a_run_shows_notes_validations_and_what_it_does_at_the_end(
    tiny_backbones: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_backbones["bert"]
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    ak.train(recipe(tmp_path, backbone, task={"max_tokens": 6}, training={"max_steps": 2}), backbone=backbone)
    lines = shown.getvalue().splitlines()
    assert [line.split(" ")[0] for line in lines[:3]] == ["Note:"] * 3  # of the cut rows of three splits
    assert "rows cut" in lines[0]
    assert lines[3:7] == [
        "rows: train 32, validation 8, test 12; the state with the best accuracy is kept",
        "labels: 2 (bad 16, good 16)",
        "lengths: 5 to 6 tokens, median 6",
        # Query and value of three layers, each with a rank of 4 at 32 wide; two classes at 32 wide.
        "trained: 1,602 parameters, 1,536 of the method and 66 of the head",
    ]
    assert [line.split()[:2] for line in lines if line.startswith("step")] == [["step", "1"], ["step", "2"]]
    assert [line for line in lines if line.startswith("scoring")] == [
        "scoring 8 validation rows …",
        "scoring 12 test rows …",
    ]
    assert lines[-3] == "test, each label:"
    assert [line.split()[0] for line in lines[-2:]] in (["bad", "good"], ["good", "bad"])
