"""What travels between devices, by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import adapterkit as ak
from adapterkit.errors import RecipeError
from adapterkit.planning.traffic import traffic_of
from tests.training.worlds import recipe


def test_a_ring_sends_every_trained_byte_twice_and_shards_every_frozen_one_too() -> None:
    # 100 bytes train and 10,000 are frozen; a link sends 1,000 a second, a device does 50 operations a second.
    settings: Any = {"devices": 4, "link_bytes": 1000.0, "flops_per_second": 50.0}
    whole, sharded = traffic_of(100, 10_000, 4000, **settings)
    assert (whole.way, whole.all_bytes, whole.device_bytes) == ("DDP", 2 * 3 * 100, 150)
    assert (whole.seconds, whole.computing_seconds) == (0.15, 20.0)
    assert (sharded.way, sharded.all_bytes, sharded.device_bytes) == ("FSDP", 2 * 3 * 10_100, 15_150)
    # 4,000 operations take 80 s on one device, and an exchange nearly 0.2 s on many: from 401 devices on it is longer.
    assert whole.waits_from == 1 + 80 / 0.2
    # Gathering takes nearly 20.2 s: 1 + 80 / 20.2 is 4.96.
    assert sharded.waits_from == 5
    (_, twice) = traffic_of(100, 10_000, 4000, micro_batches=2, **settings)
    assert twice.all_bytes == 2 * 3 * 20_100


@pytest.mark.parametrize("devices", [2, 5, 400, 401, 402])
def test_a_step_waits_from_the_number_of_devices_that_is_named(devices: int) -> None:
    whole, _ = traffic_of(100, 0, 4000, devices=devices, link_bytes=1000.0, flops_per_second=50.0)
    assert (whole.seconds >= whole.computing_seconds * (1 - 1e-12)) == (devices >= whole.waits_from)


def test_a_plan_counts_what_its_own_step_sends(tiny_folders: Any, tmp_path: Path) -> None:
    wanted = recipe(tmp_path, tiny_folders["bert"])
    found = ak.plan(wanted, gpus=8, memory="1GiB", interconnect="50GB")
    whole, sharded = found.traffic
    assert whole.all_bytes == 2 * 7 * 4 * (found.method_parameters + found.head_parameters)
    assert sharded.all_bytes == whole.all_bytes + 2 * 7 * found.memory.weights
    assert ak.plan(wanted, gpus=8, memory="1GiB").traffic == ()
    assert ak.plan(wanted, gpus=1, memory="1GiB", interconnect="50GB").traffic == ()


def test_a_network_that_cannot_be_planned_for_is_refused(tiny_folders: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        ak.plan(recipe(tmp_path, tiny_folders["bert"]), gpus=8, memory="1GiB", interconnect="fast", tflops=0)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["interconnect", "tflops"]
