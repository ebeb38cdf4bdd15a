"""Devices and number formats, on machines made up for the test."""

from __future__ import annotations

import pytest
import torch

from adapterkit.backbone import Backbone, bfloat16_is_fast, hardware, pick_device, pick_dtype
from adapterkit.errors import DeviceError

CPU = torch.device("cpu")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine that says it has two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return monkeypatch


def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def test_auto_takes_cuda_then_mps_then_the_cpu(gpus: pytest.MonkeyPatch) -> None:
    assert pick_device() == torch.device("cuda", 0)
    no_gpu(gpus)
    assert pick_device() == CPU
    gpus.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device() == pick_device("mps") == torch.device("mps")


def test_each_process_of_a_launcher_takes_its_own_gpu(gpus: pytest.MonkeyPatch) -> None:
    gpus.setenv("LOCAL_RANK", "1")
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda", 1)
    assert pick_device("cuda:0") == torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [("cuda", "GPU 0"), ("cuda:3", "GPU 3"), ("mps", "MPS"), ("meta", "not been tried"), ("gpu", "not the name")],
)
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, wanted: str, words: str) -> None:
    no_gpu(monkeypatch)
    with pytest.raises(DeviceError, match=words):
        pick_device(wanted)


def test_a_gpu_beyond_the_last_is_refused_with_how_many_there_are(gpus: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="2, numbered from 0"):
        pick_device("cuda:2")


def test_auto_is_bfloat16_where_the_hardware_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    for features, expected in (
        ({"avx2", "avx512_bf16"}, torch.bfloat16),
        ({"amx_bf16"}, torch.bfloat16),
        ({"avx512_f"}, torch.float32),
        (set(), torch.float32),
    ):
        monkeypatch.setattr(hardware, "cpu_features", lambda features=features: frozenset(features))
        assert pick_dtype("auto", CPU) == expected
    monkeypatch.setattr(hardware, "cpu_features", lambda: frozenset({"amx_bf16"}))
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert pick_dtype("auto", CPU) == torch.float32
    assert not bfloat16_is_fast(torch.device("mps"))


def test_on_a_gpu_auto_asks_whether_it_is_native(monkeypatch: pytest.MonkeyPatch) -> None:
    for native in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, native=native: native)
        assert bfloat16_is_fast(torch.device("cuda", 0)) is native


def test_a_dtype_that_is_named_is_taken() -> None:
    assert pick_dtype("float16", CPU) == torch.float16
    with pytest.raises(DeviceError, match="int8"):
        pick_dtype("int8", CPU)


def test_features_are_those_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"amx_bf16": True, "avx2": False, "num_sockets": 1, "cpu_name": "x"}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told)
    assert hardware.cpu_features() == {"amx_bf16"}


def test_where_auto_is_bfloat16_it_is_said_once(
    tiny_folders, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hardware, "bfloat16_is_fast", lambda device: True)
    hardware.say_narrow.cache_clear()
    for dtype in ("float32", "bfloat16", "auto", "auto"):
        Backbone.load(tiny_folders["bert"], dtype=dtype, device="cpu")
    said = [record.getMessage() for record in caplog.records if "dtype auto is bfloat16" in record.getMessage()]
    assert len(said) == 1
    assert "exact=True" in said[0]
