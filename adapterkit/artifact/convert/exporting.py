"""Write an adapter for programs that know nothing of adapterkit, once it is proven to answer there as it does here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from adapterkit.artifact.convert.adapterhub.exporting import export_adapterhub
from adapterkit.artifact.convert.flat import SERVERS, check_flat, export_flat
from adapterkit.artifact.convert.onnx import export_onnx
from adapterkit.artifact.convert.sentence.exporting import check_bare_adapter, export_sentence_transformers
from adapterkit.artifact.convert.transformers import ExportDtype, check_expressible, export_checkpoint
from adapterkit.artifact.loading import open_artifact
from adapterkit.artifact.reading import Artifact
from adapterkit.backbone import Backbone
from adapterkit.errors import ExportError
from adapterkit.manifest import check_output

FORMATS = ("transformers", "peft", "adapterhub", "onnx", "sentence-transformers")


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
    _check_format(to, artifact, flat=flat, server=server, trunk_only=trunk_only)
    if to != "onnx" and (unmerged or quantise or rows):
        raise ExportError(f"unmerged, quantise and rows are ONNX's, not {to}'s", remedy="Leave them out.")
    if to != "transformers" and dtype != "float32":
        raise ExportError(f"dtype is a merged checkpoint's, not {to}'s", remedy="Leave it out (--dtype).")
    check_output(out, overwrite=overwrite)
    artifact = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    if to == "peft":
        check_flat(artifact, server)
        export_flat(artifact, out, _copy_of(artifact, backbone), server=server, overwrite=overwrite)
        return out
    if to == "adapterhub":
        export_adapterhub(artifact, out, _copy_of(artifact, backbone), overwrite=overwrite)
        return out
    if to == "sentence-transformers":
        check_bare_adapter(artifact)
        export_sentence_transformers(artifact, out, _copy_of(artifact, backbone), overwrite=overwrite)
        return out
    if to == "onnx":
        copy = _copy_of(artifact, backbone)
        export_onnx(artifact, out, copy, unmerged=unmerged, quantise=quantise, rows=rows, overwrite=overwrite)
        return out
    check_expressible(artifact, trunk_only)
    copy = _copy_of(artifact, backbone)
    export_checkpoint(artifact, out, copy, trunk_only=trunk_only, dtype=dtype, overwrite=overwrite)
    return out


def _check_format(to: str, artifact: str | Path | Artifact, *, flat: bool, server: str, trunk_only: bool) -> None:
    folder = artifact.folder if isinstance(artifact, Artifact) else artifact
    if to not in FORMATS:
        raise ExportError(
            f"{to!r} is not a format that adapters are exported to", remedy=f"Take one of {', '.join(FORMATS)}."
        )
    if server and server not in SERVERS:
        raise ExportError(f"{server!r} is not a server that is known", remedy=f"Take one of {', '.join(SERVERS)}.")
    if to == "peft" and not flat:
        raise ExportError(
            "an artifact is a PEFT folder already",
            remedy=f"PeftModel.from_pretrained(model, {str(folder)!r}) loads it as it is; its card has the lines. "
            "For servers that ignore rsLoRA and patterns there is flat=True (--flat).",
        )
    if to != "peft" and (flat or server):
        raise ExportError(f"flat is PEFT's alone, not {to}'s", remedy="Take to='peft' (--format peft).")
    if to != "transformers" and trunk_only:
        raise ExportError(f"trunk_only is a merged checkpoint's, not {to}'s", remedy="Leave it out (--trunk-only).")


def _copy_of(artifact: Artifact, backbone: Backbone | str | Path | None) -> Backbone:
    """A backbone of our own in float32, from the files."""
    named = artifact.manifest.backbone
    if isinstance(backbone, Backbone):
        source, revision = str(backbone.folder), None
    else:
        source, revision = (str(backbone), None) if backbone is not None else (named.name, named.revision)
    return Backbone.load(source, revision=revision, dtype="float32", device="cpu")
