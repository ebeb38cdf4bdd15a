"""Which tensors an artifact may hold: those of its method at its targets, and those of its head. Nothing else.

What can be known without the backbone is checked here, before a value is read: names, places, ranks and widths. What
only the backbone knows (the exact set and every shape) is checked when the two meet.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from adapterkit.adapted import PREFIX
from adapterkit.artifact.config import is_module_name, targets_of
from adapterkit.artifact.tensors import NAMES, shortened
from adapterkit.errors import ArtifactError
from adapterkit.manifest import CONFIG, MANIFEST, TENSORS, Manifest
from adapterkit.recipe import FusionMethod, Ia3Method, LoraMethod

OWN_HEAD = "adapterkit_head"

_ENDINGS: Mapping[str, tuple[str, ...]] = {
    "lora": ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector"),
    "bottleneck": (
        "bottleneck_down.weight",
        "bottleneck_down.bias",
        "bottleneck_up.weight",
        "bottleneck_up.bias",
        "bottleneck_scale",
    ),
    "ia3": ("ia3_l",),
    "fusion": ("fusion_query.weight", "fusion_query.bias", "fusion_key.weight", "fusion_value.weight"),
    "none": (),
}
"""How a method's tensors end, as PEFT's files have them, after the path of the module that they adapt."""

Shapes = Mapping[str, tuple[int, ...]]


def method_target(name: str, method: str) -> str | None:
    """The module that a method's tensor adapts; None for a tensor that is not the method's."""
    for ending in _ENDINGS[method]:
        if name.endswith(f".{ending}"):
            return name[len(PREFIX) : -len(ending) - 1]
    return None


def check_contents(manifest: Manifest, config: Mapping[str, Any], shapes: Shapes) -> None:
    """Check names and shapes against the manifest and PEFT's config.

    Raises:
        ArtifactError: with every tensor that has no place in the artifact, is missing, or has another size.
    """
    method = manifest.method.kind
    targets = targets_of(config)
    heads = frozenset(manifest.head_tensors)
    problems = _misplaced_heads(manifest, config, targets)
    problems += [
        f"{CONFIG}: feedforward_modules: {module!r} is not one of target_modules"
        for module in sorted(set(config.get("feedforward_modules") or ()) - targets)
    ]
    problems += [f"{TENSORS}: {PREFIX + path!r}: missing" for path in sorted(heads) if PREFIX + path not in shapes]
    by_target: dict[str, dict[str, tuple[int, ...]]] = {target: {} for target in targets}
    stated = _stated(manifest.method) if isinstance(manifest.method, LoraMethod) else ([], [])
    for name, shape in shapes.items():
        path = name.removeprefix(PREFIX)
        if path == name or not is_module_name(path):
            problems.append(f"{TENSORS}: {name[:200]!r}: expected a plain name that begins with {PREFIX!r}")
            continue
        target = method_target(name, method)
        if target in by_target:
            by_target[target][path[len(target) + 1 :]] = shape
        elif path not in heads and not _is_trained_bias(path, manifest):
            problems.append(
                f"{TENSORS}: {name[:200]!r}: neither the method's nor the head's; an artifact holds no backbone tensor"
            )
    for target, tensors in sorted(by_target.items()):
        problems += [
            f"{TENSORS}: {target}: {problem}" for problem in _method_problems(manifest, config, target, tensors, stated)
        ]
    hidden = manifest.head.hidden
    if hidden is not None and not any(
        shape[0] == hidden for name, shape in shapes.items() if name.startswith(f"{PREFIX}{OWN_HEAD}.")
    ):
        problems.append(f"{TENSORS}: no tensor of the head has the width {hidden} that the manifest gives it")
    if problems:
        raise ArtifactError("The tensors are not those of this adapter", shortened(problems))


def check_state(found: Shapes, expected: Shapes) -> None:
    """Check names and shapes against an adapter that was built on the backbone.

    Raises:
        ArtifactError: with every difference.
    """
    problems = [f"{TENSORS}: {name!r}: missing" for name in sorted(expected.keys() - found.keys())]
    problems += [
        f"{TENSORS}: {name!r}: this adapter has no such tensor" for name in sorted(found.keys() - expected.keys())
    ]
    problems += [
        f"{TENSORS}: {name!r}: shape {found[name]}, expected {expected[name]}"
        for name in sorted(found.keys() & expected.keys())
        if found[name] != expected[name]
    ]
    if problems:
        raise ArtifactError("The tensors are not those of this adapter on this backbone", shortened(problems))


def dtype_problems(manifest: Manifest, dtypes: Mapping[str, Any]) -> list[str]:
    """Tensors whose dtype is not the manifest's."""
    words = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
    return [
        f"{TENSORS}: {name!r}: {words[NAMES[dtype]]}, and the manifest says {manifest.dtype}"
        for name, dtype in dtypes.items()
        if words[NAMES[dtype]] != manifest.dtype
    ]


def _misplaced_heads(manifest: Manifest, config: Mapping[str, Any], targets: frozenset[str]) -> list[str]:
    """Heads that would take the place of something the method adapts, or that the manifest does not know."""
    saved = frozenset(config.get("modules_to_save") or ())
    own = manifest.head.kind != "family"
    problems = [
        f"{MANIFEST}: head_tensors: {path[:200]!r}: an own head's tensor begins with {OWN_HEAD!r}, and only that one's"
        for path in manifest.head_tensors
        if path.startswith(f"{OWN_HEAD}.") != own
    ]
    problems += [
        f"{CONFIG}: modules_to_save: {module!r} holds or lies in a module that the method adapts"
        for module in sorted(saved)
        if any(_below(target, {module}) or _below(module, {target}) for target in targets)
    ]
    problems += [
        f"{CONFIG}: modules_to_save: {module!r} holds no tensor of the head"
        for module in sorted(saved)
        if not any(_below(path, {module}) for path in manifest.head_tensors)
    ]
    return problems


def _below(path: str, modules: Collection[str]) -> bool:
    names = path.split(".")
    return any(".".join(names[:count]) in modules for count in range(1, len(names) + 1))


def _is_trained_bias(path: str, manifest: Manifest) -> bool:
    method = manifest.method
    return isinstance(method, LoraMethod) and method.bias != "none" and path.endswith(".bias")


def _method_problems(
    manifest: Manifest,
    config: Mapping[str, Any],
    target: str,
    tensors: Mapping[str, tuple[int, ...]],
    stated: tuple[list[int], list[float]],
) -> list[str]:
    """What is wrong with the tensors at one target. Only the first size is compared: the others need the backbone."""
    if isinstance(manifest.method, LoraMethod):
        rank = config.get("rank_pattern", {}).get(target, config.get("r"))
        problems = _size_problems(tensors, "lora_A.weight", 2, 0, rank)
        problems += _size_problems(tensors, "lora_B.weight", 2, 1, rank)
        if manifest.method.dora != ("lora_magnitude_vector" in tensors):
            problems.append("lora_magnitude_vector: it must be there with DoRA, and only then")
        return problems + _strength_problems(stated, config, target, rank)
    if isinstance(manifest.method, FusionMethod):
        return _fusion_problems(manifest, manifest.method, config, tensors)
    if isinstance(manifest.method, Ia3Method):
        # A row on what is read, a column on what is given.
        return _size_problems(tensors, "ia3_l", 2, 0 if target in config["feedforward_modules"] else 1, 1)
    width = config.get("width")
    problems = _size_problems(tensors, "bottleneck_down.weight", 2, 0, width)
    return problems + _size_problems(tensors, "bottleneck_up.weight", 2, 1, width)


def _fusion_problems(
    manifest: Manifest, method: FusionMethod, config: Mapping[str, Any], tensors: Mapping[str, tuple[int, ...]]
) -> list[str]:
    width = config.get("query_width")
    problems = _size_problems(tensors, "fusion_query.weight", 2, 0, width)
    problems += _size_problems(tensors, "fusion_key.weight", 2, 0, width)
    if config.get("placement") not in {part.method.placement for part in manifest.parts}:
        problems.append(f"placement {config.get('placement')} is not that of the parts")
    if method.query_width not in (None, width):
        problems.append(f"query width {width} is not the manifest's ({method.query_width})")
    if method.value != ("fusion_value.weight" in tensors):
        problems.append("fusion_value.weight: it must be there with method.value, and only then")
    return problems


def _stated(method: LoraMethod) -> tuple[list[int], list[float]]:
    """Ranks and alphas that a LoRA may have. What starts from the weights is saved with both halves: see
    `methods.moved_weight`."""
    halves = 2 if method.initialization in ("pissa", "olora") else 1
    factor = math.sqrt(halves) if method.rslora else halves
    ranks = sorted({halves * stated for stated in (method.rank, *method.rank_pattern.values())})
    return ranks, sorted({factor * stated for stated in (method.alpha, *method.alpha_pattern.values())})


def _strength_problems(
    stated: tuple[list[int], list[float]], config: Mapping[str, Any], target: str, rank: int | None
) -> list[str]:
    """Rank and alpha that are not the manifest's."""
    ranks, alphas = stated
    alpha = config.get("alpha_pattern", {}).get(target, config.get("lora_alpha"))
    problems = []
    if rank not in ranks:
        problems.append(f"rank {rank} is none of the manifest's ({', '.join(map(str, ranks))})")
    if alpha is None or not any(math.isclose(alpha, stated) for stated in alphas):
        problems.append(f"alpha {alpha} is none of the manifest's ({', '.join(map(str, alphas))})")
    return problems


def _size_problems(
    tensors: Mapping[str, tuple[int, ...]], ending: str, dimensions: int, axis: int, size: int | None
) -> list[str]:
    shape = tensors.get(ending)
    if shape is None:
        return [f"{ending}: missing"]
    if len(shape) != dimensions or shape[axis] != size:
        return [f"{ending}: shape {shape}, expected {size} on axis {axis} of {dimensions}"]
    return []
