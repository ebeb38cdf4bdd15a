"""A backbone: a frozen pretrained model with its tokenizer, and everything an adapter may want to know of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from adapterkit.backbone import limits
from adapterkit.backbone.classes import is_causal, model_class
from adapterkit.backbone.contract import Contract
from adapterkit.backbone.files import find_checkpoint, read_config, weight_files
from adapterkit.backbone.fingerprint import fingerprint_checkpoint
from adapterkit.backbone.hardware import pick_device, pick_dtype
from adapterkit.backbone.limits import Pooling
from adapterkit.backbone.sites import Sites, find_sites
from adapterkit.backbone.tokenizer import load_tokenizer, tokenizer_digest
from adapterkit.errors import BackboneError, SiteError


@dataclass(frozen=True, eq=False)
class Backbone:
    """A pretrained transformers model whose weights never change, with its tokenizer.

    Made by `Backbone.load`.

    Attributes:
        name: the hub id or folder that it was loaded from, as given.
        revision: the hub's commit, or None for a folder.
        folder: where the checkpoint's files are.
        trunk: the model without any head, frozen and in eval mode.
        tokenizer: its tokenizer, which always has a pad token.
        config: the trunk's config.
        device: the device it is on.
        dtype: the number format it computes in. Modules that transformers keeps in float32 stay so.
        uninitialized: names of trunk parameters that the checkpoint lacks (a pooler's); they are the same random
            numbers at every load.
        unused_keys: names of checkpoint tensors that the trunk has no place for (language-model heads).
    """

    name: str
    revision: str | None
    folder: Path
    trunk: nn.Module
    tokenizer: Any
    config: Any
    device: torch.device
    dtype: torch.dtype
    uninitialized: frozenset[str] = frozenset()
    unused_keys: frozenset[str] = frozenset()
    _found_sites: Sites | SiteError | None = field(default=None, repr=False)

    @classmethod
    def load(
        cls,
        name: str | Path,
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        trust_remote_code: bool = False,
    ) -> Backbone:
        """Load a backbone from a folder or from the hub.

        Args:
            name: a folder that `save_pretrained` wrote, or a hub id.
            revision: a hub branch, tag or commit.
            dtype: "float32", "bfloat16", "float16", or "auto" for bfloat16 where the hardware multiplies it fast.
            device: as torch names it, or "auto" for CUDA, then MPS, then the CPU.
            trust_remote_code: run Python code that the checkpoint brings along. Off, such a checkpoint is refused.

        Raises:
            BackboneError: not found, not reachable, incomplete, damaged, or of an architecture that is not known.
            DeviceError: a device or a number format that this machine does not have.
        """
        name = str(name)
        on = pick_device(device)
        torch_dtype = pick_dtype(dtype, on)
        folder, commit = find_checkpoint(name, revision)
        _check_known(folder, trust_remote_code)
        if not weight_files(folder):
            raise BackboneError(
                f"{name} holds a config but no weights",
                [f"expected model.safetensors or pytorch_model.bin in {folder}"],
                "Fetch the checkpoint again, with its weights.",
            )
        with _silence():
            trunk, uninitialized, unused = _load_trunk(folder, torch_dtype, trust_remote_code)
            causal = is_causal(trunk.config)
            tokenizer = load_tokenizer(
                folder,
                causal=causal,
                embedding_rows=trunk.get_input_embeddings().weight.shape[0],
                config_pad=trunk.config.pad_token_id,
                remote=trust_remote_code,
            )
        if causal:
            # transformers' classification heads on decoders find a row's last token by this number.
            trunk.config.pad_token_id = tokenizer.pad_token_id
        trunk.requires_grad_(False).eval().to(on)
        try:
            found: Sites | SiteError = find_sites(trunk)
        except SiteError as error:
            found = error
        return cls(
            name=name,
            revision=commit,
            folder=folder,
            trunk=trunk,
            tokenizer=tokenizer,
            config=trunk.config,
            device=on,
            dtype=torch_dtype,
            uninitialized=uninitialized,
            unused_keys=unused,
            _found_sites=found,
        )

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the trunk is an encoder with a decoder (T5, BART)."""
        return bool(getattr(self.config, "is_encoder_decoder", False))

    @property
    def is_decoder(self) -> bool:
        """Whether the trunk is causal: every token sees only the ones before it (GPT-2, Llama)."""
        return is_causal(self.config)

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""
        return int(self.config.hidden_size)

    @property
    def sites(self) -> Sites:
        """Where methods may attach, as found when the trunk was loaded.

        Raises:
            SiteError: the family's layers are not known; lists the linears found.
        """
        if isinstance(self._found_sites, Sites):
            return self._found_sites
        if self._found_sites is not None:
            raise self._found_sites
        return find_sites(self.trunk)

    @cached_property
    def fingerprint(self) -> str:
        """64 hexadecimal digits over config, tokenizer and weights (see `fingerprint.fingerprint_checkpoint`)."""
        return fingerprint_checkpoint(self.folder, self._tokenizer_digest)

    def full_fingerprint(self) -> str:
        """The fingerprint that reads every byte of the weights."""
        return fingerprint_checkpoint(self.folder, self._tokenizer_digest, full=True)

    @cached_property
    def _tokenizer_digest(self) -> str:
        return tokenizer_digest(self.tokenizer)

    @cached_property
    def contract(self) -> Contract:
        """What this backbone gives."""
        roles = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
        numbers = {role: getattr(self.tokenizer, f"{role}_id", None) for role in roles}
        layers = int(self.config.num_hidden_layers)
        if self.is_encoder_decoder:
            layers += int(getattr(self.config, "num_decoder_layers", None) or self.config.decoder_layers)
        return Contract(
            architecture=str(self.config.model_type),
            hidden_size=self.hidden_size,
            layers=layers,
            vocabulary_size=int(self.config.vocab_size),
            tokenizer=self._tokenizer_digest,
            max_tokens=self.max_tokens,
            padding_side=str(self.tokenizer.padding_side),
            special_tokens={role: int(number) for role, number in numbers.items() if number is not None},
        )

    @cached_property
    def pooling(self) -> Pooling:
        """ "mean", "first" or "last": what the checkpoint says, else by family."""
        return limits.pooling(self.folder, causal=self.is_decoder)

    @cached_property
    def max_tokens(self) -> int | None:
        """The longest input, special tokens included; None where nothing limits it."""
        return limits.max_tokens(self.trunk, self.tokenizer, self.config)

    def model_class(self, kind: str) -> type[Any] | None:
        """The `AutoModelFor…` class of this config for a kind of task, or None (see `classes.model_class`)."""
        return model_class(self.config, kind)


def _check_known(folder: Path, trust_remote_code: bool) -> None:
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


def _load_trunk(folder: Path, dtype: torch.dtype, remote: bool) -> tuple[Any, frozenset[str], frozenset[str]]:
    """The trunk, the parameters that the checkpoint lacks, and the tensors that the trunk has no place for."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=remote)
        # What the checkpoint lacks is drawn at random: the same numbers at every load, and no trace in the caller's
        # generator.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
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
def _silence() -> Iterator[None]:
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
