"""A LoRA or IA3 folder that plain PEFT wrote, head included, turned into an artifact with the same answers.

The tensors say what was adapted: their names are the modules, their shapes the ranks, or the side that IA3
scales. What the config says of modules and ranks is compared with them, and must be the same.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapterkit.artifact.contents import method_target
from adapterkit.artifact.convert.imports import SEED, ImportOptions, backbone_of, importing, make_task, save_imported
from adapterkit.artifact.convert.method_settings import find_method
from adapterkit.artifact.convert.peft_facts import PeftFacts, read_facts
from adapterkit.artifact.convert.peft_tensors import (
    refuse_backbone_tensors,
    with_checkpoint_head,
    with_moved_weight,
    with_pooler_head,
    without_wrappers,
)
from adapterkit.artifact.saving import SaveDtype
from adapterkit.artifact.tensors import parse_header, read_tensors
from adapterkit.backbone import Backbone
from adapterkit.backbone.tokenizer import has_tokenizer, load_tokenizer, template_digest, tokenizer_digest
from adapterkit.errors import ArtifactError
from adapterkit.heads import build_head
from adapterkit.manifest import CONFIG, MAX_BYTES, TENSORS, parse_object, read_file
from adapterkit.recipe import HeadSettings
from adapterkit.recipe.kinds import FACTS, KINDS
from adapterkit.tasks.table import TASKS


def import_peft(
    src: str | Path,
    out: str | Path,
    backbone: Backbone | str | Path | None = None,
    *,
    kind: str | None = None,
    labels: Sequence[str] | None = None,
    task: Mapping[str, Any] | None = None,
    rows: Sequence[Mapping[str, Any]] = (),
    overwrite: bool = False,
    dtype: SaveDtype | None = None,
) -> Path:
    """Turn a LoRA or IA3 folder of plain PEFT into an artifact.

    Args:
        src: the folder, with adapter_config.json and adapter_model.safetensors.
        out: where the artifact shall stand.
        backbone: what it was trained on, or where to load that from; None loads what its config names.
        kind: of the task; None takes what its config says (`task_type`).
        labels: names of the classes in the order of the logits, which no PEFT folder holds. Not for kinds without.
        task: more of a recipe's task settings, for instance {"problem": "multi-label"}: a text classification is
            taken as single-label where nothing is said.
        rows: rows to take the golden rows from; without them a few sentences of ours.
        overwrite: replace what stands at `out`.
        dtype: of the saved tensors. None keeps that of the folder, so that not one bit changes.

    Returns:
        `out` as a path.

    Raises:
        ArtifactError: the folder is damaged, a fact is missing, or it holds something that adapterkit does not have.
        BackboneError: the backbone, or a tokenizer that lies in the folder, cannot be loaded.
        OutputError: `out` is in the way or cannot be written.
    """
    src, asked = Path(src), ImportOptions(kind, labels, task, rows, overwrite, dtype)
    with importing(src):
        config = parse_object(read_source(src, CONFIG), CONFIG)
        facts = read_facts(config)
        tensors = read_peft_tensors(src)
        kind = _kind(facts, kind)
        backbone = backbone_of(backbone, facts.base_model, facts.revision)
        check_tokenizer(src, backbone, kind)
        own = {int(t.shape[0]) for name, t in tensors.items() if method_target(name, facts.method) is None and t.dim()}
        made = make_task(kind, labels, task or {}, sorted(own))
        head = HeadSettings(kind="family")
        bare = build_head(backbone, kind, made.classes, head, seed=SEED)
        refuse_backbone_tensors(tensors, facts, bare)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        if (pooled := with_pooler_head(tensors, facts, backbone)) is not None:
            tensors, head = pooled
            shapes = {
                name.replace("pooler.dense.lora_A.weight", "pooler.dense.weight"): shape
                for name, shape in shapes.items()
                if "pooler.dense.lora_B." not in name
            }
        else:
            tensors = with_checkpoint_head(tensors, bare)
        method = find_method(facts, config, shapes, bare.module, backbone)
        del bare
        method, tensors = with_moved_weight(facts, method, tensors, backbone, made, head)
        return save_imported(out, src, "PEFT", asked, backbone, made, method, head, tensors)


def read_source(src: Path, name: str) -> bytearray:
    """A file of a folder that PEFT wrote. Raises ArtifactError where it is not there."""
    path = src / name
    if not os.path.exists(path):
        pickled = os.path.exists(src / "adapter_model.bin") and name == TENSORS
        found = "adapter_model.bin, which can run code when it is read" if pickled else "no such file"
        raise ArtifactError(
            "a file is missing",
            [f"{name}: found {found}, expected {name}"],
            "Save it again with a current PEFT, which writes safetensors." if pickled else "Give PEFT's own folder.",
        )
    # A hub client's cache is made of links; the file that one leads to is read as strictly as any other.
    return read_file(path.resolve(), MAX_BYTES[name])


def read_peft_tensors(src: Path) -> dict[str, Tensor]:
    """The tensors of a folder that PEFT wrote, by their names without what training has wrapped modules in, and without
    what PEFT writes twice when biases are saved: a head's bias, and the frozen original of that."""
    raw = read_source(src, TENSORS)
    found = read_tensors(raw, parse_header(raw, TENSORS), TENSORS)
    kept = {name: tensor for name, tensor in found.items() if ".original_module." not in name}
    for name in [name for name in kept if ".modules_to_save." in name]:
        again = kept.get(name.replace(".modules_to_save.", "."))
        if again is not None and torch.equal(again, kept[name]):
            del kept[name]
    return without_wrappers(kept)


def _kind(facts: PeftFacts, asked: str | None) -> str:
    stated = next((kind for kind, of in FACTS.items() if of.peft_type and of.peft_type == facts.task_type), None)
    if asked is None and stated is None:
        problem = f"kind: its config says task_type {facts.task_type!r:.40}, which names none"
        raise ArtifactError("its kind is not known", [problem], f"Pass kind= one of {', '.join(KINDS)}.")
    if asked is not None and asked not in FACTS:
        raise ArtifactError(f"{asked!r:.40} is not a kind of task", remedy=f"Pass one of {', '.join(KINDS)}.")
    if asked is not None and stated not in (None, asked):
        problem = f"kind: its config says {facts.task_type} ({stated}), and {asked} was asked for"
        raise ArtifactError("it is for another kind of task", [problem], f"Leave kind out, or pass kind={stated}.")
    return str(asked or stated)


def check_tokenizer(src: Path, backbone: Backbone, kind: str) -> None:
    """Compare a tokenizer that lies in the folder with the backbone's, which is the one that an artifact is read with.
    Raises ArtifactError: it reads text otherwise, or ends or lays out chats otherwise; BackboneError: it does not load,
    or does not fit the backbone's embedding."""
    if not has_tokenizer(src):
        return
    rows = backbone.trunk.get_input_embeddings().weight.shape[0]  # type: ignore[operator]
    pad, causal = backbone.config.pad_token_id, backbone.is_decoder
    found = load_tokenizer(src, causal=causal, embedding_rows=rows, config_pad=pad, remote=False)
    problems = []
    if tokenizer_digest(found) != backbone.contract.tokenizer:
        theirs = ", ".join(f"{name} {token!r:.40}" for name, token in sorted(found.special_tokens_map.items()))
        problems.append(f"tokenizer: {len(found):,} tokens, {theirs}: it reads text otherwise than the backbone's")
    if TASKS[kind].generates and template_digest(found) != backbone.contract.chat_template:
        problems.append("chat template: it is not the backbone's")
    if problems:
        raise ArtifactError(
            "it brings another tokenizer than the backbone has",
            problems,
            "Put its tokenizer beside the backbone's weights, in a folder of your own, and name that: backbone=FOLDER. "
            "Or delete its tokenizer's files, if the adapter was trained without them.",
        )
