"""Several processes send each other gradients and next to nothing else: counted in a network of their own."""

from __future__ import annotations

import ctypes
import fcntl
import multiprocessing
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.training.ranks import by_ranks
from tests.training.worlds import recipe

# Python 3.12 warns of forks beside threads; nothing here waits for a lock of another thread.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

NEW_NETWORK, NEW_USER = 0x40000000, 0x10000000
SET_FLAGS, UP = 0x8914, 1


def own_network() -> bool:
    """Give this process a network of its own, with a loopback alone. Returns whether that is permitted."""
    if ctypes.CDLL(None).unshare(NEW_NETWORK | (NEW_USER if os.geteuid() else 0)):
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SET_FLAGS, struct.pack("16sh", b"lo", UP))
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    return True


def loopback_bytes() -> int:
    line = next(row for row in Path("/proc/net/dev").read_text().splitlines() if row.strip().startswith("lo:"))
    return int(line.split()[1])


def counted(plans: dict[tuple[int, int], dict[str, Any]], said: Any) -> None:
    """What so many processes send while they train so many steps."""
    found: dict[tuple[int, int], int] | None = {} if own_network() else None
    for (ranks, steps), plan in plans.items() if found is not None else ():
        before = loopback_bytes()
        by_ranks(ranks, plan)
        found[ranks, steps] = loopback_bytes() - before  # type: ignore[index]
    said.put(found)


def test_a_step_sends_its_gradients_and_no_frozen_weight(tmp_path: Path, tiny_folders: Any) -> None:
    few, many = 2, 10
    plans = {}
    for ranks in (2, 4):
        for steps in (few, many):
            training = {"max_steps": steps, "epochs": 9, "evaluate_every": 100, "checkpoint_every": 100}
            plan = recipe(tmp_path, tiny_folders["bert"], training=training, output=str(tmp_path / f"{ranks}-{steps}"))
            plans[ranks, steps] = {**plan, "data": {**plan["data"], "validation": None, "test": None}}
    fork = multiprocessing.get_context("fork")
    said = fork.Queue()
    child = fork.Process(target=counted, args=(plans, said))
    child.start()
    found = said.get(timeout=240)
    child.join(timeout=60)
    if found is None:
        pytest.skip("no network of its own may be made here")
    tensors = load_file(tmp_path / "2-2" / "adapter_model.safetensors").values()
    trainable_bytes = sum(4 * tensor.numel() for tensor in tensors)
    frozen_bytes = (tiny_folders["bert"] / "model.safetensors").stat().st_size
    for ranks in (2, 4):
        step_bytes = (found[ranks, many] - found[ranks, few]) / (many - few)
        # Heads of packets and gloo's messages; how often processes ask for each other while they meet varies a little.
        assert -1_000 <= step_bytes - 2 * (ranks - 1) * trainable_bytes <= 4_000
        # Meeting, agreeing and ending.
        assert found[ranks, few] - few * step_bytes < (ranks - 1) * frozen_bytes / 2, frozen_bytes
