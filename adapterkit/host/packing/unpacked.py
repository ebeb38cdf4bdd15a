"""A method's tensors as an artifact holds them: taken by name with the shape that is due, and none left over."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from adapterkit.backbone import Backbone
from adapterkit.backbone.named_tensors import all_finite, misfits
from adapterkit.backbone.recognise import hidden_width
from adapterkit.backbone.sites import P
from adapterkit.errors import ArtifactError
from adapterkit.host.engine.assembly import Laid, Packed, assemble
from adapterkit.methods.fusion.part import Part
from adapterkit.methods.lora.moved_weight import is_transposed
from adapterkit.methods.reach import bare
from adapterkit.recipe import MethodSettings

S = TypeVar("S", bound=MethodSettings)


class Unpacked(Generic[S]):
    """A method that is not packed yet: the artifact's settings and adapter_config.json, which says which modules the
    adapter's model holds; its tensors by path and ending in that model, those of the head maybe among them; the
    backbone that it fits; and the parts of a fusion, in its order."""

    def __init__(
        self,
        settings: S,
        config: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        backbone: Backbone,
        parts: Sequence[Part] = (),
    ) -> None:
        self.settings = settings
        self.config = config
        self.tensors = tensors
        self.backbone = backbone
        self.parts = parts
        self._due: dict[str, tuple[int, ...]] = {}

    def targets(self, chosen: Mapping[str, P]) -> dict[str, tuple[P, str]]:
        """Path in the trunk -> the site there, and its path in the adapter's model, which may hold only one side of the
        trunk, and then all chosen sites of it. Raises ArtifactError: the config's targets are others."""
        listed = self.config.get("target_modules")
        found: dict[str, str] = {}
        problems: list[str] = []
        for target in map(str, [] if isinstance(listed, str) or listed is None else sorted(listed)):
            names = target.split(".")
            ends = (".".join(names[start:]) for start in range(len(names)))
            path = next((path for path in ends if path in chosen), None)
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
            raise refused(problems, "this adapter's targets are not those of its method on this backbone")
        return {path: (chosen[path], found[path]) for path in expected}

    def sizes(self, path: str) -> tuple[int, int]:
        """Outputs and inputs of a linear of the trunk."""
        linear: Any = bare(self.backbone.trunk.get_submodule(path))
        return hidden_width(linear), int(linear.nx if is_transposed(linear) else linear.in_features)

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor on the CPU, as it is; zeros where it cannot be used, which `packed` then reports."""
        self._due[name] = shape
        tensor = self.tensors.get(name)
        if tensor is None or tensor.shape != shape:
            return torch.zeros(shape)
        return tensor.detach().cpu() if tensor.requires_grad or not tensor.is_cpu else tensor

    def packed(self, endings: Sequence[str], laid: Sequence[Laid], lowest_layer: Mapping[str, int]) -> Packed:
        """What was made of the tensors that were taken, assembled; the arguments of `assemble`. Raises ArtifactError:
        tensors that were missing, misshapen or not finite, or with such an ending at a module that is not adapted."""
        unknown = [
            f"{name}: not a tensor of this method on this backbone"
            for name in sorted(self.tensors.keys() - self._due.keys())
            if name.endswith(tuple(f".{ending}" for ending in endings))
        ]
        fits = all(name in self.tensors and self.tensors[name].shape == shape for name, shape in self._due.items())
        if unknown or not fits:
            raise refused([*misfits(self.tensors, self._due), *unknown])
        packed = assemble(self.backbone, laid, lowest_layer)
        if not all_finite(packed.flat):  # an infinity or a NaN in any of the tensors is one in it
            outside = [f"once scaled, they are out of the range of {packed.flat.dtype}"]
            raise refused(misfits(self.tensors, self._due) or outside)
        return packed


def refused(
    problems: Sequence[str], summary: str = "these tensors are not those of the method on this backbone"
) -> ArtifactError:
    """The error for tensors that cannot be packed."""
    remedy = "Load the backbone that the artifact was trained on, or fetch the artifact again."
    return ArtifactError(summary, problems, remedy)


Packer = Callable[[Unpacked[Any]], Packed]
"""Raises ArtifactError and SiteError as `packers.pack`."""
