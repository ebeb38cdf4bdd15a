"""Merge an adapter into a copy of its backbone, and write a plain transformers checkpoint.

The copy is read from the checkpoint's files, so no backbone in memory is touched. Before the folder appears, the
checkpoint in it is loaded by transformers alone and must answer as the adapter does.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import Tensor

from adapterkit.adapted import Adapted
from adapterkit.artifact.card import escaped, export_card
from adapterkit.artifact.convert.answering import REMEDY, check_answers, expected_answers, plain_answer, temper
from adapterkit.artifact.golden import TOLERANCE
from adapterkit.artifact.reading import Artifact
from adapterkit.backbone import Backbone
from adapterkit.backbone.checkpoint import silence
from adapterkit.backbone.generation_rules import FILE
from adapterkit.errors import ExportError, MergeError
from adapterkit.manifest import CARD
from adapterkit.methods.table import method_of
from adapterkit.recipe.kinds import FACTS

ExportDtype = Literal["float32", "bfloat16", "float16"]

_PROBLEMS: Mapping[str, str] = {
    "single-label": "single_label_classification",
    "multi-label": "multi_label_classification",
    "regression": "regression",
}

NEAR = 1e-5
"""By how much an answer of the loaded checkpoint may differ from the merged model in memory, as a share of the largest
number of its row (at least of 1). They have the same weights, so there is hardly a reason to differ at all.

From the adapter's own answers the merged model may differ as `verify` allows: merging rounds every weight once more,
which moves ordinary models by some 1e-6, and those that amplify any rounding by more.
"""


def write_checkpoint(
    artifact: Artifact, copy: Backbone, stage: Path, out: Path, *, trunk_only: bool, dtype: ExportDtype
) -> None:
    """Merge an adapter into a backbone of its own, and write both as one checkpoint. Arguments as of `export`."""
    adapted = artifact.adapted(copy)
    batches, expected = expected_answers(adapted, artifact, trunk_only)
    model = _merged(adapted, trunk_only)
    _describe(model.config, adapted, trunk_only)
    model.to(getattr(torch, dtype))
    merged = [plain_answer(model, batch, trunk_only) for batch in batches]
    check_answers("merged into the weights, the adapter answers otherwise", merged, expected, TOLERANCE[dtype])
    with silence():
        _save(model, copy.folder / FILE, stage)
        copy.tokenizer.save_pretrained(stage)
        (stage / CARD).write_bytes(_card(artifact, trunk_only))
        loaded = _loaded(stage, artifact, trunk_only, dtype)
        found = [plain_answer(loaded, batch, trunk_only) for batch in batches]
        check_answers("what transformers loads answers otherwise than what was written", found, merged, NEAR)


def check_mergeable(artifact: Artifact, *, trunk_only: bool, dtype: str) -> None:
    """Raises ExportError or MergeError for what a plain checkpoint has no place for."""
    if dtype not in TOLERANCE:
        raise ExportError(f"{dtype!r} is not a format of weights", remedy=f"Take one of {', '.join(TOLERANCE)}.")
    method, head = artifact.manifest.method, artifact.manifest.head
    row = method_of(method)
    if reason := row.why_not_merged(method):
        plain = f" Plain PEFT loads it after `{row.peft_import}`." if row.peft_import else ""
        raise MergeError(
            f"{artifact.folder} is a {method.words} adapter, which cannot be merged into weights",
            [reason],
            f"Serve it with ak.Host or ak.load.{plain}",
        )
    if head.is_own and not trunk_only:
        raise ExportError(
            f"{artifact.folder} has a {head.kind} head of our own, which no transformers class has",
            [f"head: {head.kind}, expected family: the head of {FACTS[artifact.task.kind].auto_class}"],
            "Export the merged trunk alone (trunk_only=True, --trunk-only), train with head.kind=family, or serve it "
            "with ak.Host or ak.load.",
        )


def _merged(adapted: Adapted, trunk_only: bool) -> Any:
    """The plain model with the merged weights, of modules that are transformers' own again."""
    model: Any = adapted.backbone.trunk if trunk_only else adapted.module
    adapted.merge()
    values = {
        name.replace(".base_layer.", "."): tensor.detach().clone()
        for name, tensor in model.state_dict(keep_vars=True).items()
    }
    adapted.detach()
    own: dict[str, Tensor] = model.state_dict()
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(values[name])
        if not trunk_only:
            temper(own, adapted.headed.trained, adapted.task)
    model.requires_grad_(True)
    return model.eval()


def _save(model: Any, generation: Path, stage: Path) -> None:
    """Write a model, with the checkpoint's own generation config as it is: transformers reads what it refuses to
    write."""
    kept = generation.exists() and getattr(model, "generation_config", None) is not None
    if kept:
        model.generation_config = transformers.GenerationConfig()
    try:
        model.save_pretrained(stage)
    except ValueError as error:
        raise ExportError("transformers cannot write this model", [str(error)[:300]], REMEDY) from error
    if kept:
        shutil.copyfile(generation, stage / FILE)


def _describe(config: Any, adapted: Adapted, trunk_only: bool) -> None:
    """Labels and kind of problem, as transformers' pipelines read them."""
    if trunk_only:
        return
    task = adapted.task
    if task.labels:
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {label: number for number, label in enumerate(task.labels)}
    if task.problem:
        config.problem_type = _PROBLEMS[task.problem]


def _loaded(folder: Path, artifact: Artifact, trunk_only: bool, dtype: str) -> Any:
    """The checkpoint as transformers alone loads it. Raises ExportError where names are missing or left over."""
    auto = "AutoModel" if trunk_only else FACTS[artifact.task.kind].auto_class
    loaded, info = getattr(transformers, auto).from_pretrained(
        folder, dtype=getattr(torch, dtype), local_files_only=True, output_loading_info=True
    )
    problems = [f"{kind}: {name}" for kind in ("missing_keys", "unexpected_keys") for name in sorted(info[kind])]
    if problems:
        raise ExportError(f"{auto} does not load what was written", problems, REMEDY)
    return loaded.eval()


def _card(artifact: Artifact, trunk_only: bool) -> bytes:
    manifest = artifact.manifest
    auto = "AutoModel" if trunk_only else FACTS[artifact.task.kind].auto_class
    what = "the merged trunk, without the adapter's head," if trunk_only else f"a {artifact.task.kind} model"
    told = (
        f"This is {what} as transformers loads it (`{auto}`): an adapter merged into a copy of "
        f"{escaped(Path(manifest.backbone.name).name)}. The adapter's manifest has the digest `{manifest.sha256}`."
    )
    return export_card(manifest, "Merged adapter", told, library="transformers", relation="finetune")
