"""The picture of a run. What it looks like was judged by eye; here are its size and its panels."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from adapterkit.training.journal import Journal
from adapterkit.training.plotting import _smooth, plot_run
from tests.training.worlds import recipe, train


def journal_of(path: Path, steps: int, every: int | None, value: float = 0.5) -> Path:
    """A run of so many steps with a validation every so many."""
    with Journal(path) as journal:
        journal.write("begin", step=0)
        for step in range(1, steps + 1):
            journal.write("step", step=step, loss=1.0 / step)
            if every and step % every == 0:
                journal.write("validation", step=step, metrics={"accuracy": value}, kept=step == every)
    return path


def size_of(picture: Path) -> tuple[int, int]:
    """Width and height in the header of a PNG file (RFC 2083, section 3.2 and 4.1.1)."""
    raw = picture.read_bytes()
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", raw[16:24])
    return width, height


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The labels of the vertical axes of every picture that is drawn."""
    drawn: list[Any] = []
    save = Figure.savefig

    def savefig(self: Figure, *arguments: Any, **named: Any) -> None:
        drawn.append([axes.get_ylabel() for axes in self.axes])
        save(self, *arguments, **named)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return drawn


LOSS, SCORE = "training loss", "validation accuracy"


@pytest.mark.parametrize(
    ("steps", "every", "labels"),
    [
        (200, 20, [LOSS, SCORE]),
        (1, 1, [LOSS, SCORE]),
        (1, None, [LOSS]),
        (30, None, [LOSS]),
        (0, None, [LOSS]),
    ],
)
def test_a_picture_has_a_panel_for_what_there_is(
    tmp_path: Path, panels: list[Any], steps: int, every: int | None, labels: list[str]
) -> None:
    plot_run(journal_of(tmp_path / "j", steps, every), tmp_path / "p.png", "accuracy", "a title")
    assert panels == [labels]
    width, height = size_of(tmp_path / "p.png")
    assert 600 <= width <= 1200
    assert 400 <= height <= 600


def test_a_metric_that_was_never_a_number_has_no_panel(tmp_path: Path, panels: list[Any]) -> None:
    plot_run(journal_of(tmp_path / "j", 4, 2, math.nan), tmp_path / "p.png", "accuracy", "a title")
    assert panels == [[LOSS]]


def test_the_running_mean_is_over_the_last_steps() -> None:
    assert _smooth([4.0]) == [4.0]
    # 40 steps, of which a twentieth is 2.
    assert _smooth([float(number) for number in range(40)])[:4] == [0.0, 0.5, 1.5, 2.5]


def test_a_run_leaves_a_picture(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    plan = recipe(tmp_path, backbone, training={"max_steps": 2})
    artifact = train(plan, backbone=backbone, picture=True).artifact
    assert size_of(artifact / "training" / "training.png")[0] > 600
