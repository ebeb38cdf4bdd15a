"""Merge an adapter into a copy of its backbone, and write a plain transformers checkpoint.

The copy is read from the checkpoint's files, so no backbone in memory is touched. Before the folder appears, the
checkpoint in it is loaded by transformers alone and must answer as the adapter does.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import Tensor, nn

from adapterkit.adapted import Adapted
from adapterkit.artifact.card import escaped, quoted
from adapterkit.artifact.golden import TOLERANCE
from adapterkit.artifact.loading import Artifact, open_artifact
from adapterkit.backbone import Backbone
from adapterkit.backbone.checkpoint import silence
from adapterkit.backbone.generation_rules import FILE
from adapterkit.errors import ExportError, MergeError
from adapterkit.heads.headed import logits_of
from adapterkit.manifest import check_output, stage_folder
from adapterkit.methods.table import method_of
from adapterkit.recipe.kinds import FACTS
from adapterkit.tasks.confident import temperature_of

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


REMEDY = "Nothing was written. Please report it with the model's family; ak.Host and ak.load serve the artifact."


def export(
    artifact: str | Path | Artifact,
    out: str | Path,
    *,
    to: str = "transformers",
    backbone: Backbone | str | Path | None = None,
    trunk_only: bool = False,
    dtype: ExportDtype = "float32",
    overwrite: bool = False,
) -> Path:
    """Write a checkpoint that transformers loads without adapterkit, and that answers as the adapter does.

    Args:
        artifact: a LoRA (DoRA, rsLoRA and trained biases too), an IA3, or a head alone.
        out: the folder to write.
        to: "transformers": a checkpoint with the adapter merged into the weights.
        backbone: whose checkpoint is read, or where it is; None takes what the artifact names. A loaded one is left
            alone: its files are read again.
        trunk_only: write the merged trunk without any head, for `AutoModel`.
        dtype: of the written weights. The merging is done in float32 and rounded once.
        overwrite: replace what stands at `out`.

    Returns:
        `out` as a path.

    Raises:
        ExportError: a checkpoint cannot express the adapter, or does not answer as it does; nothing is written then.
        MergeError: a bottleneck or a fusion, which is no change of weights.
        ContractError: the backbone is another one.
        OutputError: something stands there, or the disk refuses.
    """
    out = Path(out)
    _check_format(to, artifact)
    if dtype not in TOLERANCE:
        raise ExportError(f"{dtype!r} is not a format of weights", remedy=f"Take one of {', '.join(TOLERANCE)}.")
    check_output(out, overwrite=overwrite)
    artifact = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    _check_expressible(artifact, trunk_only)
    copy = _copy_of(artifact, backbone)
    adapted = artifact.adapted(copy)
    batches = list(_batches(adapted, artifact))
    expected = [_answer(adapted, batch, trunk_only) for batch in batches]
    model = _merged(adapted, trunk_only)
    _describe(model.config, adapted, trunk_only)
    model.to(getattr(torch, dtype))
    merged = [_answer(model, batch, trunk_only) for batch in batches]
    _check_answers("merged into the weights, the adapter answers otherwise", merged, expected, TOLERANCE[dtype])
    with stage_folder(out, overwrite=overwrite) as stage, silence():
        _save(model, copy.folder / FILE, stage)
        copy.tokenizer.save_pretrained(stage)
        (stage / "README.md").write_text(_card(artifact, trunk_only), encoding="utf-8")
        loaded = _loaded(stage, artifact, trunk_only, dtype)
        found = [_answer(loaded, batch, trunk_only) for batch in batches]
        _check_answers("what transformers loads answers otherwise than what was written", found, merged, NEAR)
    return out


def _check_format(to: str, artifact: str | Path | Artifact) -> None:
    folder = artifact.folder if isinstance(artifact, Artifact) else artifact
    if to == "peft":
        raise ExportError(
            "an artifact is a PEFT folder already",
            remedy=f"PeftModel.from_pretrained(model, {str(folder)!r}) loads it as it is; its card has the lines.",
        )
    if to != "transformers":
        raise ExportError(f"{to!r} is not a format that adapters are exported to", remedy="Take transformers.")


def _check_expressible(artifact: Artifact, trunk_only: bool) -> None:
    """Raises ExportError or MergeError for what a plain checkpoint has no place for."""
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


def _copy_of(artifact: Artifact, backbone: Backbone | str | Path | None) -> Backbone:
    """A backbone of our own in float32, from the files."""
    named = artifact.manifest.backbone
    if isinstance(backbone, Backbone):
        source, revision = str(backbone.folder), None
    else:
        source, revision = (str(backbone), None) if backbone is not None else (named.name, named.revision)
    return Backbone.load(source, revision=revision, dtype="float32", device="cpu")


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
            _temper(adapted, own)
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


def _temper(adapted: Adapted, own: Mapping[str, Tensor]) -> None:
    """Divide logits by the task's temperature, in the weights of the head's last linear with one output per class.

    `export` compares the answers, which proves that it was the one.
    """
    weights = {name: own[name] for name in adapted.headed.trained if name.endswith(".weight")}
    ends = [name for name, tensor in weights.items() if tensor.dim() == 2 and len(tensor) == adapted.task.classes]
    for name in (each for end in ends[-1:] for each in (end, f"{end.removesuffix('weight')}bias") if each in own):
        own[name].div_(temperature_of(adapted.task))


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


def _batches(adapted: Adapted, artifact: Artifact) -> Iterator[dict[str, Tensor]]:
    """The inputs of a few rows, one by one: the golden rows, else sentences of ours."""
    task = adapted.task
    rows: Sequence[Mapping[str, Any]] = [row.row for row in artifact.manifest.golden.rows]
    for row in rows or task.sample_rows(task.labels, task.problem):
        features = task.encode([row], adapted.vocabulary, task.proof).features
        if features:
            yield task.collate(features, adapted.vocabulary, seed=None).inputs


def _answer(model: nn.Module, inputs: dict[str, Tensor], trunk_only: bool) -> Tensor:
    """Logits, or the trunk's states; of an encoder-decoder's trunk those of its encoder, which needs no target."""
    if trunk_only:
        trunk: Any = model.backbone.trunk if isinstance(model, Adapted) else model
        rows = {name: value.reshape(-1, value.shape[-1]) for name, value in inputs.items()}
        if trunk.config.is_encoder_decoder:
            trunk, rows = trunk.get_encoder(), {name: rows[name] for name in ("input_ids", "attention_mask")}
        rows.pop("labels", None)
        with torch.inference_mode():
            return trunk(**rows).last_hidden_state.float()  # type: ignore[no-any-return]
    with torch.inference_mode():
        if isinstance(model, Adapted):
            tempered: Tensor = model(inputs).float() / temperature_of(model.task)
            return tempered
        return logits_of(model(**inputs)).float()


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


def _check_answers(summary: str, found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    """Raises ExportError with every row whose answer is another one."""
    problems = [] if expected else ["there is no row to compare by"]
    for number, (answer, wanted) in enumerate(zip(found, expected, strict=True), start=1):
        allowed = tolerance * max(1.0, float(wanted.abs().max()))
        worst = float((answer - wanted).abs().max()) if answer.shape == wanted.shape else float("inf")
        if not worst <= allowed:
            problems.append(f"row {number}: differs by {worst:.3g}, expected at most {allowed:.3g}")
    if problems:
        raise ExportError(summary, problems, REMEDY)


def _card(artifact: Artifact, trunk_only: bool) -> str:
    """A short README with the hub's metadata."""
    manifest = artifact.manifest
    auto = "AutoModel" if trunk_only else FACTS[artifact.task.kind].auto_class
    what = "the merged trunk, without the adapter's head," if trunk_only else f"a {artifact.task.kind} model"
    lines = ["---"]
    if not Path(manifest.backbone.name).is_absolute():
        lines += [f"base_model: {quoted(manifest.backbone.name)}", "base_model_relation: finetune"]
    lines += ["library_name: transformers", "---", "", "# Merged adapter", ""]
    lines.append(
        f"This is {what} as transformers loads it (`{auto}`): an adapter merged into a copy of "
        f"{escaped(Path(manifest.backbone.name).name)}. The adapter's manifest has the digest `{manifest.sha256}`."
    )
    return "\n".join([*lines, ""])
