"""Every launch means what it says: a setting is honoured, or refused by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import accelerate
import pytest

from adapterkit.errors import DeviceError
from adapterkit.recipe import Recipe, resolve
from adapterkit.training.launch import FOLLOWING, HONOURED, OWN_RULES, REFUSED, check_launch
from tests.training.worlds import entries, events, recipe, train

DOCS = Path(__file__).resolve().parents[2] / "docs" / "concepts" / "launching.md"
FROM_A_LAUNCHER = {
    "ACCELERATE_MIXED_PRECISION": "no",
    "ACCELERATE_DYNAMO_BACKEND": "NO",
    "ACCELERATE_DYNAMO_MODE": "default",
    "ACCELERATE_DYNAMO_USE_FULLGRAPH": "False",
    "ACCELERATE_USE_CPU": "True",
    "OMP_NUM_THREADS": "1",
}
"""What `accelerate launch --cpu` sets where nothing is asked for."""

FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}

MESH = {"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}

NOT_OF_A_LAUNCH = {
    "of trackers": ("CLEARML_", "MLFLOW_"),
    "of Accelerate's own tests": ("RUN_SLOW", "PYTEST_XDIST_WORKER", "ACCELERATE_DEBUG_RDV_FILE", "FORK_LAUNCHED"),
    "of notebooks": ("ACCELERATE_NUM_PROCESSES", "NPROC", "TPU_NAME", "PJRT_DEVICE", "USE_TORCH_XLA"),
    "of folders": ("HF_HOME", "XDG_CACHE_HOME", "PYTHONPATH"),
    "of big models' own loading": ("ACCELERATE_BYPASS_DEVICE_MAP", "ACCELERATE_INIT_INCLUDE_BUFFERS"),
    "of devices that no run is on": (
        "ASCEND_RT_VISIBLE_DEVICES", "HABANA_VISIBLE_MODULES", "MLU_VISIBLE_DEVICES", "MUSA_VISIBLE_DEVICES",
        "NEURON_RT_VISIBLE_CORES", "SDAA_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "PT_HPU_LAZY_MODE",
    ),
    "of one machine with a mesh, which its sizes say": ("ACCELERATE_ALLOW_CP_STANDALONE",),
    "of Amazon's launcher": ("AWS_",),
    "of NCCL, which reads it": ("NCCL_",),
}  # fmt: skip


READ_BY_OTHERS = {"LOCAL_WORLD_SIZE", "NODE_RANK", "MPI_LOCALNRANKS", "CUDA_VISIBLE_DEVICES"}
"""Torch and MPI."""


def matches(name: str, known: str) -> bool:
    return name.startswith(known) if known.endswith("_") else name == known


def accelerates_variables() -> set[str]:
    """Every variable that Accelerate's launcher sets, and that its library reads."""
    folder = Path(accelerate.__file__).parent
    launcher = (folder / "utils" / "launch.py").read_text() + (folder / "commands" / "launch.py").read_text()
    found = set(re.findall(r'(?:current_env|os\.environ)\["([A-Z][A-Z0-9_]+)"\]', launcher))
    for prefix, body in re.findall(r'prefix = "([A-Z_]+)"(.*?)(?=\nasync def |\ndef |prefix = )', launcher, re.DOTALL):
        found |= {prefix + name for name in re.findall(r'prefix \+ "([A-Z0-9_]+)"', body)}
    reads = r'(?:environ\.get|environ\.setdefault|getenv|(?:parse|get)_\w+_from_env)\(\s*\[?"([A-Z][A-Z0-9_]+)"'
    for file in folder.rglob("*.py"):
        if "test_utils" not in file.parts:
            found |= set(re.findall(reads, file.read_text()))
    return found


def test_every_variable_of_accelerate_is_honoured_refused_or_follows_one_that_is() -> None:
    names = accelerates_variables()
    assert {"ACCELERATE_USE_FSDP", "MEGATRON_LM_TP_DEGREE", "PARALLELISM_CONFIG_TP_SIZE", "WORLD_SIZE"} <= names
    known = [*HONOURED, *REFUSED, *FOLLOWING, *OWN_RULES, *sum(NOT_OF_A_LAUNCH.values(), ())]
    assert sorted(name for name in names if not any(matches(name, each) for each in known)) == []
    # And none of the package's is remembered that Accelerate has forgotten.
    own = [*HONOURED, *REFUSED, *FOLLOWING, *OWN_RULES]
    assert {each for each in own if not any(matches(name, each) for name in names)} <= READ_BY_OTHERS


def test_the_page_says_of_every_setting_what_happens() -> None:
    page = DOCS.read_text()
    for name in (*HONOURED, *REFUSED, *FOLLOWING, *OWN_RULES):
        assert f"`{name}" in page, name


def recipe_with(**training: Any) -> Recipe:
    plan = {"task": {"kind": "causal-lm"}, "backbone": {"name": "x"}, "data": {"train": "x"}, "training": training}
    return resolve(plan, ()).recipe


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({**FSDP, "FSDP_VERSION": "1"}, "FSDP_VERSION=1: layers are cut with fully_shard; take fsdp_version 2"),
        ({**FSDP, "FSDP_OFFLOAD_PARAMS": "true"}, "FSDP_OFFLOAD_PARAMS=true"),
        ({**FSDP, "FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, "FSDP_AUTO_WRAP_POLICY=size_based_wrap"),
        ({**FSDP, "FSDP_ACTIVATION_CHECKPOINTING": "true"}, "set training.gradient_checkpointing=true"),
        ({**FSDP, "FSDP_IGNORED_MODULES": "head"}, "FSDP_IGNORED_MODULES=head"),
        ({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}, "ACCELERATE_USE_DEEPSPEED=true"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true", "MEGATRON_LM_TP_DEGREE": "2"}, "ACCELERATE_USE_MEGATRON_LM=true"),
        ({"ACCELERATE_USE_SAGEMAKER": "true"}, "ACCELERATE_USE_SAGEMAKER=true"),
        ({"ACCELERATE_DOWNCAST_BF16": "1"}, "ACCELERATE_DOWNCAST_BF16=1"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, "ACCELERATE_DYNAMO_BACKEND=inductor"),
        ({**MESH, "PARALLELISM_CONFIG_TP_SIZE": "2"}, "PARALLELISM_CONFIG_TP_SIZE=2"),
        ({**MESH, "PARALLELISM_CONFIG_CP_SIZE": "4"}, "PARALLELISM_CONFIG_CP_SIZE=4"),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, "set training.accumulate=4"),
        ({"ACCELERATE_MIXED_PRECISION": "fp8"}, "ACCELERATE_MIXED_PRECISION=fp8"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, "training.precision=fp32"),
    ],
    ids=lambda value: next(reversed(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_no_run_does_is_refused_by_name(asked: Mapping[str, str], named: str) -> None:
    with pytest.raises(DeviceError, match="what a run does not do") as caught:
        check_launch({**FROM_A_LAUNCHER, **asked}, recipe_with(precision="fp32", accumulate=2))
    (problem,) = caught.value.problems
    assert named in problem


def test_everything_that_is_wrong_is_named_at_once() -> None:
    asked = {"ACCELERATE_USE_SAGEMAKER": "1", "ACCELERATE_MIXED_PRECISION": "fp8", "ACCELERATE_DYNAMO_BACKEND": "eager"}
    with pytest.raises(DeviceError) as caught:
        check_launch(asked, recipe_with())
    assert len(caught.value.problems) == 3


def test_a_launcher_that_asks_for_nothing_changes_nothing() -> None:
    own = {**MESH, "PARALLELISM_CONFIG_DP_REPLICATE_SIZE": "2"}
    own |= {"PARALLELISM_CONFIG_TP_SIZE": "1", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2", "FSDP_VERSION": "2"}
    for environment in ({}, FROM_A_LAUNCHER, {**FROM_A_LAUNCHER, **own}):
        assert check_launch(environment, recipe_with(accumulate=2)) is None
    assert check_launch({"ACCELERATE_MIXED_PRECISION": "bf16"}, recipe_with(precision="bf16")) is None


def test_the_launchers_precision_is_the_runs_where_the_recipe_leaves_it_open(
    tiny_backbones: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    backbone = tiny_backbones["bert"]
    plan = recipe(tmp_path, backbone, training={"precision": "auto", "max_steps": 1})
    artifact = train(plan, backbone=backbone).artifact
    assert '"precision": "bf16"' in (artifact / "adapterkit.json").read_text()
    assert len(events(artifact, "step")) == 1


def test_a_run_is_refused_before_anything_is_loaded(
    tiny_folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setattr("adapterkit.training.reuse.load_backbone", lambda *_: pytest.fail("a backbone was loaded"))
    with pytest.raises(DeviceError, match="ACCELERATE_USE_DEEPSPEED"):
        train(recipe(tmp_path, tiny_folders["bert"]))
    assert entries(tmp_path / "out") == []
