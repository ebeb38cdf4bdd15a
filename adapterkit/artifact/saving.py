"""Write an adapter as an artifact: the same training state gives the same bytes, all of them or none."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from adapterkit.adapted import PREFIX
from adapterkit.artifact.card import render_card
from adapterkit.artifact.config import make_config
from adapterkit.artifact.eight_bits import decode, encode
from adapterkit.artifact.golden import choose_rows, compute_golden
from adapterkit.artifact.tensors import dump_tensors
from adapterkit.manifest import (
    CARD,
    CONFIG,
    FORMAT,
    KEPT,
    MANIFEST,
    TENSORS,
    CompactionFacts,
    CompositionFacts,
    DataFacts,
    GoldenFacts,
    Manifest,
    dump_json,
    dump_manifest,
    open_manifest,
    parse_object,
    read_folder,
    write_folder,
)

if TYPE_CHECKING:
    from adapterkit.adapted import Adapted
    from adapterkit.manifest.facts import MetricFacts
    from adapterkit.metrics import Metric
    from adapterkit.recipe import Recipe

SaveDtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]

PACKAGES = ("adapterkit", "peft", "safetensors", "tokenizers", "torch", "transformers")


def pick_dtype(dtype: SaveDtype) -> torch.dtype:
    """The dtype that tensors are saved in. `auto` is bfloat16: half the bytes, and the range of fp32."""
    kept: dict[str, torch.dtype] = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}
    return kept.get(dtype, torch.bfloat16)


def name_of(dtype: SaveDtype) -> Any:
    """Its name in a manifest."""
    return str(pick_dtype(dtype)).removeprefix("torch.")


def stored(tensor: Tensor, target: torch.dtype) -> Tensor:
    """A tensor as a file of this dtype holds it. Eight bits are for matrices; what is none stays in bfloat16."""
    if target != torch.int8:
        return tensor.to(target)
    return encode(tensor.cpu()) if tensor.dim() == 2 else tensor.to(torch.bfloat16)


def rounded(tensor: Tensor, target: torch.dtype) -> Tensor:
    """A tensor as it is read again from a file of this dtype, in its own."""
    kept = stored(tensor, target)
    return (decode(kept) if kept.dtype == torch.int8 else kept).to(tensor)


def round_weights(adapted: Adapted, dtype: SaveDtype = "auto") -> None:
    """Round the adapter's weights, in place, to what an artifact of this dtype holds.

    Call it before the final evaluation: then metrics and golden rows describe the saved bytes. Doing it again changes
    nothing.
    """
    target = pick_dtype(dtype)
    adapted.load_state({name: rounded(tensor, target) for name, tensor in adapted.state().items()})


def save(
    folder: str | Path,
    adapted: Adapted,
    *,
    recipe: Recipe | Mapping[str, Any],
    data: DataFacts,
    metrics: Mapping[str, Mapping[str, Metric | MetricFacts]],
    seed: int,
    golden: Sequence[Mapping[str, Any]] | GoldenFacts,
    golden_rows: int = 4,
    parent: str | Path | Manifest | None = None,
    calibration: Mapping[str, float] | None = None,
    composition: CompositionFacts | None = None,
    compaction: CompactionFacts | None = None,
    overwrite: bool = False,
    dtype: SaveDtype = "auto",
) -> Path:
    """Write an artifact.

    Args:
        folder: where it shall stand.
        adapted: a trained adapter, unmerged. Its weights are rounded to `dtype`, in place.
        recipe: the resolved recipe. Where it was written to (`output`, `data.root`) is left out, and
            `trust_remote_code` is stored as off.
        data: what it was trained on.
        metrics: split -> metric -> value with interval.
        seed: of the training run, with which the adapter was built.
        golden: usable rows to choose the golden rows from, usually the validation rows; or golden rows.
        golden_rows: how many.
        parent: the artifact that this one is a newer version of, or that it was trained on from.
        calibration: split -> expected calibration error, where answers have a confidence.
        composition: what it was made of, where it was not trained but composed.
        compaction: how it was made smaller, where it was.
        overwrite: replace what stands at `folder`.
        dtype: of the saved tensors.

    Returns:
        `folder` as a path.

    Raises:
        OutputError: something stands there, or the disk refuses; nothing is left half-written.
        ArtifactError: values that are not finite, or that the format cannot hold.
    """
    folder = Path(folder)
    round_weights(adapted, dtype)
    target = pick_dtype(dtype)
    tensors = dump_tensors({name: stored(tensor, target) for name, tensor in adapted.state().items()})
    backbone = adapted.backbone
    heads = sorted(adapted.headed.trained)
    own, rows = adapted.head.is_own, adapted.headed.token_rows
    config = dump_json(
        make_config(
            adapted.task.kind,
            adapted.method,
            adapted.attachment.config(),
            backbone.name,
            backbone.revision,
            own_head=own,
            heads=() if own or rows else whole_modules(dict(adapted.headed.module.named_parameters()), heads),
            token_rows=rows,
        )
    )
    content: dict[str, Any] = {
        "format": FORMAT,
        "task": adapted.task.to_dict(),
        "method": adapted.method.portable(),
        "head": adapted.head.model_dump(mode="json"),
        "head_tensors": heads,
        "backbone": {
            "name": backbone.name,
            "revision": backbone.revision,
            **({"part": backbone.part} if backbone.part else {}),
            "fingerprint": backbone.fingerprint,
            "coverage": backbone.coverage,
            "contract": backbone.contract.to_dict(),
        },
        "data": data.model_dump(mode="json"),
        "recipe": _portable(recipe),
        "seed": seed,
        "packages": package_versions(),
        "metrics": {
            split: {
                name: {"value": m.value, "low": m.low, "high": m.high, **({"how": m.how} if m.how else {})}
                for name, m in named.items()
            }
            for split, named in metrics.items()
        },
        **({"calibration": dict(calibration)} if calibration else {}),
        **_ancestry(parent),
        "dtype": name_of(dtype),
        "parameters": _parameters(adapted),
        "golden": golden_of(adapted, golden, golden_rows, seed).model_dump(mode="json"),
    }
    if adapted.parts:
        content["parts"] = [
            {"name": part.name, "sha256": part.sha256, "method": part.settings.model_dump(mode="json")}
            for part in adapted.parts
        ]
    for name, facts in (("composition", composition), ("compaction", compaction)):
        if facts is not None:
            content[name] = facts.model_dump(mode="json")
    _write(folder, content, {CONFIG: config, TENSORS: tensors}, overwrite=overwrite)
    return folder


def golden_of(
    adapted: Adapted, golden: Sequence[Mapping[str, Any]] | GoldenFacts, count: int, seed: int
) -> GoldenFacts:
    """Golden rows, chosen from rows and answered, unless they are that already. See `save` and `compute_golden`."""
    if isinstance(golden, GoldenFacts):
        return golden
    return compute_golden(adapted, choose_rows(adapted.task, golden, count, seed))


def save_version(
    folder: str | Path, parent: str | Path, changes: Mapping[str, Any], *, overwrite: bool = False
) -> Path:
    """Write a new version of an artifact: its tensors, and a manifest in which some blocks are others, in JSON values.

    Raises:
        ArtifactError: the parent is damaged, or a block cannot stand in a manifest.
        OutputError: something stands at `folder`, or the disk refuses; nothing is left half-written.
    """
    before = read_folder(parent)
    content = {**parse_object(before.content[MANIFEST], MANIFEST), **changes, **_ancestry(parent)}
    del content["sha256"]
    kept = {name: bytes(before.content[name]) for name in (CONFIG, TENSORS)}
    _write(Path(folder), content, kept, overwrite=overwrite)
    return Path(folder)


def _write(folder: Path, content: dict[str, Any], files: Mapping[str, bytes], *, overwrite: bool) -> None:
    files = {**files, CARD: render_card(content, len(files[TENSORS]))}
    content["files"] = {
        name: {"size_bytes": len(raw), "sha256": sha256(raw).hexdigest()} for name, raw in files.items()
    }
    content["size_bytes"] = sum(len(raw) for raw in files.values())
    write_folder(folder, {**files, MANIFEST: dump_manifest(content)}, overwrite=overwrite, keep=KEPT)


def whole_modules(parameters: Iterable[str], trained: Iterable[str]) -> list[str]:
    """The largest modules whose every parameter is trained, by path; what PEFT calls `modules_to_save`."""
    trained, names = set(trained), list(parameters)
    found: set[str] = set()
    for name in trained:
        pieces = name.split(".")[:-1]
        for count in range(1, len(pieces) + 1):
            path = ".".join(pieces[:count])
            if all(other in trained for other in names if other.startswith(f"{path}.")):
                found.add(path)
                break
    return sorted(found)


def _ancestry(parent: str | Path | Manifest | None) -> dict[str, Any]:
    """Version number, parent's digest and history of a new version of `parent`."""
    if parent is None:
        return {"version": 1, "parent": None, "history": []}
    before = parent if isinstance(parent, Manifest) else open_manifest(parent)
    history = [ancestor.model_dump(mode="json") for ancestor in before.history]
    history.append({"version": before.version, "sha256": before.sha256})
    return {"version": before.version + 1, "parent": before.sha256, "history": history}


def _portable(recipe: Recipe | Mapping[str, Any]) -> dict[str, Any]:
    """The recipe without what belongs to one machine, and without trust that a reader did not give."""
    content = dict(recipe) if isinstance(recipe, Mapping) else recipe.to_dict()
    if not content:
        return {}
    content["output"] = None
    content["data"] = {**content["data"], "root": None}
    content["backbone"] = {**content["backbone"], "trust_remote_code": False}
    return content


def package_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that an answer depends on."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _parameters(adapted: Adapted) -> dict[str, int]:
    heads = {f"{PREFIX}{path}" for path in adapted.headed.trained}
    counts = {"method": 0, "head": 0}
    for name, tensor in adapted.state().items():
        counts["head" if name in heads else "method"] += tensor.numel()
    return counts
