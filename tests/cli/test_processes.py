"""`accelerate launch` on CPUs starts one process, whatever it was asked for; the command becomes that many."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from adapterkit.cli.processes import LAUNCHED, become_all_processes, is_only_one, launcher_settings
from adapterkit.errors import DeviceError

ASKED = {"ACCELERATE_USE_CPU": "True", "ACCELERATE_MIXED_PRECISION": "no"}
CONFIGURATIONS = Path(__file__).resolve().parents[2] / "recipes" / "accelerate"
CPUS = ("--config_file", str(CONFIGURATIONS / "cpu_2.yaml"))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The words for torchrun that this process became."""
    for name in ("MASTER_PORT", *LAUNCHED):
        monkeypatch.delenv(name, raising=False)
    for name, value in ASKED.items():
        monkeypatch.setenv(name, value)
    found: list[list[str]] = []

    def execve(program: str, words: list[str], environment: Mapping[str, str]) -> None:
        assert program == words[0] == sys.executable
        assert words[1:3] == ["-m", "torch.distributed.run"]
        assert words[-5:] == ["-m", "adapterkit", "train", "x.yaml", "--resume"]
        sharding = [f"{name}={value}" for name, value in environment.items() if "FSDP" in name]
        found.append([*words[3:-5], *sorted(sharding)])

    monkeypatch.setattr(os, "execve", execve)
    return found


def become(monkeypatch: pytest.MonkeyPatch, *launcher: str) -> None:
    monkeypatch.setattr(psutil, "Process", lambda number: SimpleNamespace(cmdline=lambda: list(launcher)))
    become_all_processes(["train", "x.yaml", "--resume"])


def launched(*words: str) -> tuple[str, ...]:
    return ("python", "/bin/accelerate", "launch", *words, "-m", "adapterkit", "train", "x.yaml", "--resume")


def test_only_a_process_that_accelerate_started_alone_is_the_only_one() -> None:
    assert is_only_one(ASKED)
    assert not is_only_one({})
    for name in LAUNCHED:
        assert not is_only_one({**ASKED, name: "0"})


MACHINES = (
    "--num_machines",
    "2",
    "--num_processes",
    "6",
    "--main_process_ip",
    "10.0.0.1",
    "--main_process_port",
    "4711",
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--cpu", "--num_processes", "2"), "--standalone --nproc_per_node 2"),
        (("--cpu", "--num-processes=3", "--main_process_port=4711"), "--nproc_per_node 3 --master_port 4711"),
        (("--num_processes", "2"), "--standalone --nproc_per_node 2"),
        (
            ("--cpu", *MACHINES, "--machine_rank", "1"),
            "--nproc_per_node 3 --nnodes 2 --node_rank 1 --master_addr 10.0.0.1 --master_port 4711",
        ),
        (CPUS, "--standalone --nproc_per_node 2"),
        ((*CPUS, "--num_processes", "4"), "--standalone --nproc_per_node 4"),
        (
            ("--config_file", str(CONFIGURATIONS / "cpu_2x2.yaml"), "--machine_rank", "1"),
            "--nproc_per_node 2 --nnodes 2 --node_rank 1 --master_addr 127.0.0.1 --master_port 29500",
        ),
    ],
)  # fmt: skip
def test_the_command_becomes_as_many_processes_as_were_asked_for(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], expected: str
) -> None:
    become(monkeypatch, *launched(*words))
    assert started == [expected.split()]


@pytest.mark.parametrize("words", [("--cpu",), ("--cpu", "--num_processes", "1"), ("--num_machines", "1")])
def test_one_process_goes_on(started: list[list[str]], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    become(monkeypatch, *launched(*words))
    assert started == []


def test_what_no_launcher_started_goes_on(started: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")
    become(monkeypatch, *launched("--cpu", "--num_processes", "2"))
    assert started == []


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--cpu", "--num_machines", "2", "--num_processes", "2"), "main_process_ip and main_process_port"),
        (("--cpu", *MACHINES[:3], "5", *MACHINES[4:]), "num_processes: 5 on 2 machines"),
        (("--config_file", "DEEPSPEED", "--cpu"), "distributed_type: DeepSpeed"),
        (("--config_file", "MEGATRON_LM", "--cpu"), "distributed_type: Megatron-LM"),
    ],
)
def test_what_accelerate_drops_is_refused_by_name(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...], named: str
) -> None:
    if words[0] == "--config_file":
        file = tmp_path / "launch.yaml"
        file.write_text(f"compute_environment: LOCAL_MACHINE\ndistributed_type: {words[1]}\nnum_processes: 2\n")
        words = ("--config_file", str(file), *words[2:])
    with pytest.raises(DeviceError) as refused:
        become(monkeypatch, *launched(*words))
    assert named in refused.value.problems[0]
    assert started == []


def test_shards_of_a_backbone_are_had_on_cpus_too(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "launch.yaml"
    file.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nnum_processes: 2\n"
        "fsdp_config: {fsdp_version: 2, fsdp_reshard_after_forward: false}\n"
    )
    become(monkeypatch, *launched("--cpu", "--config_file", str(file)))
    (words,) = started
    assert words[:3] == ["--standalone", "--nproc_per_node", "2"]
    assert {"ACCELERATE_USE_FSDP=true", "FSDP_VERSION=2", "FSDP_RESHARD_AFTER_FORWARD=false"} <= set(words[3:])


def test_a_launcher_that_cannot_be_read_is_asked_for_torchrun(
    started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(DeviceError, match="started one") as refused:
        become(monkeypatch, "bash", "wrapper.sh")
    assert "torchrun --nproc_per_node 2" in str(refused.value)


@pytest.mark.parametrize(
    "words",
    [
        ("/bin/accelerate-launch", "--num_processes", "2", "x.py"),
        ("python", "-m", "accelerate.commands.launch", "--num_processes", "2", "x.py"),
        ("python", "-m", "accelerate.commands.accelerate_cli", "launch", "--num_processes", "2", "x.py"),
        ("python", "/site-packages/accelerate/commands/launch.py", "--num_processes", "2", "x.py"),
    ],
)
def test_every_way_to_call_the_launcher_is_known(words: tuple[str, ...]) -> None:
    asked = launcher_settings(words)
    assert asked is not None
    assert asked["num_processes"] == 2
    assert launcher_settings(("torchrun", "x.py")) is None


def test_the_configurations_that_ship_are_those_that_are_tested() -> None:
    assert sorted(file.name for file in CONFIGURATIONS.iterdir()) == [
        "cpu_2.yaml",
        "cpu_2x2.yaml",
        "ddp_1x8.yaml",
        "fsdp2_2x8.yaml",
    ]
    asked = launcher_settings(launched("--config_file", str(CONFIGURATIONS / "ddp_1x8.yaml")))
    assert asked is not None
    assert (asked["num_processes"], asked["num_machines"], asked["strategy"], asked["cpu"]) == (8, 1, None, False)
    asked = launcher_settings(launched("--config_file", str(CONFIGURATIONS / "fsdp2_2x8.yaml")))
    assert asked is not None
    assert (asked["num_processes"], asked["num_machines"], asked["strategy"]) == (16, 2, "FSDP")
    assert asked["fsdp"]["FSDP_VERSION"] == "2"
