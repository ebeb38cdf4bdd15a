"""Two machines, played by two namespaces of the network with a bridge between them."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from adapterkit.cli import console
from tests.training.ranks import kill_all, torchrun, wait_for_step
from tests.training.test_bytes_that_travel import NEW_NETWORK
from tests.training.test_going_on import plan_of
from tests.training.worlds import events, losses, train

# Python 3.12 warns of forks beside threads; nothing here waits for a lock of another thread.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

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

    def enter(self, number: int) -> None:
        """From here on this process is on that machine, from 1."""
        with Path("/run/netns", self.names[number - 1]).open() as there:
            if ctypes.CDLL(None).setns(there.fileno(), NEW_NETWORK):
                raise OSError("no way into a network")
        os.environ["GLOO_SOCKET_IFNAME"] = "eth0"

    def start(self, number: int, words: Sequence[str], log: Path) -> subprocess.Popen[Any]:
        """A command of Python's folder of scripts, on a machine."""
        scripts = Path(sys.executable).parent
        with log.open("w") as handle:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.names[number - 1], str(scripts / words[0]), *words[1:]],
                stdout=handle,
                stderr=handle,
                env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "GLOO_SOCKET_IFNAME": "eth0"},
            )
        self._running.append(process)
        return process

    def remove(self) -> None:
        for process in self._running:
            if process.poll() is None:
                kill_all(process)
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


def test_two_machines_learn_what_one_learns_and_a_cut_link_ends_both_with_a_checkpoint_that_goes_on(
    machines: Machines, tiny_folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"max_steps": 40, "evaluate_every": 100, "learning_rate": 0.002}
    file, two, cut = plan_of(tmp_path, tiny_folders["bert"], **training), tmp_path / "two", tmp_path / "cut"
    run = ["train", str(file), "data.validation=null"]
    one = train(str(file), overrides=[*run[2:], f"output={tmp_path / 'one'}"]).artifact
    logs = [tmp_path / "log1", tmp_path / "log2"]

    def static(rank: int) -> list[str]:
        return ["--node_rank", str(rank), "--master_addr", "10.77.0.1", "--master_port", PORT]

    def met(rank: int) -> list[str]:
        where = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"10.77.0.1:{PORT}", "--rdzv_id", "again"]
        return [*where, "--rdzv_conf", f"is_host={1 - rank}", "--local_addr", f"10.77.0.{rank + 1}"]

    def launched(rank: int, how: list[str], output: Path, *more: str) -> AbstractContextManager[BaseProcess]:
        words = ["--nnodes", "2", "--nproc_per_node", "1", *how]
        return torchrun(words, [*run, f"output={output}", *more], logs[rank], partial(machines.enter, rank + 1))

    def said() -> list[str]:
        return [log.read_text() for log in logs]

    # Accelerate's launcher on one and torch's on the other agree on how machines meet.
    launch = ["accelerate", "launch", "--cpu", "--num_machines", "2", "--num_processes", "2", "--machine_rank", "0"]
    launch += ["--main_process_ip", "10.77.0.1", "--main_process_port", PORT]
    with launched(1, static(1), two) as other:
        first = machines.start(1, [*launch, "-m", "adapterkit", *run, f"output={two}"], logs[0])
        assert first.wait(300) == 0, said()
        other.join(60)
        assert other.exitcode == 0, said()

    monkeypatch.setenv("ADAPTERKIT_PATIENCE", "4")
    monkeypatch.setattr(console, "SPEAK_FIRST_SECONDS", 0.5)
    with launched(0, static(0), cut) as host, launched(1, static(1), cut) as other:
        wait_for_step(host, cut, 12)
        machines.cut(2)
        for process in (host, other):
            process.join(120)
            assert process.exitcode == 1, said()
    for log in said():
        assert "another process of this run is gone, or cannot be reached" in log, log
        assert "--resume" in log
    machines.mend(2)

    monkeypatch.delenv("ADAPTERKIT_PATIENCE")
    with launched(0, met(0), cut, "--resume") as host, launched(1, met(1), cut, "--resume") as other:
        for process in (host, other):
            process.join(120)
            assert process.exitcode == 0, said()
    begun = [(event["step"], event["processes"]) for event in events(cut, "begin")]
    assert (begun[0], begun[1][0] % 10, begun[1] >= (10, 2)) == ((0, 2), 0, True)
    assert [event["processes"] for event in events(two, "begin")] == [2]
    for several in (two, cut):
        # Sums of the same numbers in another order.
        assert losses(several) == pytest.approx(losses(one), rel=1e-5)
        ours, theirs = (load_file(folder / "adapter_model.safetensors") for folder in (several, one))
        for path, tensor in theirs.items():
            # AdamW divides by the root of squared gradients, which lifts the last bits of small ones.
            assert ours[path].numpy() == pytest.approx(tensor.numpy(), rel=1e-3, abs=1e-5), path
