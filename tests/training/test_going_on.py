"""Runs that a launcher started are stopped, killed and started again, and go on by themselves."""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from torch.distributed import HashStore
from typer.testing import CliRunner

from adapterkit.cli.app import app
from adapterkit.errors import OutputError, TrainingError
from adapterkit.training import Paused, environment, meeting
from tests.training.ranks import as_rank, by_ranks, free_port
from tests.training.worlds import bytes_of, entries, events, recipe, train

# Python 3.12 warns of forks beside threads; nothing here waits for a lock of another thread.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

SCRIPTS = Path(sys.executable).parent
PATH = {**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def plan_of(folder: Path, backbone: Path, **training: Any) -> Path:
    """A recipe with dropout, as a file."""
    plan = recipe(folder, backbone, training={"epochs": 30, "checkpoint_every": 10, "evaluate_every": 60, **training})
    file = folder / "plan.json"
    file.write_text(json.dumps(plan))
    return file


@contextmanager
def started(command: list[str], log: Path) -> Iterator[subprocess.Popen[Any]]:
    """A launcher, of which nothing is left behind, whatever happens inside."""
    with log.open("w") as handle, subprocess.Popen(command, stdout=handle, stderr=handle, env=PATH) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                for one in (*psutil.Process(process.pid).children(recursive=True), process):
                    one.kill()


def wait_for_step(process: subprocess.Popen[Any], output: Path, step: int) -> None:
    journal = output / "training" / "journal.jsonl"
    while process.poll() is None and not (journal.exists() and f'"step": {step},' in journal.read_text()):
        time.sleep(0.05)


def test_a_signal_to_the_launcher_alone_stops_every_process_and_the_command_that_is_said_goes_on(
    tiny_folders: Any, tmp_path: Path
) -> None:
    file = plan_of(tmp_path, tiny_folders["bert"], max_steps=80, epochs=2000)
    launch = ["accelerate", "launch", "--cpu", "--num_processes", "2", "-m", "adapterkit", "train", str(file)]
    with started(launch, tmp_path / "log") as process:
        wait_for_step(process, tmp_path / "out", 12)
        every = psutil.Process(process.pid).children(recursive=True)
        assert sum("torch.distributed.run" not in one.cmdline() for one in every) == 2
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    _, alive = psutil.wait_procs(every, timeout=30)
    assert alive == []
    said = [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("Stopped.")]
    assert len(said) == 1
    command = said[0].partition("go on with: ")[2]
    assert command == shlex.join([*launch, "--resume"])
    again = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120, env=PATH, check=False)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("Artifact:") == 1
    begun = [event["step"] for event in events(tmp_path / "out", "begin")]
    assert begun[0] == 0
    assert begun[1] >= 12
    assert [event["step"] for event in events(tmp_path / "out", "step")] == list(range(1, 81))


def test_a_process_that_is_killed_is_started_again_and_nothing_is_lost(tiny_folders: Any, tmp_path: Path) -> None:
    file = plan_of(tmp_path, tiny_folders["bert"], max_steps=30)
    torchrun = ["torchrun", "--standalone", "--nproc_per_node", "2", "--max-restarts", "2", "-m", "adapterkit", "train"]
    with started([*torchrun, str(file), "--resume", "auto"], tmp_path / "log") as launcher:
        wait_for_step(launcher, tmp_path / "out", 14)
        ranks = [one for one in psutil.Process(launcher.pid).children() if "adapterkit" in one.cmdline()]
        ranks[1].kill()
        assert launcher.wait(300) == 0, (tmp_path / "log").read_text()
    by_ranks(2, {**json.loads(file.read_text()), "output": str(tmp_path / "whole")})
    # Started again once: nobody looked for the dead.
    assert (tmp_path / "log").read_text().count("failed (exitcode") == 1
    begun = [event["step"] for event in events(tmp_path / "out", "begin")]
    assert begun[0] == 0
    assert begun[-1] >= 10
    ended, whole = (bytes_of(tmp_path / name)["adapter_model.safetensors"] for name in ("out", "whole"))
    assert ended == whole
    assert events(tmp_path / "out", "score") == events(tmp_path / "whole", "score")


def test_processes_that_are_started_again_do_not_meet_those_before() -> None:
    store = HashStore()
    names: list[list[str]] = []
    late = timedelta(seconds=20)
    for _ in range(3):  # the store is never emptied
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda rank: meeting.fresh(store, rank, 3, late), (2, 1, 0)))
        found[0].set("address", "here")
        assert [each.get("address") for each in found] == [b"here"] * 3
        names.append(store.get("drawn").decode())
    assert len(set(names)) == 3
    with pytest.raises(TrainingError, match="did not meet") as caught:  # process 2 is missing, and process 1 is late
        meeting.fresh(store, 0, 3, timedelta(seconds=0.2))
    assert caught.value.problems == ("missed by process 0: process 1, 2",)


def test_processes_that_are_started_again_behind_the_last_step_have_nothing_left_to_do(
    tiny_backbones: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = recipe(tmp_path, tiny_backbones["bert"], training={"max_steps": 2})
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan))
    artifact = train(plan, backbone=tiny_backbones["bert"]).artifact
    written = bytes_of(artifact)
    command = ["train", str(file), "--resume", "auto", "--json"]
    refused = CliRunner().invoke(app, command)
    assert (refused.exit_code, "exists" in refused.stderr) == (1, True)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, json.loads(done.stdout)["artifact"]) == (0, str(artifact))
    assert bytes_of(artifact) == written


def test_what_every_process_would_say_is_said_once(tiny_folders: Any, tmp_path: Path) -> None:
    file = plan_of(tmp_path, tiny_folders["bert"])
    torchrun = ["torchrun", "--standalone", "--nproc_per_node", "2", "-m", "adapterkit", "train", str(file)]
    ran = subprocess.run(
        [*torchrun, "data.test=nowhere.jsonl"], capture_output=True, text=True, env=PATH, timeout=120, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.count("DataError") == 1
    assert "[process 1]" not in ran.stderr


def test_a_process_that_answers_no_more_ends_the_others_in_bounded_time_with_the_checkpoint_kept(
    tiny_folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a link is cut: nobody hangs up."""
    monkeypatch.setattr(environment, "PATIENCE_SECONDS", 5)
    plan = json.loads(plan_of(tmp_path, tiny_folders["bert"], epochs=9999).read_text())
    fork, port = multiprocessing.get_context("fork"), free_port()
    said = fork.Queue()

    def rank(number: int) -> None:
        as_rank(number, 2, port)
        try:
            train(plan)
        except TrainingError as error:
            said.put(str(error))

    ranks = [fork.Process(target=rank, args=(number,)) for number in range(2)]
    for process in ranks:
        process.start()
    checkpoint = tmp_path / "out" / "training" / "checkpoint" / "progress.json"
    while not checkpoint.exists() and ranks[0].is_alive():
        time.sleep(0.05)
    os.kill(ranks[1].pid or 0, signal.SIGSTOP)
    error = said.get(timeout=60)
    ranks[1].kill()
    for process in ranks:
        process.join(30)
    assert error.startswith("another process of this run is gone, or cannot be reached")
    assert "--resume" in error
    assert json.loads(checkpoint.read_bytes())["progress"]["steps"] % 10 == 0


def test_auto_begins_where_there_is_nothing_goes_on_from_a_checkpoint_and_replaces_nothing(
    tiny_backbones: Any, tmp_path: Path
) -> None:
    backbone = tiny_backbones["bert"]
    plan = recipe(tmp_path, backbone, training={"epochs": 3})
    whole = train(plan, backbone=backbone, overrides=[f"output={tmp_path / 'whole'}"], resume="auto")
    with pytest.raises(Paused):
        train(plan, backbone=backbone, pause_after=lambda batches: 4, resume="auto")
    assert entries(tmp_path / "out") == ["training"]
    resumed = train(plan, backbone=backbone, resume="auto")
    assert [event["step"] for event in events(resumed.artifact, "begin")] == [0, 4]
    assert bytes_of(resumed.artifact) == bytes_of(whole.artifact)
    with pytest.raises(OutputError, match="exists"):
        train(plan, backbone=backbone, resume="auto")
