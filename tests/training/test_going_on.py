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
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file
from torch.distributed import HashStore
from typer.testing import CliRunner

from adapterkit.artifact import open_artifact
from adapterkit.cli.app import app
from adapterkit.errors import OutputError, TrainingError
from adapterkit.training import Paused, environment, meeting
from tests.training.ranks import as_rank, by_ranks, free_port, kill_all, torchrun, wait_for_step
from tests.training.worlds import bytes_of, entries, events, losses, recipe, train

# Python 3.12 warns of forks beside threads; nothing here waits for a lock of another thread.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "accelerate"
SCRIPTS = Path(sys.executable).parent
PATH = {**os.environ, "PATH": f"{SCRIPTS}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def plan_of(folder: Path, backbone: Path, **training: Any) -> Path:
    """A recipe with dropout, as a file."""
    plan = recipe(folder, backbone, training={"epochs": 30, "checkpoint_every": 10, "evaluate_every": 60, **training})
    file = folder / "plan.json"
    file.write_text(json.dumps(plan))
    return file


def test_what_accelerate_launches_ends_with_it_and_goes_on_as_is_said_to_what_one_process_learns(
    tiny_folders: Any, tmp_path: Path
) -> None:
    """The signal reaches the launcher alone."""
    training = {"max_steps": 60, "epochs": 2000, "accumulate": 2, "learning_rate": 0.002}
    file, two, log = plan_of(tmp_path, tiny_folders["bert"], **training), tmp_path / "out", tmp_path / "log"
    launch = ["accelerate", "launch", "--config_file", str(RECIPES / "cpu_2.yaml")]
    launch += ["-m", "adapterkit", "train", str(file)]
    with log.open("w") as handle, subprocess.Popen(launch, stdout=handle, stderr=handle, env=PATH) as process:
        try:
            wait_for_step(process, two, 12)
            every = psutil.Process(process.pid).children(recursive=True)
            assert sum("torch.distributed.run" not in one.cmdline() for one in every) == 2
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        finally:
            if process.poll() is None:
                kill_all(process)
    _, alive = psutil.wait_procs(every, timeout=30)
    assert alive == []
    said = [line for line in log.read_text().splitlines() if line.startswith("Stopped.")]
    assert len(said) == 1
    command = said[0].partition("go on with: ")[2]
    assert command == shlex.join([*launch, "--resume"])
    again = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=120, env=PATH, check=False)
    assert again.returncode == 0, again.stderr
    assert [again.stderr.count(once) for once in ("Artifact:", "step     60 ", "scoring 12 test rows")] == [1, 1, 1]
    assert again.stdout.count("accuracy") == 2  # of validation and of test
    begun = [(event["step"], event["processes"]) for event in events(two, "begin")]
    assert begun[0] == (0, 2)
    assert begun[1] >= (12, 2)
    assert [event["step"] for event in events(two, "step")] == list(range(1, 61))
    one = train(str(file), overrides=[f"output={tmp_path / 'one'}"]).artifact
    # Sums of the same numbers in another order.
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    for event in ("validation", "score"):
        assert events(two, event) == events(one, event)
    first, second = (load_file(folder / "adapter_model.safetensors") for folder in (one, two))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        # AdamW divides by the root of squared gradients, which lifts the last bits of small ones.
        assert tensor.numpy() == pytest.approx(second[name].numpy(), rel=1e-3, abs=1e-5), name
    assert open_artifact(one).manifest.metrics == open_artifact(two).manifest.metrics
    assert entries(two / "training") == entries(one / "training")


def test_a_process_that_is_killed_is_started_again_and_nothing_is_lost(tiny_folders: Any, tmp_path: Path) -> None:
    file, log = plan_of(tmp_path, tiny_folders["bert"], max_steps=30), tmp_path / "log"
    words = ["--standalone", "--nproc_per_node", "2", "--max-restarts", "1"]
    with torchrun(words, ["train", str(file), "--resume", "auto"], log) as launcher:
        wait_for_step(launcher, tmp_path / "out", 14)
        psutil.Process(launcher.pid).children()[1].kill()
        launcher.join(120)
        assert launcher.exitcode == 0, log.read_text()
    by_ranks(2, {**json.loads(file.read_text()), "output": str(tmp_path / "whole")})
    # Started again once: nobody looked for the dead.
    first, again = [event["step"] for event in events(tmp_path / "out", "begin")]
    assert (first, again >= 10) == (0, True)
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
    file, log = plan_of(tmp_path, tiny_folders["bert"]), tmp_path / "log"
    words = ["train", str(file), "data.test=nowhere.jsonl"]
    with torchrun(["--standalone", "--nproc_per_node", "2"], words, log) as launcher:
        launcher.join(60)
    assert launcher.exitcode == 1
    assert log.read_text().count("DataError") == 1
    assert "[process 1]" not in log.read_text()


def test_a_process_that_answers_no_more_ends_the_others_in_bounded_time_with_the_checkpoint_kept(
    tiny_folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a link is cut: nobody hangs up."""
    monkeypatch.setattr(environment, "PATIENCE_SECONDS", 4)
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
