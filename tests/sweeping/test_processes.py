"""Points of a sweep that are trained in several processes learn what they learn in one."""

from __future__ import annotations

import json
import multiprocessing
import shlex
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

import adapterkit as ak
from adapterkit.errors import SweepError
from adapterkit.sweeping import Budget, Halving
from tests.training.ranks import command
from tests.training.worlds import bytes_of, recipe

RATES = {"training.learning_rate": [0.002, 0.02, 1e30]}
TIMED = ("seconds", "in_one_batch")


def lines(file: Path, *left_out: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in file.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in left_out} for line in found]


def test_two_processes_give_the_bytes_and_the_books_of_one(tmp_path: Path, tiny_folders: Mapping[str, Path]) -> None:
    """One point diverges, which is a result like others."""
    plan = recipe(tmp_path, tiny_folders["bert"])
    one, two = (
        ak.sweep(plan, RATES, processes=count, overrides=[f"output={tmp_path / str(count)}"], quiet=True)
        for count in (1, 2)
    )
    assert lines(one.folder / "results.jsonl", *TIMED) == lines(two.folder / "results.jsonl", *TIMED)
    assert [line["status"] for line in one.points.values()] == ["done", "done", "failed"]
    for name, line in one.points.items():
        if line["status"] == "done":
            assert bytes_of(one.folder / "points" / name) == bytes_of(two.folder / "points" / name)


def test_thinning_out_in_two_processes_drops_what_one_drops(tmp_path: Path, tiny_folders: Mapping[str, Path]) -> None:
    plan = recipe(tmp_path, tiny_folders["bert"], training={"epochs": 4})
    rates = {"training.learning_rate": [0.0002, 0.002, 0.02]}
    halving = Halving(3, Budget.parse("1epoch"))
    for count in (1, 2):
        overrides = [f"output={tmp_path / str(count)}"]
        ak.sweep(plan, rates, halving=halving, processes=count, overrides=overrides, quiet=True)
    for name in ("rungs.jsonl", "results.jsonl"):
        assert lines(tmp_path / "1" / name, *TIMED) == lines(tmp_path / "2" / name, *TIMED)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")  # no lock of another thread is held
def test_a_wish_to_stop_leaves_no_process_and_checkpoints_from_which_the_printed_command_goes_on(
    tmp_path: Path, tiny_folders: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = multiprocessing.get_context("fork")
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: fork)  # a fork server would import everything anew
    file = tmp_path / "plan.json"
    training = {"epochs": 2000, "max_steps": 120, "evaluate_every": 60, "checkpoint_every": 60}
    file.write_text(json.dumps(recipe(tmp_path, tiny_folders["bert"], training=training)))
    words = ["sweep", str(file), "--grid", "seed=0,1", "--processes", "2"]
    journals = [tmp_path / "out-sweep" / "points" / f"seed={seed}" / "training" / "journal.jsonl" for seed in (0, 1)]
    with command(words, tmp_path / "log") as process:
        while process.is_alive() and not all(one.exists() and '"step": 3,' in one.read_text() for one in journals):
            time.sleep(0.02)
        first = psutil.Process(process.pid)
        children = first.children(recursive=True)
        assert len(children) == 2
        first.send_signal(signal.SIGINT)
        process.join(60)
        said = (tmp_path / "log").read_text()
        assert process.exitcode == 130, said
    assert psutil.wait_procs(children, timeout=30)[1] == []
    assert all((one.parent / "checkpoint" / "progress.json").is_file() for one in journals)
    again = said.replace("\n", "").partition("Go on with: ")[2]
    assert shlex.split(again)[-2:] == ["--processes", "2"]
    ak.sweep(str(file), {"seed": [0, 1]}, quiet=True)
    assert [line["steps"] for line in lines(tmp_path / "out-sweep" / "results.jsonl")] == [120, 120]
    assert ['"begin"' in line for one in journals for line in one.read_text().splitlines()].count(True) == 4


@pytest.mark.parametrize(("processes", "together"), [(0, 1), (2, 2)])
def test_processes_that_make_no_sense_are_refused(tmp_path: Path, processes: int, together: int) -> None:
    plan = recipe(tmp_path, tmp_path)
    with pytest.raises(SweepError, match="processes"):
        ak.sweep(plan, {"seed": [0, 1]}, processes=processes, together=together)
