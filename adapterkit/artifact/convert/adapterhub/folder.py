"""The files of an AdapterHub folder: its configs, and its tensors, which no pickle may build anything else than."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterkit.artifact.tensors import dump_tensors, parse_header, read_tensors, shortened
from adapterkit.errors import ArtifactError
from adapterkit.manifest import CONFIG, MAX_BYTES, TENSORS, dump_json, parse_object, read_file

Tensors = Mapping[str, Tensor]

ADAPTER = (CONFIG, "adapter.safetensors", "pytorch_adapter.bin")
HEAD = ("head_config.json", "model_head.safetensors", "pytorch_model_head.bin")
FUSION = ("adapter_fusion_config.json", "model_adapter_fusion.safetensors", "pytorch_model_adapter_fusion.bin")
"""Names of files: the config, the safetensors, which are written, and the pickle, AdapterHub's own default."""

SETUP = "adapter_setup.json"


@dataclass(frozen=True)
class Saved:
    """One thing that AdapterHub saved: an adapter, a head or a fusion."""

    config: Mapping[str, Any]
    """Its JSON; under "config" the settings."""
    tensors: Tensors
    """By AdapterHub's names."""

    @property
    def name(self) -> str:
        """What AdapterHub calls it in the tensors' names."""
        return str(self.config.get("name"))


def read_saved(folder: Path, names: tuple[str, str, str]) -> Saved:
    """Read a config and the tensors that go with it.
    Raises ArtifactError: a file is missing, damaged, or holds more than tensors."""
    config, safe, pickled = names
    found = parse_object(read_file((folder / config).resolve(), MAX_BYTES[CONFIG]), config)
    if not (folder / safe).exists() and not (folder / pickled).exists():
        problem = f"{safe}: no such file, and no {pickled}"
        raise ArtifactError("a file is missing", [problem], "Give AdapterHub's own folder.")
    name = safe if (folder / safe).exists() else pickled
    raw = read_file((folder / name).resolve(), MAX_BYTES[TENSORS])
    tensors = read_tensors(raw, parse_header(raw, name), name) if name == safe else _unpickled(bytes(raw), name)
    return Saved(found, tensors)


def write_saved(folder: Path, names: tuple[str, str, str], content: Mapping[str, Any], tensors: Tensors) -> None:
    """Write a config and the tensors that go with it."""
    folder.mkdir(exist_ok=True)
    (folder / names[0]).write_bytes(dump_json(content))
    (folder / names[1]).write_bytes(dump_tensors(tensors))


def read_head(folder: Path) -> Saved | None:
    """The head in a folder, or None where there is none."""
    return read_saved(folder, HEAD) if any((folder / name).exists() for name in HEAD) else None


def _unpickled(raw: bytes, name: str) -> Tensors:
    """Tensors of a `torch.save`, through torch's loader that builds nothing else; a file that would grow is refused."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ArtifactError(
                    f"{name} cannot be read", [f"{name}: it is compressed, which torch.save never does"]
                )
        found = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except ArtifactError:
        raise
    except Exception as error:
        raise ArtifactError(
            f"{name} cannot be read",
            [f"{name}: {str(error).splitlines()[0][:200] if str(error) else type(error).__name__}"],
            "Save it again with use_safetensors=True.",
        ) from error
    problems = []
    if not isinstance(found, dict):
        raise ArtifactError(f"{name} cannot be read", [f"{name}: a {type(found).__name__}, expected tensors by name"])
    for key, tensor in found.items():
        if not isinstance(key, str) or not isinstance(tensor, Tensor):
            problems.append(f"{name}: {str(key)[:80]!r}: a {type(tensor).__name__}, expected a tensor")
        elif not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            problems.append(f"{name}: {key[:80]!r}: {tensor.dtype} with values that are no finite numbers")
    if problems:
        raise ArtifactError(f"{name} cannot be read", shortened(problems))
    return {key: tensor.contiguous() for key, tensor in found.items()}
