"""A folder that AdapterHub saved, head and fusion included, turned into an artifact with the same answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.artifact.convert.adapterhub.bottleneck import read_bottleneck
from adapterkit.artifact.convert.adapterhub.folder import (
    FUSION_CONFIG,
    FUSION_WEIGHTS,
    HEAD_WEIGHTS,
    SETUP,
    WEIGHTS,
    Saved,
    read_head,
    read_saved,
)
from adapterkit.artifact.convert.adapterhub.fusion import fusion_settings, fusion_tensors, read_setup
from adapterkit.artifact.convert.adapterhub.head import HeadFacts, describe_head, head_tensors
from adapterkit.artifact.convert.adapterhub.linears import read_linears
from adapterkit.artifact.convert.imported import SEED, save_imported
from adapterkit.artifact.convert.method_settings import find_method
from adapterkit.artifact.convert.peft_facts import PeftFacts
from adapterkit.artifact.convert.samples import make_task
from adapterkit.artifact.loading import read_parts
from adapterkit.artifact.saving import SaveDtype
from adapterkit.backbone import Backbone
from adapterkit.errors import ArtifactError
from adapterkit.heads import Headed, build_head
from adapterkit.manifest import CONFIG, check_output
from adapterkit.methods.reach import Reach
from adapterkit.recipe.kinds import FACTS

_READERS: Mapping[str | None, Any] = {None: read_bottleneck, "lora": read_linears}
"""AdapterHub's word for a method -> what reads it."""
_LEFT = {"prefix_tuning": "prefix tuning", "prompt_tuning": "prompt tuning", "reft": "ReFT", "mtl_lora": "MTL-LoRA"}


def import_adapterhub(
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
    """Turn a folder of AdapterHub's `save_adapter`, or `save_adapter_setup` of a Fuse, into an artifact.

    Args:
        src: the folder. The adapters of a fusion become artifacts too, beside `out`, under their own names.
        out: where the artifact shall stand.
        backbone: what it was trained on, or where to load that from; None loads what its config names.
        kind: of the task; None takes what its head says. An adapter without a head is one of a language model.
        labels: names of the classes in the order of the logits; None takes the head's.
        task: more of a recipe's task settings.
        rows: rows to take the golden rows from; without them a few sentences of ours.
        overwrite: replace what stands at `out`, and at the places of a fusion's parts.
        dtype: of the saved tensors. None keeps that of the folder.

    Returns:
        `out` as a path.

    Raises:
        ArtifactError: the folder is damaged, a fact is missing, or it holds something that adapterkit does not have.
        BackboneError: the backbone cannot be loaded.
        OutputError: `out` is in the way or cannot be written.
    """
    src, out = Path(src), Path(out)
    asked = _Asked(kind, labels, task or {}, rows, overwrite, dtype)
    try:
        return (_import_fusion if (src / SETUP).exists() else _import_one)(src, out, backbone, asked)
    except ArtifactError as error:
        if "cannot be imported" in error.summary:
            raise
        raise ArtifactError(f"{src} cannot be imported: {error.summary}", error.problems, error.remedy) from error


@dataclass(frozen=True)
class _Asked:
    """Arguments of `import_adapterhub` that say what to make of a folder."""

    kind: str | None
    labels: Sequence[str] | None
    task: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    overwrite: bool
    dtype: SaveDtype | None

    def written(self) -> dict[str, Any]:
        """Those of `save_imported`."""
        return {"rows": self.rows, "overwrite": self.overwrite, "dtype": self.dtype}


def _import_one(src: Path, out: Path, given: Backbone | str | Path | None, asked: _Asked) -> Path:
    saved = read_saved(src, CONFIG, WEIGHTS)
    config = saved.config.get("config")
    if not isinstance(config, dict):
        raise ArtifactError("its config has no settings", [f"{CONFIG}: config: found {config!r:.60}"])
    _refuse_others(config)
    backbone = _backbone(saved, given)
    described, at = _READERS[config.get("architecture")](config, saved.name, saved.tensors, backbone)
    facts = describe_head(read_head(src), backbone, asked.kind)
    made, bare = _task_and_head(facts, backbone, src, asked)
    tensors = _named(at, Reach(bare.module, backbone.trunk))
    if isinstance(described, PeftFacts):
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        described = find_method(described, None, shapes, bare.module, backbone, src)
    tensors |= head_tensors(facts, bare)
    del bare
    return save_imported(out, src, "AdapterHub", backbone, made, described, facts.settings, tensors, **asked.written())


def _import_fusion(src: Path, out: Path, given: Backbone | str | Path | None, asked: _Asked) -> Path:
    names, folder, head_folder = read_setup(src)
    saved = read_saved(folder, FUSION_CONFIG, FUSION_WEIGHTS)
    first = read_saved(src / names[0], CONFIG, WEIGHTS)
    backbone = _backbone(first, given)
    facts = describe_head(read_head(head_folder), backbone, asked.kind)
    made, bare = _task_and_head(facts, backbone, src, asked)
    at = fusion_tensors(saved, names, backbone)
    places = {name: out.parent / name for name in names}
    for place in places.values():
        check_output(place, overwrite=asked.overwrite)
    for name, place in places.items():
        alone = (src / name / HEAD_WEIGHTS[0]).exists() or (src / name / HEAD_WEIGHTS[1]).exists()
        _import_one(
            src / name, place, backbone, replace(asked, kind=None if alone else _language_kind(backbone), rows=())
        )
    method = fusion_settings(saved, [str(place) for place in places.values()], backbone)
    tensors = {**_named(at, Reach(bare.module, backbone.trunk)), **head_tensors(facts, bare)}
    del bare
    parts = read_parts(method, backbone)
    return save_imported(
        out, src, "AdapterHub", backbone, made, method, facts.settings, tensors, parts=parts, **asked.written()
    )


def _backbone(saved: Saved, given: Backbone | str | Path | None) -> Backbone:
    if isinstance(given, Backbone):
        return given
    named = given if given is not None else saved.config.get("model_name")
    if not named:
        raise ArtifactError("its config names no backbone", remedy="Pass backbone= a folder or a hub id.")
    return Backbone.load(str(named))


def _task_and_head(facts: HeadFacts, backbone: Backbone, src: Path, asked: _Asked) -> tuple[Any, Headed]:
    settings = {**({"problem": facts.problem} if facts.problem else {}), **asked.task}
    labels = asked.labels
    if labels is None and settings.get("problem") != "regression":
        labels = facts.labels
    sizes = sorted({len(layer["weight"]) for layer in facts.layers} | {len(t) for t in facts.named.values() if t.dim()})
    made = make_task(facts.kind, labels, settings, src, sizes)
    return made, build_head(backbone, facts.kind, made.classes, facts.settings, seed=SEED)


def _named(at: Mapping[str, Mapping[str, Tensor]], reach: Reach) -> dict[str, Tensor]:
    """Tensors by their names in an artifact."""
    tensors: dict[str, Tensor] = {}
    lost = []
    for path, own in at.items():
        place = reach.path(path)
        if place is None:
            lost.append(f"{path}: the class of this head does not have it")
        tensors |= {f"{PREFIX}{place}.{ending}": tensor.contiguous() for ending, tensor in own.items()}
    if lost:
        raise ArtifactError("the adapter stands where the head's class has no module", lost)
    return tensors


def _language_kind(backbone: Backbone) -> str:
    """The kind whose head every adapter of a backbone borrows."""
    for kind, facts in FACTS.items():
        if facts.borrows_head and facts.trunk in ("any", _sort(backbone)):
            return kind
    raise ArtifactError("a part of the fusion has no head", remedy="Save the parts with their heads.")


def _sort(backbone: Backbone) -> str:
    if backbone.is_encoder_decoder:
        return "encoder-decoder"
    return "decoder" if backbone.is_decoder else "encoder"


def _refuse_others(config: Mapping[str, Any]) -> None:
    architecture = config.get("architecture")
    if architecture == "union":
        parts = [str(part.get("architecture") or "bottleneck") for part in config.get("configs", []) if part]
        raise ArtifactError(
            "the adapter is several methods at once",
            [f"architecture: a union of {', '.join(parts)}"],
            "An artifact has one method; serve this one with AdapterHub.",
        )
    if architecture not in _READERS:
        what = _LEFT.get(str(architecture), repr(architecture)[:40])
        raise ArtifactError(
            f"the adapter is {what}, which adapterkit does not have",
            [f"architecture: found {architecture!r:.40}, expected lora, or none for a bottleneck"],
            "Serve it with AdapterHub.",
        )
