"""What a field of `adapter_config.json` may hold: plain values, no pattern, and no number that allocates at will."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from adapterkit.methods.equations import ACTIVATIONS, PLACEMENTS
from adapterkit.recipe.methods import MAX_ALPHA, MAX_RANK, MAX_WIDTH

Field = tuple[Callable[[Any], bool], str]
"""Whether a value fits, and what is expected in words."""

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


def _is_count(value: Any, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= 2 * MAX_ALPHA


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= _MAX_NAMES and all(map(is_module_name, value))


def one_of(*values: str) -> Field:
    """One of these words."""
    return (lambda value: value in values), f"{', '.join(values[:-1])} or {values[-1]}"


def by_module(field: Field, what: str) -> Field:
    """A mapping of module names to values that fit."""
    fits, _ = field
    return (
        lambda value: isinstance(value, dict) and all(is_module_name(key) and fits(item) for key, item in value.items())
    ), f"{what} by module name"


def or_null(field: Field) -> Field:
    """The same, or nothing."""
    fits, expected = field
    return (lambda value: value is None or fits(value)), f"{expected} or null"


TEXT: Field = (lambda value: isinstance(value, str) and len(value) <= 4096, "a text")
FLAG: Field = (lambda value: type(value) is bool, "true or false")
WORD: Field = (_is_word, "one word")
FLAG_OR_WORD: Field = (lambda value: type(value) is bool or _is_word(value), "true, false or one word")
NUMBER: Field = (_is_number, f"a number of at most {2 * MAX_ALPHA:,.0f}")
SHARE: Field = (lambda value: _is_number(value) and 0 <= value < 1, "at least 0 and below 1")
RANK: Field = (lambda value: _is_count(value, MAX_RANK), f"1 to {MAX_RANK}")
WIDTH: Field = (lambda value: _is_count(value, MAX_WIDTH), f"1 to {MAX_WIDTH}")
NAMES: Field = (_are_names, "a list of module names")
NAMES_OR_NONE: Field = (lambda value: value == [] or _are_names(value), "a list of module names, maybe empty")
RENAMES: Field = by_module((is_module_name, "a module name"), "module names")

OF_BOTTLENECK: Mapping[str, Field] = {
    "residual_modules": RENAMES,
    "norm_modules": RENAMES,
    "placement": one_of(*PLACEMENTS),
    "width": WIDTH,
    "activation": one_of(*ACTIVATIONS),
    "scale": NUMBER,
    "scale_learned": FLAG,
    "dropout": SHARE,
}
"""Those of a bottleneck, which PEFT's tuner checks as well."""

SHARED: Mapping[str, Field] = {
    "peft_type": TEXT,
    "peft_version": TEXT,
    "task_type": or_null(TEXT),
    "base_model_name_or_path": or_null(TEXT),
    "revision": or_null(TEXT),
    "inference_mode": FLAG,
    "modules_to_save": or_null(NAMES),
    "exclude_modules": or_null(NAMES),
    "target_modules": NAMES,
}
"""Those that every method has."""
