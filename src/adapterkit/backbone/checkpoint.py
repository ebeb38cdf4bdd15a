"""Read the trunk out of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from transformers import AutoConfig, AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from adapterkit.backbone.files import read_config
from adapterkit.errors import BackboneError


def check_known(folder: Path, trust_remote_code: bool) -> None:
    """Refuse an architecture that transformers does not know, or that needs code which is not trusted.

    Raises:
        BackboneError: which of the two it is.
    """
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
    raise BackboneError(
        unknown,
        [f"it stands in {folder / 'config.json'}"],
        "Check the spelling, or install a transformers release that has it.",
    )


def load_trunk(folder: Path, dtype: torch.dtype, remote: bool) -> tuple[Any, frozenset[str], frozenset[str]]:
    """The trunk, the names of the parameters that the checkpoint lacks, and of the tensors that it has no place for.

    Raises:
        BackboneError: damaged weights, weights of another shape, or weights that lack more than a pooler.
    """
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=remote)
        # What the checkpoint lacks is drawn at random: the same numbers at every load, and no trace in the caller's
        # generator.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # the CPU's alone: torch.manual_seed would reach every GPU's too
            trunk, report = cast(Any, AutoModel).from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                local_files_only=True,
                trust_remote_code=remote,
                output_loading_info=True,
            )
    # Damage shows as whatever the reader of that format raises: safetensors, pickle, zipfile, torch or transformers.
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BackboneError(
            f"the weights in {folder} do not load into the model that its config describes",
            [f"{type(error).__name__}: {line}" if not number else line for number, line in enumerate(lines[:6])],
            "Fetch the checkpoint again; if it stays so, its config and weights do not belong together.",
        ) from error
    missing = frozenset(report["missing_keys"])
    needed = sorted(name for name in missing if "pooler" not in name.split("."))
    if needed:
        raise BackboneError(
            f"the weights in {folder} lack {len(needed)} tensors that a {type(trunk).__name__} needs",
            [f"{name}: missing" for name in needed[:12]],
            "Fetch the checkpoint again; if it stays so, its config and weights do not belong together.",
        )
    return trunk, missing, frozenset(report["unexpected_keys"])


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
