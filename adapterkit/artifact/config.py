"""`adapter_config.json`: PEFT's own file, with the few fields that describe an adapter, and no pattern.

adapterkit takes nothing from it; it is for plain PEFT and vLLM. It is checked all the same, because they do.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from adapterkit.artifact.tensors import shortened
from adapterkit.errors import ArtifactError
from adapterkit.manifest import CONFIG
from adapterkit.methods.peft_fields import SHARED, Field, by_module
from adapterkit.methods.rows.none import NO_TARGETS
from adapterkit.methods.table import method_of
from adapterkit.recipe import MethodSettings
from adapterkit.recipe.kinds import FACTS

TOKENS = "trainable_token_indices"
"""PEFT's field of LoRA for tokens that have rows of their own."""


def task_type(kind: str, own_head: bool) -> str | None:
    """PEFT's task type. None with an own head too: PEFT would demand the tensors of the family's head."""
    return None if own_head else FACTS[kind].peft_type


def make_config(
    kind: str,
    method: MethodSettings,
    content: Mapping[str, Any],
    name: str,
    revision: str | None,
    *,
    own_head: bool,
    heads: Iterable[str] = (),
    token_rows: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Any]:
    """PEFT's config of an adapter. `content`: the method's own part, as `Attachment.config` gives it. `name`,
    `revision`: the backbone's. `heads`: modules of the class that are saved whole. `token_rows`: see `Headed`."""
    fields = {**SHARED, **method_of(method).fields}
    return {
        **{key: value for key, value in content.items() if key in fields},
        "peft_type": method_of(method).peft_type,
        "task_type": task_type(kind, own_head),
        "modules_to_save": sorted(heads) or None,
        "base_model_name_or_path": name,
        "revision": revision,
        "inference_mode": True,
        **({TOKENS: {path: list(tokens) for path, tokens in token_rows.items()}} if token_rows else {}),
    }


def check_config(
    config: Mapping[str, Any], kind: str, method: MethodSettings, *, own_head: bool, tokens: int = 0
) -> None:
    """Check a config against the manifest's kind, method and head. `tokens`: how many have rows of their own. Raises
    ArtifactError: with every field that is unknown, of another type, out of bounds, or a pattern."""
    row = method_of(method)
    fields: dict[str, Field] = {**SHARED, **row.fields}
    if tokens:
        fields[TOKENS] = by_module((partial(_are_numbers, tokens), "numbers"), f"{tokens} token numbers")
    problems = [
        f"{CONFIG}: {key[:80]!r}: a field that an artifact does not have" for key in config if key not in fields
    ]
    problems += [
        f"{CONFIG}: {key}: found {config[key]!r:.80}, expected {expected}"
        for key, (fits, expected) in fields.items()
        if key in config and not fits(config[key])
    ]
    needed = ("peft_type", "target_modules", *row.required, *[TOKENS] * bool(tokens))
    problems += [f"{CONFIG}: {key}: missing" for key in needed if key not in config]
    for key, expected in (("peft_type", row.peft_type), ("task_type", task_type(kind, own_head))):
        if key in config and config[key] != expected:
            what = f"{kind} by {method.kind}"
            problems.append(f"{CONFIG}: {key}: found {config[key]!r:.80}, expected {expected!r} for {what}")
    if problems:
        raise ArtifactError(f"{CONFIG} cannot be used", shortened(problems))


def targets_of(config: Mapping[str, Any]) -> frozenset[str]:
    """The modules that a checked config targets."""
    targets = config["target_modules"]
    return frozenset() if targets == NO_TARGETS else frozenset(targets)


def _are_numbers(count: int, value: Any) -> bool:
    """Whether a value is a list of so many numbers of tokens, all different."""
    plain = isinstance(value, list) and all(type(one) is int and 0 <= one < 2**31 for one in value)
    return plain and len({*value}) == len(value) == count
