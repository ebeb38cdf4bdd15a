"""A backbone without weights: its modules, shapes and number formats, built from config.json alone.

Every weight is one zero, seen at every place of its shape (stride 0). So an 8-billion-parameter trunk takes no memory,
and all that puts heads and methods on a trunk works on it unchanged.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from adapterkit.backbone import Backbone
from adapterkit.backbone.checkpoint import check_known, silence, text_part
from adapterkit.backbone.classes import is_causal
from adapterkit.backbone.files import find_checkpoint, read_config, weight_files
from adapterkit.backbone.frozen import freeze_for
from adapterkit.backbone.quantisation import kept_form
from adapterkit.backbone.tokenizer import load_tokenizer
from adapterkit.errors import BackboneError
from adapterkit.planning.dispatching import COPY_TO, TorchDispatchMode, replace_tensors
from adapterkit.recipe import BackboneSettings

CHARACTERS_PER_TOKEN = 4
"""Of the stand-in for a tokenizer that is missing: usual for English text and vocabularies of 30,000 tokens or more."""


@dataclass(frozen=True)
class Hollow:
    """A backbone without weights."""

    backbone: Backbone
    """Everything that asks for weights (its fingerprint) does not work."""
    has_head: bool
    """Whether the checkpoint holds tensors beside the trunk's: those of a language model's head."""
    notes: tuple[str, ...]
    """What had to be assumed."""


def hollow_backbone(settings: BackboneSettings, dtype: torch.dtype) -> Hollow:
    """A backbone without weights, on the CPU. Raises BackboneError: no config, or an architecture that is not known."""
    folder, commit = find_checkpoint(settings.name, settings.revision, weights=False)
    check_known(folder, settings.trust_remote_code)
    notes = []
    form = kept_form(read_config(folder), settings.dtype)
    with silence():
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=settings.trust_remote_code)
        with torch.device("meta"):
            model = cast(Any, AutoModel).from_config(config, dtype=dtype, trust_remote_code=settings.trust_remote_code)
        part, trunk = text_part(model)
        # In the place of what is on the meta device, something of its shape on the CPU.
        replace_tensors(trunk, lambda own: torch.zeros((), dtype=own.dtype).expand(own.shape) if own.is_meta else own)
        causal = is_causal(trunk.config)
        rows = trunk.get_input_embeddings().weight.shape[0]
        try:
            tokenizer = load_tokenizer(
                folder, causal=causal, embedding_rows=rows, config_pad=trunk.config.pad_token_id, remote=False
            )
        except BackboneError:
            tokenizer = _stand_in(causal)
            notes.append(f"{folder} holds no tokenizer: {CHARACTERS_PER_TOKEN} characters count as one token")
    found = freeze_for(trunk, tokenizer)
    uninitialized, has_head = _compared_with_file(folder, trunk)
    if not weight_files(folder):
        notes.append(f"{folder} holds no weights: a language-model head is taken to be the checkpoint's own")
    backbone = Backbone(
        name=settings.name,
        revision=commit,
        folder=folder,
        trunk=trunk,
        tokenizer=tokenizer,
        config=trunk.config,
        device=torch.device("cpu"),
        dtype=dtype,
        uninitialized=uninitialized,
        unused_keys=frozenset(),
        padding_side=tokenizer.padding_side,
        _found_sites=found,
        quantised=form,
        part=part,
    )
    return Hollow(backbone, has_head, tuple(notes))


class Unfilled(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, nothing is filled with values: what is allocated stays a promise of the system, and takes no memory."""

    _FILLING = ("normal_", "uniform_", "zero_", "fill_")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket.__name__ in self._FILLING:
            return args[0]
        if func is COPY_TO and args[0].is_floating_point() and not kwargs.get("device"):
            return torch.empty(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype, device=args[0].device)
        return func(*args, **kwargs)


def _compared_with_file(folder: Path, trunk: nn.Module) -> tuple[frozenset[str], bool]:
    """Trunk parameters (poolers) that the checkpoint lacks, and whether it holds tensors beside the trunk's.

    Read from the headers of safetensors files; of other files, and without any, all is taken to be there.
    """
    files = [file for file in weight_files(folder) if file.suffix == ".safetensors"]
    if not files:
        return frozenset(), True
    keys: set[str] = set()
    for file in files:
        with safe_open(file, framework="pt") as opened:
            keys.update(opened.keys())
    prefix = f"{trunk.base_model_prefix}."
    short = {key.removeprefix(prefix) for key in keys}
    own = {name for name, _ in trunk.named_parameters()}
    missing = frozenset(name for name in own - short if "pooler" in name.split("."))
    return missing, bool(short - own)


def _stand_in(causal: bool) -> Any:
    """A tokenizer that takes some characters for one token, whatever they are."""
    special = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
    core = Tokenizer(models.WordLevel({token: number for number, token in enumerate(special)}, unk_token="<unk>"))
    pieces = pre_tokenizers.Split(Regex(f"[\\s\\S]{{1,{CHARACTERS_PER_TOKEN}}}"), behavior="isolated")
    core.pre_tokenizer = pieces
    ends = "" if causal else " </s>"
    core.post_processor = processors.TemplateProcessing(
        single=f"<s> $A{ends}", pair=f"<s> $A{ends} $B{ends}", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_input_names=["input_ids", "attention_mask"],
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
