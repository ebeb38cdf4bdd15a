"""A backbone: a frozen pretrained model with its tokenizer, and everything an adapter may want to know of it."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from adapterkit.backbone import limits
from adapterkit.backbone.checkpoint import check_known, load_trunk, own_memory, silence
from adapterkit.backbone.classes import is_causal, model_class
from adapterkit.backbone.contract import Contract, TextSide
from adapterkit.backbone.file_digests import LoadedFiles
from adapterkit.backbone.files import find_checkpoint, read_config, read_generation, weight_files
from adapterkit.backbone.fingerprint import Coverage, fingerprints
from adapterkit.backbone.frozen import freeze_for
from adapterkit.backbone.hardware import pick_device, pick_dtype, say_narrow
from adapterkit.backbone.limits import Pooling
from adapterkit.backbone.packed_weights import plain_source
from adapterkit.backbone.quantisation import Quantised, adopt, kept_form, quantise, stored_form
from adapterkit.backbone.sites import Sites
from adapterkit.backbone.tokenizer import generation_digest, load_tokenizer, template_digest, tokenizer_digest
from adapterkit.backbone.trunk import twin_of
from adapterkit.errors import BackboneError, DeviceError, SiteError
from adapterkit.glance import in_short
from adapterkit.recipe.formats import QUANTISED


@dataclass(frozen=True, eq=False)
class Backbone:
    """A pretrained transformers model whose weights never change, with its tokenizer. Made by `Backbone.load`.

    Attributes:
        name: the hub id or folder that it was loaded from, as given; `folder` is where the files are.
        revision: the hub's commit, or None for a folder.
        trunk: the model without any head, frozen and in eval mode; `config` is its own.
        tokenizer: its tokenizer, which always has a pad token.
        dtype: the number format it computes in. Modules that transformers keeps in float32 stay so.
        quantised: how the linears of its layers keep their weights, in eight or four bits; "" for plain numbers.
        uninitialized: names of trunk parameters that the checkpoint lacks (a pooler's); they are the same random
            numbers at every load in one dtype.
        unused_keys: names of checkpoint tensors that the trunk has no place for (language-model heads).
        padding_side: the side that the tokenizer padded on when it was loaded; the tokenizer's own can be changed.
        part: path of the trunk in the checkpoint's own model, where that sees or hears too (Gemma 3, Qwen3.5); else "".
        heads: what the checkpoint holds of heads, by what was asked for; filled as heads are built.
        generation: the checkpoint's generation_config.json; empty where it has none.
        fingerprints: what tells this checkpoint from others, by how much of the weights was read for it (see
            `fingerprint.fingerprints`); taken when it was loaded.
        files: what its files were when it was loaded.
        formats: of weights that lie in another one, the format that they are to be computed in, by their address.
    """

    name: str
    revision: str | None
    folder: Path
    trunk: nn.Module
    tokenizer: Any
    config: Any
    device: torch.device
    dtype: torch.dtype
    uninitialized: frozenset[str]
    unused_keys: frozenset[str]
    padding_side: TextSide
    _found_sites: Sites | SiteError = field(repr=False)
    quantised: Quantised = ""
    part: str = ""
    heads: dict[tuple[Any, ...], dict[str, Tensor]] = field(default_factory=dict, repr=False)
    generation: Mapping[str, Any] = field(default_factory=dict, repr=False)
    fingerprints: Mapping[Coverage, str] = field(default_factory=dict, repr=False)
    files: LoadedFiles | None = field(default=None, repr=False)
    formats: Mapping[int, torch.dtype] = field(default_factory=dict, repr=False)

    __repr__ = in_short("name", "architecture=contract.architecture", "layers=contract.layers", "dtype", "device.type")

    @classmethod
    def load(
        cls,
        name: str | Path,
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        trust_remote_code: bool = False,
        compute_dtype: str = "auto",
        fingerprint: Coverage = "whole",
        mapped: bool = False,
        as_stored: bool = False,
    ) -> Self:
        """Load a backbone from a folder or from the hub.

        Its weights are in memory of its own: a file that is written over later changes no answer.

        Args:
            name: a folder that `save_pretrained` wrote, or a hub id.
            revision: a hub branch, tag or commit.
            dtype: "float32", "bfloat16", "float16", or "auto" for bfloat16 where the hardware multiplies it fast;
                "int8" (needs torchao) or "nf4" (needs bitsandbytes) for narrow weights in the linears of its layers.
            device: as torch names it, or "auto" for CUDA, then MPS, then the CPU.
            trust_remote_code: run Python code that the checkpoint brings along. Off, such a checkpoint is refused.
            compute_dtype: of everything else, and of the products, where `dtype` is "int8" or "nf4"; as `dtype`.
            fingerprint: "samples" reads only blocks of weights that take 8 GiB or more to tell them from others; an
                artifact whose fingerprint covers all of its backbone's weights is refused then.
            mapped: leave weights in their files where they lie there as they are used, for whoever takes a part of
                them; whoever writes over the files changes them.
            as_stored: leave them in the format of the checkpoint, for whoever gives each its own (`formats`).

        Raises:
            BackboneError: not found, not reachable, incomplete, damaged, or of an architecture that is not known; or
                its files changed while they were read.
            DeviceError: a device or a number format that this machine does not have; or `compute_dtype` beside a
                `dtype` that says it already.
            SiteError: narrow weights for a family whose layers are not known.
        """
        name = str(name)
        on = pick_device(device)
        if compute_dtype != "auto" and dtype not in QUANTISED:
            raise DeviceError(
                f"compute_dtype={compute_dtype!r} goes with {' or '.join(QUANTISED)}, and dtype is {dtype!r}",
                remedy=f"Load with dtype={compute_dtype!r} alone.",
            )
        torch_dtype = pick_dtype(compute_dtype if dtype in QUANTISED else dtype, on)
        if "auto" in (dtype, compute_dtype if dtype in QUANTISED else "") and torch_dtype == torch.bfloat16:
            say_narrow()
        folder, commit = find_checkpoint(name, revision)
        check_known(folder, trust_remote_code)
        if not weight_files(folder):
            told = [f"expected model.safetensors or pytorch_model.bin in {folder}"]
            raise BackboneError(
                f"{name} holds a config but no weights", told, "Fetch the checkpoint again, with its weights."
            )
        files = LoadedFiles.of(folder)
        config, generation = read_config(folder), read_generation(folder)
        form = kept_form(config, dtype)
        with silence():
            loaded = load_trunk(folder, torch_dtype, trust_remote_code, as_stored=as_stored)
            trunk = loaded.trunk
            tokenizer = load_tokenizer(
                folder,
                causal=is_causal(trunk.config),
                embedding_rows=trunk.get_input_embeddings().weight.shape[0],
                config_pad=trunk.config.pad_token_id,
                remote=trust_remote_code,
            )
        found = freeze_for(trunk, tokenizer)
        if stored_form(config):
            adopt(trunk, torch_dtype)
        elif form:
            if isinstance(found, SiteError):
                raise found
            quantise(trunk, found, form, on)  # before the rest moves, so that a device never holds all weights
        trunk.to(on)
        if not mapped:
            own_memory(trunk)
        digest = tokenizer_digest(tokenizer)
        loaded_as = fingerprints(folder, digest, fingerprint)
        files.check()
        backbone = cls(
            name=name,
            revision=commit,
            folder=folder,
            trunk=trunk,
            tokenizer=tokenizer,
            config=trunk.config,
            device=on,
            dtype=torch_dtype,
            uninitialized=loaded.uninitialized,
            unused_keys=loaded.unused_keys,
            padding_side=tokenizer.padding_side,
            _found_sites=found,
            quantised=form,
            part=loaded.part,
            generation=generation,
            fingerprints=loaded_as,
            files=files,
            formats=loaded.formats,
        )
        _ = backbone.contract  # as loaded, whatever is set on the tokenizer later
        return backbone

    def twin(self) -> Self:
        """This backbone in modules and parameters of its own, over the same memory: each may carry an adapter at the
        same time. What a method puts in the place of a frozen tensor (a split weight, a trained bias) is its own."""
        twin, source = copy.copy(self), plain_source(self.trunk)
        object.__setattr__(twin, "trunk", twin_of(source))
        object.__setattr__(twin, "plain_source", source)  # as long as there are twins, they share its memory
        return twin

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
        """Where methods may attach, as found when the trunk was loaded. Raises SiteError: the family's layers are not
        known; lists the linears found."""
        if isinstance(self._found_sites, SiteError):
            raise self._found_sites
        return self._found_sites

    @property
    def known_sites(self) -> Sites:
        """`sites`, or none at all where the family's layers are not known and heads alone can be trained."""
        return self._found_sites if isinstance(self._found_sites, Sites) else Sites((), (), {})

    @property
    def coverage(self) -> Coverage:
        """How much of the weights `fingerprint` covers."""
        return "whole" if "whole" in self.fingerprints else "samples"

    @property
    def fingerprint(self) -> str:
        """64 hexadecimal digits over config, tokenizer and weights, taken when the backbone was loaded."""
        return self.fingerprints[self.coverage]

    def check_files(self) -> None:
        """Check that the checkpoint's files are those that were loaded, before more is read of them. Raises
        BackboneError: they are others."""
        if self.files is not None:
            self.files.check()

    def fingerprint_read_again(self) -> str:
        """The fingerprint over every byte of the checkpoint as it lies on the disk, whatever is remembered of it.
        Raises BackboneError: the files are not those that were loaded, or cannot be read."""
        self.check_files()
        return fingerprints(self.folder, self.contract.tokenizer, again=True)["whole"]

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
            tokenizer=tokenizer_digest(self.tokenizer),
            max_tokens=self.max_tokens,
            padding_side=self.padding_side,
            truncation_side=self.tokenizer.truncation_side,
            generation=generation_digest(self.generation),
            chat_template=template_digest(self.tokenizer),
            special_tokens={role: int(number) for role, number in numbers.items() if number is not None},
        )

    @cached_property
    def pooling(self) -> Pooling:
        """ "mean", "first" or "last": what the checkpoint says, else by family."""
        self.check_files()
        return limits.pooling(self.folder, causal=self.is_decoder)

    @cached_property
    def max_tokens(self) -> int | None:
        """The longest input, special tokens included; None where nothing limits it."""
        return limits.max_tokens(self.trunk, self.tokenizer, self.config)

    def model_class(self, kind: str) -> type[Any] | None:
        """The `AutoModelFor…` class of this config for a kind of task, or None (see `classes.model_class`)."""
        return model_class(self.config, kind)
