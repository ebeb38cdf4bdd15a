"""`accelerate launch --cpu --num_processes N` starts one process; the command becomes N."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from adapterkit.cli.processes import LAUNCHED, become_all_processes, is_alone_of_several, process_count
from adapterkit.errors import DeviceError

ASKED = {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The commands that this process became."""
    for name in (*ASKED, *LAUNCHED):
        monkeypatch.delenv(name, raising=False)
    found: list[Any] = []
    monkeypatch.setattr(os, "execv", lambda program, words: found.append((program, words)))
    return found


def parent(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(psutil, "Process", lambda number: SimpleNamespace(cmdline=lambda: list(words)))


def test_only_the_one_process_of_several_on_cpus_is_alone() -> None:
    assert is_alone_of_several(ASKED)
    assert not is_alone_of_several({})
    assert not is_alone_of_several({**ASKED, "ACCELERATE_USE_CPU": "False"})
    assert not is_alone_of_several({"ACCELERATE_USE_CPU": "true"})
    for name in LAUNCHED:
        assert not is_alone_of_several({**ASKED, name: "0"})


def test_the_launcher_says_how_many() -> None:
    assert process_count(["accelerate", "launch", "--cpu", "--num_processes", "3", "-m", "adapterkit"]) == 3
    assert process_count(["accelerate", "launch", "--num-processes=4"]) == 4
    assert process_count(["accelerate", "launch", "--config_file", "x.yaml"]) is None


def test_a_process_that_is_no_one_of_several_goes_on(started: list[Any]) -> None:
    become_all_processes(["train", "x.yaml"])
    assert started == []


def test_the_command_becomes_as_many_processes_as_were_asked_for(
    started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ASKED.items():
        monkeypatch.setenv(name, value)
    parent(monkeypatch, "accelerate", "launch", "--cpu", "--num_processes", "2")
    become_all_processes(["train", "x.yaml", "--resume"])
    ((program, words),) = started
    assert program == words[0] == sys.executable
    assert words[1:5] == ["-m", "torch.distributed.run", "--nproc_per_node", "2"]
    assert words[-5:] == ["-m", "adapterkit", "train", "x.yaml", "--resume"]
    assert words[words.index("--master_port") + 1] == "29500"


def test_a_number_that_stands_elsewhere_is_asked_for(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ASKED.items():
        monkeypatch.setenv(name, value)
    parent(monkeypatch, "accelerate", "launch")
    with pytest.raises(DeviceError, match="started one") as refused:
        become_all_processes(["train"])
    assert "--num_processes 2" in str(refused.value)
