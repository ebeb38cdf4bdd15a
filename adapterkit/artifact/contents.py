"""Which tensors an artifact may hold: those of its method at its targets, and those of its head. Nothing else.

What can be known without the backbone is checked here, before a value is read: names, places, ranks and widths. What
only the backbone knows (the exact set and every shape) is checked when the two meet.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import Tensor

from adapterkit.adapted import PREFIX, Adapted
from adapterkit.artifact.config import TOKENS, targets_of
from adapterkit.artifact.tensors import DTYPES, NAMES, TensorEntry, shortened
from adapterkit.errors import ArtifactError
from adapterkit.heads.token_rows import ENDING
from adapterkit.manifest import CONFIG, MANIFEST, TENSORS, Manifest
from adapterkit.methods.peft_fields import is_module_name
from adapterkit.methods.protocol import Method, Shape
from adapterkit.methods.table import method_of
from adapterkit.recipe import MethodSettings

OWN_HEAD = "adapterkit_head"

Shapes = Mapping[str, tuple[int, ...]]


def method_target(name: str, method: Method[Any]) -> str | None:
    """The module that a method's tensor adapts; None for a tensor that is not the method's."""
    for ending in method.endings:
        if name.endswith(f".{ending}"):
            return name[len(PREFIX) : -len(ending) - 1]
    return None


def without_effect(settings: MethodSettings, heads: Collection[str], state: Mapping[str, Any]) -> str:
    """Why a method with these tensors, those named in `heads` left out, changes no state of the backbone; "" where it
    may change some. Biases and magnitudes are whole values: without the backbone's nobody can tell."""
    method = method_of(settings)
    own = [name for name in state if name not in heads]
    if not own:
        return "it has no tensors"
    if any(method_target(name, method) is None or name.endswith("magnitude_vector") for name in own):
        return ""
    for name in own:
        value = next((value for ending, value in method.still.items() if name.endswith(f".{ending}")), None)
        if value is not None and bool((state[name] != value).any()):
            return ""
    return " and ".join(f"{ending} is {value:g} everywhere" for ending, value in method.still.items())


def check_contents(manifest: Manifest, config: Mapping[str, Any], shapes: Shapes) -> None:
    """Check names and shapes against the manifest and PEFT's config.
    Raises ArtifactError: with every tensor that has no place in the artifact, is missing, or has another size."""
    settings = manifest.method
    method = method_of(settings)
    targets = targets_of(config)
    heads = frozenset(manifest.head_tensors)
    problems = _misplaced_heads(manifest, config, targets)
    problems += [f"{CONFIG}: {problem}" for problem in method.config_problems(settings, config, manifest.parts)]
    problems += [f"{TENSORS}: {PREFIX + path!r}: missing" for path in sorted(heads) if PREFIX + path not in shapes]
    by_target: dict[str, dict[str, tuple[int, ...]]] = {target: {} for target in targets}
    for name, shape in shapes.items():
        path = name.removeprefix(PREFIX)
        if path == name or not is_module_name(path):
            problems.append(f"{TENSORS}: {name[:200]!r}: expected a plain name that begins with {PREFIX!r}")
            continue
        target = method_target(name, method)
        if target in by_target:
            by_target[target][path[len(target) + 1 :]] = shape
        elif path not in heads and not method.trains(settings, path):
            problems.append(
                f"{TENSORS}: {name[:200]!r}: neither the method's nor the head's; an artifact holds no backbone tensor"
            )
    for target, tensors in sorted(by_target.items()):
        expected = method.shapes(settings, config, target)
        problems += [f"{TENSORS}: {target}: {problem}" for problem in _shape_problems(tensors, expected)]
    if manifest.head.tokens:
        rows = [shapes.get(f"{PREFIX}{path}.{ENDING}", (0,))[0] for path in config[TOKENS]]
        if rows != [len(manifest.head.tokens)]:
            problems.append(f"{TENSORS}: rows of tokens: found {rows}, expected [{len(manifest.head.tokens)}]")
    hidden = manifest.head.hidden
    if hidden is not None and not any(
        shape[:1] == (hidden,) for name, shape in shapes.items() if name.startswith(f"{PREFIX}{OWN_HEAD}.")
    ):
        problems.append(f"{TENSORS}: no tensor of the head has the width {hidden} that the manifest gives it")
    if problems:
        raise ArtifactError("The tensors are not those of this adapter", shortened(problems))


def put_state(adapted: Adapted, state: Mapping[str, Tensor]) -> None:
    """Give an adapter that was built on its backbone its tensors.
    Raises ArtifactError: with every difference of names and shapes; it is as it was then."""
    found, expected = ({name: tuple(t.shape) for name, t in each.items()} for each in (state, adapted.state()))
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
    adapted.load_state(dict(state))


def dtype_problems(manifest: Manifest, entries: Mapping[str, TensorEntry]) -> list[str]:
    """Tensors whose dtype is not the manifest's; of eight bits are matrices, and what is none is bfloat16 there."""
    words = {name: str(dtype).removeprefix("torch.") for name, dtype in DTYPES.items()}
    problems = []
    for name, entry in entries.items():
        expected = "bfloat16" if manifest.dtype == "int8" and len(entry.shape) != 2 else manifest.dtype
        found = words[NAMES[entry.dtype]]
        if found != expected:
            problems.append(
                f"{TENSORS}: {name!r}: {found}, expected {expected}, since the manifest says {manifest.dtype}"
            )
    return problems


def _misplaced_heads(manifest: Manifest, config: Mapping[str, Any], targets: frozenset[str]) -> list[str]:
    """Heads that would take the place of something the method adapts, or that the manifest does not know."""
    saved = frozenset(config.get("modules_to_save") or ())
    own = manifest.head.is_own
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


def _shape_problems(tensors: Shapes, expected: Mapping[str, Shape]) -> Iterator[str]:
    """What is wrong with the tensors at one target."""
    for ending in sorted(tensors.keys() - expected.keys()):
        yield f"{ending}: the method, as the manifest describes it, has none"
    for ending, sizes in expected.items():
        shape = tensors.get(ending)
        if shape is None:
            yield f"{ending}: missing"
        elif len(shape) != len(sizes) or any(
            size not in (None, found) for found, size in zip(shape, sizes, strict=True)
        ):
            yield f"{ending}: shape {shape}, expected ({', '.join('any' if n is None else str(n) for n in sizes)})"
