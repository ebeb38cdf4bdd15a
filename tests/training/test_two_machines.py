"""Two machines, played by two namespaces of the network with a bridge between them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.torch import load_file

from tests.training.test_going_on import plan_of
from tests.training.worlds import events, losses, train

PORT = "29511"
SWITCH = "switch"


class Machines:
    """Two machines on one switch, 10.77.0.1 and 10.77.0.2, with a disk in common."""

    def __init__(self) -> None:
        self.names = [f"ak{os.getpid()}-{end}" for end in ("first", "second", SWITCH)]
        self._running: list[subprocess.Popen[Any]] = []

    def build(self) -> str:
        """Returns why that cannot be done here, or ""."""
        if shutil.which("ip") is None:
            return "no ip command"
        first, second, switch = self.names
        lines = [f"netns add {name}" for name in self.names]
        lines += [f"-n {switch} link add hub type bridge", f"-n {switch} link set hub up"]
        for number, name in ((1, first), (2, second)):
            lines += [
                f"-n {name} link set lo up",
                f"link add eth0 netns {name} type veth peer name port{number} netns {switch}",
                f"-n {switch} link set port{number} master hub up",
                f"-n {name} addr add 10.77.0.{number}/24 dev eth0",
                f"-n {name} link set eth0 up",
            ]
        for line in lines:
            done = subprocess.run(["ip", *line.split()], capture_output=True, text=True, check=False)
            if done.returncode:
                return f"ip {line}: {done.stderr.strip()}"
        return ""

    def cut(self, number: int) -> None:
        """The cable between a machine, from 1, and the switch."""
        subprocess.run(["ip", "-n", self.names[2], "link", "set", f"port{number}", "down"], check=True)

    def mend(self, number: int) -> None:
        subprocess.run(["ip", "-n", self.names[2], "link", "set", f"port{number}", "up"], check=True)

    def start(self, number: int, words: Sequence[str], log: Path, **more: str) -> subprocess.Popen[Any]:
        own = {"GLOO_SOCKET_IFNAME": "eth0", "OMP_NUM_THREADS": "1", **more}
        scripts = Path(sys.executable).parent
        with log.open("w") as handle:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.names[number - 1], str(scripts / words[0]), *words[1:]],
                stdout=handle,
                stderr=handle,
                env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", **own},
            )
        self._running.append(process)
        return process

    def both(self, one: Sequence[str], other: Sequence[str], folder: Path, **more: str) -> list[subprocess.Popen[Any]]:
        return [self.start(number, words, folder / f"log{number}", **more) for number, words in ((1, one), (2, other))]

    def remove(self) -> None:
        for process in self._running:
            if process.poll() is None:
                for one in (*psutil.Process(process.pid).children(recursive=True), process):
                    one.kill()
            process.wait(30)
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.fixture
def machines() -> Iterator[Machines]:
    found = Machines()
    try:
        if why_not := found.build():
            pytest.skip(f"no network of its own may be made here: {why_not}")
        yield found
    finally:
        found.remove()


def said(folder: Path) -> str:
    return "\n".join((folder / f"log{number}").read_text() for number in (1, 2))


def test_two_machines_learn_what_one_learns_and_a_cut_link_ends_both_with_a_checkpoint_that_goes_on(
    machines: Machines, tiny_folders: Any, tmp_path: Path
) -> None:
    file = plan_of(tmp_path, tiny_folders["bert"], max_steps=40, evaluate_every=100, shares=2)
    run = ["-m", "adapterkit", "train", str(file), "data.validation=null"]
    one = train(str(file), overrides=["data.validation=null", f"output={tmp_path / 'one'}"])

    def accelerate(rank: int) -> list[str]:
        where = ["--main_process_ip", "10.77.0.1", "--main_process_port", PORT, "--machine_rank", str(rank)]
        launch = ["accelerate", "launch", "--cpu", "--num_machines", "2", "--num_processes", "2", *where]
        return [*launch, *run, f"output={tmp_path / 'accelerate'}"]

    launched = machines.both(accelerate(0), accelerate(1), tmp_path)
    assert [process.wait(300) for process in launched] == [0, 0], said(tmp_path)
    assert [event["processes"] for event in events(tmp_path / "accelerate", "begin")] == [2]
    # Sums of the same numbers in another order.
    assert losses(tmp_path / "accelerate") == pytest.approx(losses(one.artifact), rel=1e-5)

    def torchrun(rank: int, *how: str) -> list[str]:
        return ["torchrun", "--nnodes", "2", "--nproc_per_node", "1", *how, *run, f"output={tmp_path / 'cut'}"]

    static = ["--master_addr", "10.77.0.1", "--master_port", PORT]
    launched = machines.both(
        *([*torchrun(rank, "--node_rank", str(rank), *static)] for rank in (0, 1)), tmp_path, ADAPTERKIT_PATIENCE="5"
    )
    journal = tmp_path / "cut" / "training" / "journal.jsonl"
    while launched[0].poll() is None and not (journal.exists() and '"step": 12,' in journal.read_text()):
        time.sleep(0.02)
    machines.cut(2)
    assert [process.wait(200) for process in launched] == [1, 1], said(tmp_path)
    for number in (1, 2):
        log = (tmp_path / f"log{number}").read_text()
        assert "another process of this run is gone, or cannot be reached" in log, log
        assert "--resume" in log
    machines.mend(2)

    def met(rank: int) -> list[str]:
        conf = ["--rdzv_conf", f"is_host={1 - rank}", "--local_addr", f"10.77.0.{rank + 1}"]
        return ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"10.77.0.1:{PORT}", "--rdzv_id", "again", *conf]

    launched = machines.both(*([*torchrun(rank, *met(rank)), "--resume"] for rank in (0, 1)), tmp_path)
    assert [process.wait(300) for process in launched] == [0, 0], said(tmp_path)
    begun = [event["step"] for event in events(tmp_path / "cut", "begin")]
    assert (begun[0], begun[1] % 10, begun[1] >= 10) == (0, 0, True)
    assert losses(tmp_path / "cut") == pytest.approx(losses(one.artifact), rel=1e-5)
    ours, theirs = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("cut", "accelerate"))
    for path, tensor in theirs.items():
        assert ours[path].numpy() == pytest.approx(tensor.numpy(), rel=1e-3, abs=1e-5), path
