"""A folder that AdapterHub saved, head and fusion included, turned into an artifact with the same answers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.artifact.convert.adapterhub.bottleneck import read_bottleneck
from adapterkit.artifact.convert.adapterhub.folder import ADAPTER, FUSION, HEAD, SETUP, read_head, read_saved
from adapterkit.artifact.convert.adapterhub.fusion import fusion_settings, fusion_tensors, read_setup
from adapterkit.artifact.convert.adapterhub.head import HeadFacts, describe_head, head_tensors
from adapterkit.artifact.convert.adapterhub.linears import read_linears
from adapterkit.artifact.convert.imports import SEED, ImportOptions, backbone_of, importing, make_task, save_imported
from adapterkit.artifact.convert.method_settings import find_method
from adapterkit.artifact.convert.peft_facts import PeftFacts
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
        task: as for `import_peft`, and what follows too, the result and the errors.
        rows: to take the golden rows from.
        overwrite: replace what stands at `out`, and at the places of a fusion's parts.
        dtype: of the saved tensors.
    """
    src, out, asked = Path(src), Path(out), ImportOptions(kind, labels, task, rows, overwrite, dtype)
    with importing(src):
        return (_import_fusion if (src / SETUP).exists() else _import_one)(src, out, backbone, asked)


def _import_one(src: Path, out: Path, given: Backbone | str | Path | None, asked: ImportOptions) -> Path:
    saved = read_saved(src, ADAPTER)
    config = saved.config.get("config")
    if not isinstance(config, dict):
        raise ArtifactError("its config has no settings", [f"{CONFIG}: config: found {config!r:.60}"])
    _refuse_others(config)
    backbone = backbone_of(given, saved.config.get("model_name"))
    described, at = _READERS[config.get("architecture")](config, saved.name, saved.tensors, backbone)
    facts = describe_head(read_head(src), backbone, asked.kind)
    made, bare = _task_and_head(facts, backbone, asked)
    tensors = _named(at, Reach(bare.module, backbone.trunk))
    if isinstance(described, PeftFacts):
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        described = find_method(described, None, shapes, bare.module, backbone)
    tensors |= head_tensors(facts, bare)
    del bare
    return save_imported(out, src, "AdapterHub", asked, backbone, made, described, facts.settings, tensors)


def _import_fusion(src: Path, out: Path, given: Backbone | str | Path | None, asked: ImportOptions) -> Path:
    names, folder, head_folder = read_setup(src)
    saved = read_saved(folder, FUSION)
    backbone = backbone_of(given, read_saved(src / names[0], ADAPTER).config.get("model_name"))
    facts = describe_head(read_head(head_folder), backbone, asked.kind)
    made, bare = _task_and_head(facts, backbone, asked)
    at = fusion_tensors(saved, names, backbone)
    places = {name: out.parent / name for name in names}
    for place in places.values():
        check_output(place, overwrite=asked.overwrite)
    for name, place in places.items():
        alone = any((src / name / file).exists() for file in HEAD)
        own = replace(asked, kind=None if alone else _language_kind(backbone), rows=())
        _import_one(src / name, place, backbone, own)
    method = fusion_settings(saved, [str(place) for place in places.values()], backbone)
    tensors = {**_named(at, Reach(bare.module, backbone.trunk)), **head_tensors(facts, bare)}
    del bare
    parts = read_parts(method, backbone)
    return save_imported(out, src, "AdapterHub", asked, backbone, made, method, facts.settings, tensors, parts)


def _task_and_head(facts: HeadFacts, backbone: Backbone, asked: ImportOptions) -> tuple[Any, Headed]:
    settings = {**({"problem": facts.problem} if facts.problem else {}), **(asked.task or {})}
    labels = asked.labels
    if labels is None and settings.get("problem") != "regression":
        labels = facts.labels
    sizes = sorted({len(layer["weight"]) for layer in facts.layers} | {len(t) for t in facts.named.values() if t.dim()})
    made = make_task(facts.kind, labels, settings, sizes)
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
    sort = "decoder" if backbone.is_decoder else "encoder"
    sorts = ("any", "encoder-decoder" if backbone.is_encoder_decoder else sort)
    for kind, facts in FACTS.items():
        if facts.borrows_head and facts.trunk in sorts:
            return kind
    raise ArtifactError("a part of the fusion has no head", remedy="Save the parts with their heads.")


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
