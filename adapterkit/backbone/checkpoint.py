"""Read the trunk out of a checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, PreTrainedConfig

from adapterkit.backbone.files import read_config
from adapterkit.backbone.pretrained import is_model
from adapterkit.errors import BackboneError


def check_known(folder: Path, trust_remote_code: bool) -> None:
    """Refuse an architecture that transformers does not know, or that needs code which is not trusted.
    Raises BackboneError: which of the two it is."""
    config = read_config(folder)
    if config["model_type"] in CONFIG_MAPPING or trust_remote_code:
        return
    unknown = f"transformers {transformers.__version__} knows no architecture {config['model_type']!r}"
    if "auto_map" in config:
        raise BackboneError(
            f"{folder} needs Python code of its own, and running a checkpoint's code is off",
            [f"config.json has an auto_map, and {unknown}"],
            "Read that code; if you trust it, set backbone.trust_remote_code=true.",
        )
    told = [f"it stands in {folder / 'config.json'}"]
    raise BackboneError(unknown, told, "Check the spelling, or install a transformers release that has it.")


@dataclass(frozen=True)
class LoadedTrunk:
    """A trunk out of a checkpoint: without its head, of a checkpoint that also reads pictures or sound the part that
    reads text, with the path of this part ("" for the whole); the names of parameters that the checkpoint lacks, and of
    tensors that its model has no place for; and the formats that weights lack, by where they lie in memory."""

    trunk: Any
    part: str
    uninitialized: frozenset[str]
    unused_keys: frozenset[str]
    formats: dict[int, torch.dtype]


def load_trunk(folder: Path, dtype: torch.dtype, remote: bool, *, as_stored: bool = False) -> LoadedTrunk:
    """Load a checkpoint's trunk. `as_stored`: in the format that its config names, and not in that of the run.
    Raises BackboneError: damaged weights, weights of another shape, or weights that lack more than a pooler."""

    def read(**settings: Any) -> Any:
        return cast(Any, AutoModel).from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=remote,
            output_loading_info=True,
            **settings,
        )

    formats = {}
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=remote)
        # What the checkpoint lacks is drawn at random: the same numbers at every load, and no trace in the caller's
        # generator.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # the CPU's alone: torch.manual_seed would reach every GPU's too
            model, report = read(dtype="auto" if as_stored else dtype)
            if as_stored and report["missing_keys"]:
                model, report = read(dtype=dtype)  # other numbers are drawn in another format
            elif as_stored:
                used, stored = read(dtype=dtype, device_map="meta")[0].state_dict(), model.state_dict()
                formats = {t.data_ptr(): used[n].dtype for n, t in stored.items() if t.dtype != used[n].dtype}
    # Damage shows as whatever the reader of that format raises: safetensors, pickle, zipfile, torch or transformers.
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BackboneError(
            f"the weights in {folder} do not load into the model that its config describes",
            [f"{type(error).__name__}: {line}" if not number else line for number, line in enumerate(lines[:6])],
            "Fetch the checkpoint again; if it stays so, its config and weights do not belong together.",
        ) from error
    part, trunk = text_part(model)
    prefix = f"{part}." if part else ""
    missing = frozenset(key.removeprefix(prefix) for key in report["missing_keys"] if key.startswith(prefix))
    needed = sorted(name for name in missing if "pooler" not in name.split("."))
    if needed:
        raise BackboneError(
            f"the weights in {folder} lack {len(needed)} tensors that a {type(trunk).__name__} needs",
            [f"{name}: missing" for name in needed[:12]],
            "Fetch the checkpoint again; if it stays so, its config and weights do not belong together.",
        )
    return LoadedTrunk(trunk, part, missing, frozenset(report["unexpected_keys"]), formats)


def text_part(model: Any) -> tuple[str, Any]:
    """The part of a model that reads text, and its path: the model itself, but for those that also see or hear.
    Raises BackboneError: the config describes such a part, and the model does not hold it."""
    config = getattr(model.config, "text_config", None)
    if not isinstance(config, PreTrainedConfig):
        return "", model
    for path, module in model.named_modules():
        if path and is_model(module) and type(module.config) is type(config):
            module.config.tie_word_embeddings = model.config.tie_word_embeddings  # the whole's is what counts
            return path, module
    raise BackboneError(
        f"{type(model).__name__} has a text_config and no model of its own for it",
        remedy="Take a checkpoint of the text model alone.",
    )


def own_memory(trunk: nn.Module) -> None:
    """Copy weights that are still a mapped file into memory of their own.

    transformers maps safetensors files, and hands out what needs no other number format as it lies there: whoever
    writes over the file would change the weights in use, and whoever cuts it short would kill the process.
    """
    tensors = {id(tensor): tensor for tensor in (*trunk.parameters(), *trunk.buffers())}
    for tensor in tensors.values():
        if tensor.is_cpu and type(tensor.data) is Tensor:
            tensor.data = tensor.data.clone()


@contextmanager
def silence() -> Iterator[None]:
    """Keep transformers' progress bars and reports off the terminal: what matters of them is kept on the backbone."""
    log = cast(Any, transformers.logging)
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
