"""`adapter_config.json`: PEFT's own file, with the few fields that describe an adapter, and no pattern.

adapterkit takes nothing from it; it is for plain PEFT and vLLM. It is checked all the same, because they do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from adapterkit.artifact.tensors import shortened
from adapterkit.errors import ArtifactError
from adapterkit.manifest import CONFIG
from adapterkit.recipe.kinds import FACTS
from adapterkit.recipe.methods import MAX_RANK

METHODS: Mapping[str, str] = {
    "lora": "LORA",
    "bottleneck": "BOTTLENECK",
    "ia3": "IA3",
    "fusion": "ADAPTER_FUSION",
    "none": "LORA",
}
"""Method -> PEFT's type. An adapter without a method is, to PEFT, a LoRA that targets nothing. PEFT knows no fusion,
and says so instead of loading one without its parts."""

NO_TARGETS = "dummy-target-modules"
"""What PEFT calls a list of no targets (`peft.utils.constants.DUMMY_TARGET_MODULES`)."""

_MODULE = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_WORD = re.compile(r"[a-z0-9_]{1,40}")
_MAX_NAMES = 16_384


def is_module_name(value: object) -> bool:
    """Whether a value is a plain dotted name, which means the same as a name and as a pattern."""
    return isinstance(value, str) and len(value) <= 512 and _is_dotted(value)


@lru_cache(maxsize=8192)
def _is_dotted(name: str) -> bool:
    """Every adapter of a backbone has the same names."""
    return _MODULE.fullmatch(name) is not None


def task_type(kind: str, own_head: bool) -> str | None:
    """PEFT's task type. None with an own head too: PEFT would demand the tensors of the family's head."""
    return None if own_head else FACTS[kind].peft_type


def make_config(
    kind: str,
    method: str,
    content: Mapping[str, Any],
    name: str,
    revision: str | None,
    *,
    own_head: bool,
    heads: Iterable[str] = (),
) -> dict[str, Any]:
    """PEFT's config of an adapter.

    Args:
        kind: the task's.
        method: "lora", "bottleneck", "ia3", "fusion" or "none".
        content: the method's own part, as `Attachment.config` gives it.
        name: the backbone's.
        revision: the backbone's.
        own_head: whether the head is one that the family's class lacks.
        heads: modules of the family's class that are saved whole.
    """
    fields = _FIELDS[method]
    config = {key: value for key, value in content.items() if key in fields}
    if method == "none":
        config = {"r": 1, "lora_alpha": 1, "target_modules": NO_TARGETS}
    return {
        **config,
        "peft_type": METHODS[method],
        "task_type": task_type(kind, own_head),
        "modules_to_save": sorted(heads) or None,
        "base_model_name_or_path": name,
        "revision": revision,
        "inference_mode": True,
    }


def check_config(config: Mapping[str, Any], kind: str, method: str, *, own_head: bool) -> None:
    """Check a config against the manifest's kind, method and head.

    Raises:
        ArtifactError: with every field that is unknown, of another type, out of bounds, or a pattern.
    """
    fields = _FIELDS[method]
    problems = [
        f"{CONFIG}: {key[:80]!r}: a field that an artifact does not have" for key in config if key not in fields
    ]
    problems += [
        f"{CONFIG}: {key}: found {config[key]!r:.80}, expected {expected}"
        for key, (fits, expected) in fields.items()
        if key in config and not fits(config[key])
    ]
    needed = ("peft_type", "target_modules", *(("feedforward_modules",) if method == "ia3" else ()))
    problems += [f"{CONFIG}: {key}: missing" for key in needed if key not in config]
    for key, expected in (("peft_type", METHODS[method]), ("task_type", task_type(kind, own_head))):
        if key in config and config[key] != expected:
            problems.append(f"{CONFIG}: {key}: found {config[key]!r:.80}, expected {expected!r} for {kind} by {method}")
    if problems:
        raise ArtifactError(f"{CONFIG} cannot be used", shortened(problems))


def targets_of(config: Mapping[str, Any]) -> frozenset[str]:
    """The modules that a checked config targets."""
    targets = config["target_modules"]
    return frozenset() if targets == NO_TARGETS else frozenset(targets)


Check = tuple[Callable[[Any], bool], str]


def _or_null(check: Check) -> Check:
    return (lambda value: value is None or check[0](value)), f"{check[1]} or null"


def _numbers(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(is_module_name(key) and fits(item) for key, item in value.items())


def _is_rank(value: Any) -> bool:
    return type(value) is int and 1 <= value <= MAX_RANK


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= 1e6


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= _MAX_NAMES and all(map(is_module_name, value))


_TEXT: Check = (lambda value: isinstance(value, str) and len(value) <= 4096, "a text")
_FLAG: Check = (lambda value: type(value) is bool, "true or false")
_NUMBER: Check = (_is_number, "a number of at most a million")
_SHARE: Check = (lambda value: _is_number(value) and 0 <= value < 1, "at least 0 and below 1")
_RANK: Check = (_is_rank, f"1 to {MAX_RANK}")
_NAMES: Check = (_are_names, "a list of module names")
_RENAMES: Check = (lambda value: _numbers(value, is_module_name), "module names by module name")

_SHARED: Mapping[str, Check] = {
    "peft_type": _TEXT,
    "peft_version": _TEXT,
    "task_type": _or_null(_TEXT),
    "base_model_name_or_path": _or_null(_TEXT),
    "revision": _or_null(_TEXT),
    "inference_mode": _FLAG,
    "modules_to_save": _or_null(_NAMES),
    "exclude_modules": _or_null(_NAMES),
}
_LORA: Mapping[str, Check] = {
    **_SHARED,
    "target_modules": _NAMES,
    "r": _RANK,
    "lora_alpha": _NUMBER,
    "lora_dropout": _SHARE,
    "rank_pattern": (lambda value: _numbers(value, _is_rank), "ranks by module name"),
    "alpha_pattern": (lambda value: _numbers(value, _is_number), "numbers by module name"),
    "bias": (lambda value: value in ("none", "all", "lora_only"), "none, all or lora_only"),
    "fan_in_fan_out": _FLAG,
    "use_rslora": _FLAG,
    "use_dora": _FLAG,
    "init_lora_weights": (
        lambda value: type(value) is bool or (isinstance(value, str) and _WORD.fullmatch(value) is not None),
        "true, false or one word",
    ),
}
_BOTTLENECK: Mapping[str, Check] = {
    **_SHARED,
    "target_modules": _NAMES,
    "residual_modules": _RENAMES,
    "norm_modules": _RENAMES,
    "placement": (lambda value: value in ("houlsby", "pfeiffer", "parallel"), "houlsby, pfeiffer or parallel"),
    "width": (lambda value: type(value) is int and 1 <= value <= 1 << 16, f"1 to {1 << 16}"),
    "activation": (lambda value: isinstance(value, str) and _WORD.fullmatch(value) is not None, "one word"),
    "scale": _NUMBER,
    "scale_learned": _FLAG,
    "dropout": _SHARE,
}
_IA3: Mapping[str, Check] = {
    **_SHARED,
    "target_modules": _NAMES,
    "feedforward_modules": (lambda value: value == [] or _are_names(value), "a list of module names, maybe empty"),
    "fan_in_fan_out": _FLAG,
    "init_ia3_weights": _FLAG,
}
_FUSION: Mapping[str, Check] = {
    **_SHARED,
    "target_modules": _NAMES,
    "residual_modules": _RENAMES,
    "norm_modules": _RENAMES,
    "placement": _BOTTLENECK["placement"],
    "query_width": _BOTTLENECK["width"],
    "value": _FLAG,
    "dropout": _SHARE,
}
_NONE: Mapping[str, Check] = {
    **_SHARED,
    "target_modules": (lambda value: value == NO_TARGETS, repr(NO_TARGETS)),
    "r": _RANK,
    "lora_alpha": _NUMBER,
}
_FIELDS: Mapping[str, Mapping[str, Check]] = {
    "lora": _LORA,
    "bottleneck": _BOTTLENECK,
    "ia3": _IA3,
    "fusion": _FUSION,
    "none": _NONE,
}
