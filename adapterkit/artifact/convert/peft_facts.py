"""What a PEFT config says of a LoRA or an IA3, and what in it adapterkit cannot honour."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from peft import IA3Config, LoraConfig, PeftConfig

from adapterkit.artifact.tensors import shortened
from adapterkit.errors import ArtifactError
from adapterkit.manifest import CONFIG
from adapterkit.methods.peft_fields import FLAG, Field, by_module, one_of
from adapterkit.methods.protocol import Method
from adapterkit.methods.table import METHODS

_WITHOUT_EFFECT = frozenset({
    "peft_type", "peft_version", "auto_mapping", "inference_mode", "fan_in_fan_out", "init_ia3_weights",
    "megatron_core", "qalora_group_size", "runtime_config", "ephemeral_gpu_offload", "loftq_config", "eva_config",
    "corda_config", "lora_ga_config", "ensure_weight_tying", "unsloth_fixed",  # the last is Unsloth's mark
})  # fmt: skip
_KNOWN: tuple[tuple[Method[Any], type[PeftConfig]], ...] = ((METHODS["lora"], LoraConfig), (METHODS["ia3"], IA3Config))
"""Methods that can be imported, and PEFT's configurations of them."""


@dataclass(frozen=True)
class PeftFacts:
    """What is taken from a PEFT config: which of our methods it is, PEFT's word for the kind, the backbone; of a LoRA
    the alpha and those of single modules (by name or its end, first match first), dropout, and what else it is."""

    method: Method[Any]
    task_type: str | None = None
    base_model: str = ""
    revision: str | None = None
    alpha: float = 8.0
    alphas: Mapping[str, float] = field(default_factory=dict)
    dropout: float = 0.0
    rslora: bool = False
    dora: bool = False
    bias: str = "none"
    moved: str = ""
    """The start that has changed the weights it was trained on, and of which the folder holds no trace; or ""."""

    def alpha_of(self, module: str) -> float:
        """The alpha of a module, as PEFT finds it: the first key that is the name or its end."""
        for key, alpha in self.alphas.items():
            if module == key or module.endswith(f".{key}"):
                return alpha
        return self.alpha


def read_facts(config: Mapping[str, Any]) -> PeftFacts:
    """Take what is needed from a config. Raises ArtifactError: with every field that is of another type, or asks for
    something that adapterkit does not have."""
    problems = []
    peft_type = str(config.get("peft_type"))
    fields = {method.peft_type: config_class().to_dict() for method, config_class in _KNOWN}
    if peft_type not in fields:
        problems.append(f"peft_type: found {peft_type!r:.40}, expected {' or '.join(map(repr, fields))}")
    defaults: dict[str, Any] = {}
    for of_one in fields.values():
        defaults |= of_one
    foreign = defaults.keys() - fields.get(peft_type, defaults).keys()
    problems += [f"{key}: a field that {peft_type} does not have" for key in sorted(foreign & config.keys())]
    for key, value in config.items():
        if key in _READ or key in _WITHOUT_EFFECT or value in (None, False, [], {}):
            continue
        if key not in defaults or value != defaults[key]:
            problems.append(f"{key[:80]!r}: found {value!r:.80}, which adapterkit does not have")
    problems += [
        f"{key}: found {config[key]!r:.40}, expected {expected}"
        for key, (fits, expected) in _READ.items()
        if key in config and not fits(config[key])
    ]
    if problems:
        raise ArtifactError("its config asks for other things", shortened([f"{CONFIG}: {each}" for each in problems]))
    return PeftFacts(
        method=next(method for method, _ in _KNOWN if method.peft_type == peft_type),
        task_type=config.get("task_type"),
        base_model=config.get("base_model_name_or_path") or "",
        revision=config.get("revision"),
        alpha=float(config.get("lora_alpha", defaults["lora_alpha"])),
        alphas={key: float(alpha) for key, alpha in (config.get("alpha_pattern") or {}).items()},
        dropout=float(config.get("lora_dropout", 0.0)),
        rslora=config.get("use_rslora", False),
        dora=config.get("use_dora", False),
        bias=config.get("bias", "none"),
        moved=start if (start := config.get("init_lora_weights")) in ("pissa", "olora") else "",
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value <= 1e6


def _are(kind: type, value: Any) -> bool:
    """Whether a value is null, one thing of a kind, or a list of such."""
    return value is None or type(value) is kind or (isinstance(value, list) and all(type(one) is kind for one in value))


_NAMES: Field = (partial(_are, str), "a text, a list of texts, or null")
_NUMBER: Field = (_is_number, "a number above 0")
_TEXT: Field = (lambda value: value is None or (isinstance(value, str) and len(value) <= 4096), "a text or null")
_READ: Mapping[str, Field] = {
    "task_type": _TEXT,
    "base_model_name_or_path": _TEXT,
    "revision": _TEXT,
    "lora_alpha": _NUMBER,
    "lora_dropout": (lambda value: value == 0 or (_is_number(value) and value < 1), "0 up to, not with, 1"),
    "alpha_pattern": (
        lambda value: value is None or by_module(_NUMBER, "")[0](value),
        "plain module names (no pattern) with numbers",
    ),
    "use_rslora": FLAG,
    "use_dora": FLAG,
    "bias": one_of("none", "all", "lora_only"),
    "init_lora_weights": (
        lambda value: value in (True, False, "gaussian", "eva", "orthogonal", "pissa", "olora"),
        "a start that can be computed again; PEFT's path_initial_model_for_weight_conversion saves any other",
    ),
    "r": (lambda value: type(value) is int, "a whole number"),
    "rank_pattern": (
        lambda value: value is None or (isinstance(value, dict) and _are(int, [*value.values()])),
        "whole numbers by module name",
    ),
    "target_modules": _NAMES,
    "exclude_modules": _NAMES,
    "layers_to_transform": (partial(_are, int), "a number, a list of them, or null"),
    "layers_pattern": _NAMES,
    "feedforward_modules": _NAMES,
    "modules_to_save": _NAMES,
}
"""Fields that are taken over, or compared with the tensors, and what fits there."""
