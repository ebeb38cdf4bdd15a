"""What a launcher has put into the environment: each setting is honoured, or refused by name before anything is loaded.

`docs/concepts/launching.md` has a row for each of them; a test reads Accelerate's own sources, so that one that a new
release adds is missed.
"""

from collections.abc import Mapping
from typing import Literal

from adapterkit.errors import DeviceError
from adapterkit.recipe import Recipe

HONOURED = (
    "ACCELERATE_USE_CPU", "ACCELERATE_MIXED_PRECISION", "ACCELERATE_CPU_AFFINITY", "ACCELERATE_DEBUG_MODE",
    "ACCELERATE_TORCH_DEVICE", "ACCELERATE_LOG_LEVEL", "ACCELERATE_ENABLE_RICH", "MASTER_ADDR", "MASTER_PORT",
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK", "PMI_SIZE", "MPI_LOCALNRANKS",
    "OMP_NUM_THREADS", "KMP_", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
"""Read by adapterkit, Accelerate or torch; a name that ends in _ stands for all that begin so."""

REFUSED: Mapping[str, str] = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed: what trains is small; for a backbone in shards take FSDP, version 2",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM: it has models of its own; take distributed_type MULTI_GPU",
    "ACCELERATE_USE_SAGEMAKER": "SageMaker's own processes: start torchrun there",
    "ACCELERATE_DOWNCAST_BF16": "TPUs: only CPUs and GPUs are trained on",
}
"""Switches that no run honours while they are on."""

FOLLOWING: Mapping[str, str] = {
    "ACCELERATE_DEEPSPEED_": "ACCELERATE_USE_DEEPSPEED",
    "ACCELERATE_CONFIG_DS_FIELDS": "ACCELERATE_USE_DEEPSPEED",
    "ACCELERATE_GRADIENT_CLIPPING": "ACCELERATE_USE_DEEPSPEED",
    "MEGATRON_LM_": "ACCELERATE_USE_MEGATRON_LM",
    "ACCELERATE_FP8_": "ACCELERATE_MIXED_PRECISION",
    "ACCELERATE_DYNAMO_": "ACCELERATE_DYNAMO_BACKEND",
    "XLA_": "ACCELERATE_DOWNCAST_BF16",
    "ACCELERATE_SAGEMAKER_": "ACCELERATE_USE_SAGEMAKER",
}
"""Settings that mean nothing without the switch that is looked at."""

SHARDING = "ACCELERATE_USE_FSDP"

OWN_RULES = (
    SHARDING, "FSDP_", "ACCELERATE_DYNAMO_BACKEND", "ACCELERATE_USE_PARALLELISM_CONFIG", "PARALLELISM_CONFIG_",
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
)  # fmt: skip
"""Settings whose value decides; see `check_launch`."""

PARALLEL = "PARALLELISM_CONFIG_"
_SIZES = ("DP_SHARD_SIZE", "TP_SIZE", "CP_SIZE", "SP_SIZE")
_SHARDED: Mapping[str, tuple[tuple[str, ...], str]] = {
    "FSDP_VERSION": (("2",), "layers are cut with fully_shard; take fsdp_version 2"),
    "FSDP_OFFLOAD_PARAMS": (("false",), "shards stay on their device; take false"),
    "FSDP_AUTO_WRAP_POLICY": (
        ("transformer_based_wrap", ""),
        "each layer is gathered by itself; take TRANSFORMER_BASED_WRAP",
    ),
    "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": (("false",), "what enters a layer stays on its device; take false"),
    "FSDP_IGNORED_MODULES": (("",), "what trains stays whole, and layers do not; leave it out"),
}
"""A setting of FSDP -> the values that a run honours, and what to do about another."""

_OFF = ("", "0", "no", "none", "false", "auto")


def check_launch(environment: Mapping[str, str], recipe: Recipe) -> Literal["bf16", "fp16"] | None:
    """Find what a launcher asks for and a run would drop.

    Returns:
        The precision that the launcher asks for where the recipe leaves it open; None where it asks for none.

    Raises:
        DeviceError: with every setting that is not honoured, and what to do.
    """
    problems = [f"{name}={value}: {REFUSED[name]}" for name in REFUSED if (value := _on(environment, name))]
    if backend := _on(environment, "ACCELERATE_DYNAMO_BACKEND"):
        problems.append(f"ACCELERATE_DYNAMO_BACKEND={backend}: a training step is not compiled; take dynamo_backend no")
    if _on(environment, "ACCELERATE_USE_PARALLELISM_CONFIG"):
        for name in _SIZES:
            if (size := environment.get(PARALLEL + name, "1")) not in ("1", "None"):
                problems.append(f"{PARALLEL}{name}={size}: rows alone are shared out; take 1")
    if is_sharded(environment):
        for name, (honoured, advice) in _SHARDED.items():
            if (value := environment.get(name, honoured[0]).lower()) not in honoured:
                problems.append(f"{name}={value}: {advice}")
        again = environment.get("FSDP_ACTIVATION_CHECKPOINTING", "false").lower() == "true"
        if again and not recipe.training.gradient_checkpointing:
            problems.append("FSDP_ACTIVATION_CHECKPOINTING=true: set training.gradient_checkpointing=true instead")
    parts = _on(environment, "ACCELERATE_GRADIENT_ACCUMULATION_STEPS") or "1"
    if parts not in ("1", str(recipe.training.accumulate)):
        problems.append(
            f"ACCELERATE_GRADIENT_ACCUMULATION_STEPS={parts}: the recipe says {recipe.training.accumulate}; "
            f"set training.accumulate={parts}"
        )
    asked, own = _on(environment, "ACCELERATE_MIXED_PRECISION"), recipe.training.precision
    precision: Literal["bf16", "fp16"] | None = "bf16" if asked == "bf16" else "fp16" if asked == "fp16" else None
    if asked and precision is None:
        problems.append(f"ACCELERATE_MIXED_PRECISION={asked}: trained is in bf16, fp16 or fp32")
    elif precision is not None and own not in ("auto", precision):
        problems.append(
            f"ACCELERATE_MIXED_PRECISION={asked}: the recipe says training.precision={own}; say one of them"
        )
    if problems:
        raise refused_launch(problems)
    return precision if own == "auto" else None


def is_sharded(environment: Mapping[str, str]) -> bool:
    """Whether a launcher asks for a backbone in shards."""
    return bool(_on(environment, SHARDING))


def refused_launch(problems: list[str]) -> DeviceError:
    """The error for a launch that asks for what no run does."""
    return DeviceError(
        f"the launcher asks for what a run does not do ({len(problems)} settings)",
        problems,
        "Change the launcher's flags or its configuration file, as in recipes/accelerate/.",
    )


def _on(environment: Mapping[str, str], name: str) -> str:
    """The value of a setting in small letters; "" where it is off."""
    value = environment.get(name, "").lower()
    return "" if value in _OFF else value
