"""Takes a method's tensors out of an artifact by name: each with the shape that is due, and none left over."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from adapterkit.artifact.tensors import all_finite
from adapterkit.backbone import Backbone
from adapterkit.backbone.recognise import hidden_width
from adapterkit.errors import ArtifactError
from adapterkit.host.engine.assembly import Packed
from adapterkit.methods.lora.moved_weight import is_transposed
from adapterkit.methods.lowest_layer import Layered
from adapterkit.methods.reach import bare

REFUSED = "these tensors are not those of the method on this backbone"
REMEDY = "Load the backbone that the artifact was trained on, or fetch the artifact again."


P = TypeVar("P", bound=Layered)


def targets_of(config: Mapping[str, Any], chosen: Mapping[str, P]) -> dict[str, tuple[P, str]]:
    """Path in the trunk -> the site there, and its path in the adapter's model, which may hold only one side of the
    trunk, and then all chosen sites of it. Raises ArtifactError: the config's targets are others."""
    listed = config.get("target_modules")
    targets = [] if isinstance(listed, str) or listed is None else sorted(listed)
    found: dict[str, str] = {}
    problems: list[str] = []
    for target in targets:
        path = _in_trunk(str(target), chosen)
        if path is None or path in found:
            problems.append(f"target_modules: {target}: not one of the method's sites in this backbone")
        else:
            found[path] = target
    held = {chosen[path].side for path in found}
    expected = [path for path, site in chosen.items() if site.side in held or not held]
    problems += [
        f"target_modules: nothing for {path}, which the method adapts" for path in expected if path not in found
    ]
    if problems:
        raise ArtifactError("this adapter's targets are not those of its method on this backbone", problems, REMEDY)
    return {path: (chosen[path], found[path]) for path in expected}


def _in_trunk(target: str, known: Mapping[str, Any]) -> str | None:
    """The longest end of a model's path that is a known path of the trunk."""
    names = target.split(".")
    return next((path for start in range(len(names)) if (path := ".".join(names[start:])) in known), None)


def sizes_of(backbone: Backbone, path: str) -> tuple[int, int]:
    """Outputs and inputs of a linear of the trunk."""
    linear: Any = bare(backbone.trunk.get_submodule(path))
    return hidden_width(linear), int(linear.nx if is_transposed(linear) else linear.in_features)


class Reader:
    """Takes tensors by name, and knows which were missing or had another shape."""

    def __init__(self, names: Mapping[str, Tensor]) -> None:
        self.names = names
        self._shapes: dict[str, tuple[int, ...]] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor on the CPU, as it is; zeros where it cannot be used, which `finish` then reports."""
        self._shapes[name] = shape
        tensor = self.names.get(name)
        if tensor is None or tensor.shape != shape:
            return torch.zeros(shape)
        return tensor.detach().cpu() if tensor.requires_grad or not tensor.is_cpu else tensor

    def finish(self, endings: Sequence[str]) -> None:
        """Refuse what was missing, misshapen, or belongs to the method at a site that it does not adapt."""
        unknown = [
            f"{name}: not a tensor of this method on this backbone"
            for name in sorted(self.names.keys() - self._shapes.keys())
            if name.endswith(tuple(f".{ending}" for ending in endings))
        ]
        fits = all(name in self.names and self.names[name].shape == shape for name, shape in self._shapes.items())
        if unknown or not fits:
            raise ArtifactError(REFUSED, [*self._problems(), *unknown], REMEDY)

    def checked(self, packed: Packed) -> Packed:
        """What was made of the tensors, if it is finite: an infinity or a NaN in any of them is one in it."""
        if not all_finite(packed.flat):
            outside = [f"once scaled, they are out of the range of {packed.flat.dtype}"]
            raise ArtifactError(REFUSED, self._problems() or outside, REMEDY)
        return packed

    def _problems(self) -> list[str]:
        """What is wrong with the tensors that were taken, in that order."""
        problems: list[str] = []
        for name, shape in self._shapes.items():
            tensor = self.names.get(name)
            if tensor is None:
                problems.append(f"{name}: missing")
            elif tensor.shape != shape:
                problems.append(f"{name}: shape {tuple(tensor.shape)}, expected {shape}")
            elif not all_finite(tensor):
                problems.append(f"{name}: holds values that are not finite")
        return problems
