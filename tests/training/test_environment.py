"""Devices and number formats that a run may ask for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adapterkit.errors import DeviceError, RecipeError
from adapterkit.recipe import load_recipe
from adapterkit.recipe.formats import backbone_dtypes
from adapterkit.training.environment import check_device, compute_dtype
from tests.training.worlds import entries, recipe, train


def plan_of(tmp_path: Path, precision: str = "auto", **backbone: Any) -> Any:
    return load_recipe(recipe(tmp_path, Path("b"), backbone=backbone, training={"precision": precision}))


@pytest.mark.parametrize(
    ("dtype", "precision", "loaded"),
    [
        ("auto", "auto", ("auto", "auto")),
        ("auto", "bf16", ("bfloat16", "auto")),
        ("auto", "fp32", ("float32", "auto")),
        ("float32", "bf16", ("float32", "auto")),
        ("bfloat16", "auto", ("bfloat16", "auto")),
        ("bfloat16", "bf16", ("bfloat16", "auto")),
        ("int8", "auto", ("int8", "auto")),
        ("int8", "fp32", ("int8", "float32")),
        ("nf4", "bf16", ("nf4", "bfloat16")),
    ],
)
def test_the_backbone_is_loaded_as_the_recipe_says_or_as_the_run_computes(
    tmp_path: Path, dtype: str, precision: str, loaded: tuple[str, str]
) -> None:
    assert backbone_dtypes(plan_of(tmp_path, precision, dtype=dtype)) == loaded


@pytest.mark.parametrize(("dtype", "precision"), [("bfloat16", "fp32"), ("float16", "bf16"), ("bfloat16", "fp16")])
def test_formats_that_contradict_each_other_are_refused(tmp_path: Path, dtype: str, precision: str) -> None:
    with pytest.raises(RecipeError, match="contradict") as refused:
        backbone_dtypes(plan_of(tmp_path, precision, dtype=dtype))
    assert dtype in str(refused.value)
    assert precision in str(refused.value)


@pytest.mark.parametrize(
    ("loaded", "precision", "computed"),
    [
        (torch.float32, "auto", torch.float32),
        (torch.bfloat16, "auto", torch.bfloat16),
        (torch.float32, "bf16", torch.bfloat16),
        (torch.float32, "fp32", torch.float32),
    ],
)
def test_a_run_computes_as_the_recipe_says_or_as_its_backbone_is(
    tmp_path: Path, loaded: torch.dtype, precision: str, computed: torch.dtype
) -> None:
    backbone: Any = SimpleNamespace(dtype=loaded, device=torch.device("cpu"))
    assert compute_dtype(plan_of(tmp_path, precision), backbone) == computed


def test_a_backbone_that_was_loaded_too_narrow_is_refused(tmp_path: Path) -> None:
    backbone: Any = SimpleNamespace(dtype=torch.bfloat16, device=torch.device("cpu"))
    with pytest.raises(RecipeError, match="contradict"):
        compute_dtype(plan_of(tmp_path, "fp32"), backbone)


def test_fp16_does_not_train_on_a_cpu_and_leaves_nothing(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    plan = recipe(tmp_path, backbone, training={"precision": "fp16"})
    with pytest.raises(DeviceError, match="fp16 does not train on a CPU"):
        train(plan, backbone=backbone)
    assert entries(tmp_path / "out") == []
    # The attempt is forgotten: the next run computes as it is told.
    assert train(plan, backbone=backbone, overrides=["training.precision=fp32", "training.max_steps=1"]).steps == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_where_there_is_none_is_refused_and_leaves_nothing(tiny_folders: Any, tmp_path: Path) -> None:
    plan = recipe(tmp_path, tiny_folders["bert"], backbone={"device": "cuda"})
    with pytest.raises(DeviceError, match="GPU 0 was asked for"):
        train(plan)
    assert entries(tmp_path / "out") == []


def test_several_processes_train_where_accelerate_put_them() -> None:
    accelerator: Any = SimpleNamespace(num_processes=2, process_index=1, device=torch.device("cpu", 1))
    check_device(SimpleNamespace(device=torch.device("cpu")), accelerator)  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match="process 1 of 2 has its backbone on cuda:0"):
        check_device(SimpleNamespace(device=torch.device("cuda", 0)), accelerator)  # type: ignore[arg-type]


def test_a_run_in_bf16_saves_bf16_and_trains_in_fp32(fresh_backbone: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from adapterkit.training.learner import Learner

    backbone = fresh_backbone("bert", dtype="bfloat16")
    seen = set()
    take = Learner.step

    def step(self: Learner, clip: float | None, factor: float) -> float:
        seen.update(parameter.dtype for parameter in self.parameters.values())
        return take(self, clip, factor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", step)
        plan = recipe(tmp_path, backbone, training={"precision": "auto", "max_steps": 2})
        artifact = train(plan, backbone=backbone).artifact
    assert seen == {torch.float32}
    saved = load_file(artifact / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}
