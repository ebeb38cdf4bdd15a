"""Verbs under a launcher: each process does its share, and what comes out, once, is what one process finds."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adapterkit.cli.app import app
from adapterkit.evaluation import probe
from tests.training.ranks import together, torchrun
from tests.training.worlds import recipe, rows_of, train, write_rows

# Python 3.12 warns of forks beside threads; nothing here waits for a lock of another thread.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, tiny_folders: Mapping[str, Path]) -> Path:
    folder = tmp_path_factory.mktemp("several")
    return Path(train(recipe(folder, tiny_folders["bert"], training={"max_steps": 4})).artifact)


def said_by(ranks: int, words: list[str], folder: Path) -> list[str]:
    """What each process of a launch prints on standard output."""

    def act() -> None:
        with (folder / f"{os.environ['RANK']}.out").open("w") as out, redirect_stdout(out):
            app(words, standalone_mode=False)

    together(ranks, act)
    return [(folder / f"{rank}.out").read_text() for rank in range(ranks)]


@pytest.mark.parametrize("count", [1, 11])
def test_three_processes_answer_in_row_order_what_one_answers_and_the_first_one_writes_it(
    artifact: Path, tmp_path: Path, count: int
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", rows_of("text-classification", count))
    words = ["predict", str(artifact), rows, "--json"]
    alone = [json.loads(line) for line in CliRunner().invoke(app, words).stdout.splitlines()]
    first, *others = said_by(3, words, tmp_path)
    found = [json.loads(line) for line in first.splitlines()]
    assert len(found) == count
    assert others == ["", ""]
    for ours, theirs in zip(found, alone, strict=True):
        assert ours.keys() == theirs.keys()
        assert ours["label"] == theirs["label"]
        # Rows have other neighbours, by which sums differ in their last bits.
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-6)


def test_bad_rows_keep_their_places_and_standard_input_is_read_by_the_first_process(
    artifact: Path, tmp_path: Path
) -> None:
    lines = '{"text": "lost card"}\nno object\n{"text": "found boat"}\n{"text": "lost moth"}\n'
    words = ["predict", str(artifact), "--errors", "skip", "--json"]
    alone = CliRunner().invoke(app, words, input=lines)
    assert alone.exit_code == 3
    given, into = os.pipe()  # whoever reads takes it from the others
    os.write(into, lines.encode())
    os.close(into)

    def enter() -> None:
        os.dup2(given, 0)

    with torchrun(["--standalone", "--nproc_per_node", "2"], words, tmp_path / "log", enter) as launcher:
        launcher.join(60)
    os.close(given)
    said = (tmp_path / "log").read_text()
    found, expected = (
        [json.loads(line) for line in one.splitlines() if line.startswith("{")] for one in (said, alone.stdout)
    )
    assert [row.get("label", "none") for row in found] == [row.get("label", "none") for row in expected]
    assert ["error" in row for row in found] == [False, True, False, False]
    assert said.count("1 of 4 rows cannot be answered") == 1


@pytest.mark.parametrize("cached", [False, True], ids=["computed", "kept"])
def test_two_processes_probe_as_one(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    monkeypatch.setenv("ADAPTERKIT_CACHE", str(tmp_path / "cache"))
    rows = rows_of("text-classification", 60)
    data: Any = write_rows(tmp_path / "rows.jsonl", [*rows, *rows[:7]])  # some are read twice
    one = probe(str(artifact), data, cache=False).to_dict()

    def act() -> None:
        from adapterkit.training.environment import launched_processes

        accelerator = launched_processes()
        assert accelerator is not None
        for _ in range(2 if cached else 1):
            found = probe(str(artifact), data, cache=cached, accelerator=accelerator).to_dict()
        (tmp_path / f"{accelerator.process_index}.json").write_text(json.dumps(found))

    together(2, act)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second == json.loads(json.dumps(one))
