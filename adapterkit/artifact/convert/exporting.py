"""Write an adapter for programs that know nothing of adapterkit, once it is proven to answer there as it does here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adapterkit.artifact.convert.adapterhub.exporting import write_adapterhub
from adapterkit.artifact.convert.flat import check_flat, write_flat
from adapterkit.artifact.convert.onnx import check_onnx, write_onnx
from adapterkit.artifact.convert.sentence.exporting import check_bare_adapter, write_sentence_transformers
from adapterkit.artifact.convert.transformers import ExportDtype, check_mergeable, write_checkpoint
from adapterkit.artifact.loading import open_artifact
from adapterkit.artifact.reading import Artifact
from adapterkit.backbone import Backbone
from adapterkit.errors import ExportError
from adapterkit.manifest import check_output, stage_folder


@dataclass(frozen=True)
class Format:
    """What an adapter is exported to."""

    write: Callable[..., None]
    """Writes an artifact on a backbone of its own in float32 into a folder that takes the place of another, with the
    options, once it is proven to answer there."""
    check: Callable[..., None] = lambda artifact: None
    """Refuses an artifact that cannot be said there, before a backbone is read."""
    options: tuple[str, ...] = ()
    """The arguments of `export` that mean something to it."""


FORMATS: Mapping[str, Format] = {
    "transformers": Format(write_checkpoint, check_mergeable, ("trunk_only", "dtype")),
    "peft": Format(write_flat, check_flat, ("flat", "server")),
    "adapterhub": Format(write_adapterhub),
    "onnx": Format(write_onnx, check_onnx, ("unmerged", "quantise", "rows")),
    "sentence-transformers": Format(write_sentence_transformers, check_bare_adapter),
}


def export(
    artifact: str | Path | Artifact,
    out: str | Path,
    *,
    to: str = "transformers",
    backbone: Backbone | str | Path | None = None,
    trunk_only: bool = False,
    flat: bool = False,
    server: Literal["", "vllm", "sglang", "lorax", "gguf"] = "",
    dtype: ExportDtype = "float32",
    unmerged: bool = False,
    quantise: Literal["", "int8"] = "",
    rows: Sequence[Mapping[str, Any]] = (),
    overwrite: bool = False,
) -> Path:
    """Write an adapter for programs without adapterkit: a checkpoint that transformers loads, a flat LoRA for servers,
    a folder of AdapterHub's or of sentence-transformers, or an ONNX model.

    Args:
        artifact: a LoRA (DoRA, rsLoRA and trained biases too), an IA3, or a head alone; flat, a LoRA without DoRA and
            biases; for AdapterHub, a bottleneck or a fusion too.
        out: the folder to write.
        to: "transformers": a checkpoint with the adapter merged into the weights. "peft", with `flat`. "adapterhub".
            "onnx". "sentence-transformers": a LoRA or an IA3 on the bare trunk, without its head.
        backbone: whose checkpoint is read, or where it is; None takes what the artifact names. A loaded one is left
            alone: its files are read again.
        trunk_only: write the merged trunk without any head, for `AutoModel`.
        flat: one rank and a scale of 1 at every module, the same modules in every layer, so that a loader that ignores
            rsLoRA or patterns reads it right. A head of our own is left out.
        server: check the rules of this server's loader too.
        dtype: of a checkpoint's weights. The merging is done in float32 and rounded once.
        unmerged: in ONNX, keep the method beside the weights, also where it can be merged into them.
        quantise: in ONNX, "int8" for weights in eight bits; what that changes is in `export.json` and on the card.
        rows: to score before and after quantising.
        overwrite: replace what stands at `out`.

    Returns:
        `out` as a path.

    Raises:
        ExportError: the format cannot express the adapter, or it does not answer there as it does here; nothing is
            written then.
        MergeError: a bottleneck or a fusion, which is no change of weights.
        ContractError: the backbone is another one.
        OutputError: something stands there, or the disk refuses.
    """
    out = Path(out)
    if to not in FORMATS:
        raise ExportError(
            f"{to!r} is not a format that adapters are exported to", remedy=f"Take one of {', '.join(FORMATS)}."
        )
    given: dict[str, Any] = {
        "trunk_only": trunk_only, "flat": flat, "server": server, "dtype": dtype, "unmerged": unmerged,
        "quantise": quantise, "rows": rows,
    }  # fmt: skip
    foreign = [
        f"{name}: belongs to {', '.join(other for other, each in FORMATS.items() if name in each.options)}"
        for name, value in given.items()
        if value and value != "float32" and name not in FORMATS[to].options
    ]
    if foreign:
        raise ExportError(f"these say nothing to an export to {to}", foreign, "Leave them out, or take that format.")
    options = {name: given[name] for name in FORMATS[to].options}
    check_output(out, overwrite=overwrite)
    artifact = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    FORMATS[to].check(artifact, **options)
    copy = _copy_of(artifact, backbone)
    with stage_folder(out, overwrite=overwrite) as stage:
        FORMATS[to].write(artifact, copy, stage, out, **options)
    return out


def _copy_of(artifact: Artifact, backbone: Backbone | str | Path | None) -> Backbone:
    """A backbone of our own in float32, from the files."""
    named = artifact.manifest.backbone
    if isinstance(backbone, Backbone):
        source, revision = str(backbone.folder), None
    else:
        source, revision = (str(backbone), None) if backbone is not None else (named.name, named.revision)
    return Backbone.load(source, revision=revision, dtype="float32", device="cpu")
