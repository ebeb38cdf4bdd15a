"""The files that a backbone was loaded from: whether they are still the same, and weights of its own in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from torch import Tensor, nn

from adapterkit.backbone.file_digests import Identity, identity
from adapterkit.backbone.files import weight_files
from adapterkit.errors import BackboneError

_READ = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py", "*/config.json")
"""What is read of a checkpoint beside its weights."""


@dataclass(frozen=True)
class LoadedFiles:
    """The files of a checkpoint at one moment: its folder, and name in it -> what changes with the file's content."""

    folder: Path
    identities: Mapping[str, Identity]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """The files as they are now.
        Raises BackboneError: an index of weights that is damaged, or a file that cannot be looked at."""
        try:
            files = {*weight_files(folder), *(file for pattern in _READ for file in folder.glob(pattern))}
            return cls(folder, {str(file.relative_to(folder)): identity(file) for file in files if file.is_file()})
        except OSError as error:
            raise BackboneError(f"{folder} cannot be read", [str(error)], "Load the backbone again.") from error

    def check(self) -> None:
        """Check that nothing was changed, added or taken away since. Raises BackboneError: names the files."""
        now = LoadedFiles.of(self.folder).identities
        changed = sorted(name for name in {*now, *self.identities} if now.get(name) != self.identities.get(name))
        if changed:
            raise BackboneError(
                f"{self.folder} has changed since the backbone began to be loaded from it",
                [f"{name}: {_what(name in now, name in self.identities)}" for name in changed[:8]],
                "Load the backbone again, once nobody writes to it.",
            )


def _what(is_there: bool, was_there: bool) -> str:
    if is_there and was_there:
        return "written since"
    return "new" if is_there else "gone"


def own_memory(trunk: nn.Module) -> None:
    """Copy weights that are still a mapped file into memory of their own.

    transformers maps safetensors files, and hands out what needs no other number format as it lies there: whoever
    writes over the file would change the weights in use, and whoever cuts it short would kill the process.
    """
    tensors = {id(tensor): tensor for tensor in (*trunk.parameters(), *trunk.buffers())}
    for tensor in tensors.values():
        if tensor.is_cpu and type(tensor.data) is Tensor:
            tensor.data = tensor.data.clone()
