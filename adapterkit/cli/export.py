"""`adapterkit export`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from adapterkit.cli import console
from adapterkit.cli.options import BackboneName, Folder, Json, WrittenDtype, argument, option


class Server(StrEnum):
    """Whose loader shall read a flat LoRA."""

    VLLM = "vllm"
    SGLANG = "sglang"
    LORAX = "lorax"
    GGUF = "gguf"


class Format(StrEnum):
    """What an adapter is exported to."""

    TRANSFORMERS = "transformers"
    PEFT = "peft"
    ADAPTERHUB = "adapterhub"
    ONNX = "onnx"
    SENTENCE_TRANSFORMERS = "sentence-transformers"


class Quantised(StrEnum):
    """The format of an ONNX model's weights."""

    INT8 = "int8"


SAID = {
    Format.TRANSFORMERS: ("Checkpoint", "transformers"),
    Format.PEFT: ("Flat LoRA", "PEFT"),
    Format.ADAPTERHUB: ("Folder", "AdapterHub"),
    Format.ONNX: ("Model", "onnxruntime"),
    Format.SENTENCE_TRANSFORMERS: ("Adapter of the trunk", "sentence-transformers"),
}
"""Format -> what was written, and what loads it."""


def export(
    folder: Folder,
    output: Annotated[Path, argument(metavar="OUT", help="The folder to write.")],
    to: Annotated[
        Format,
        typer.Option(
            "--format",
            help="transformers: a merged checkpoint. peft, with --flat: for servers. adapterhub, "
            "sentence-transformers: their folders. onnx.",
        ),
    ] = Format.TRANSFORMERS,
    flat: Annotated[
        bool, typer.Option("--flat", help="A LoRA with one rank and no scale, for loaders that ignore both.")
    ] = False,
    server: Annotated[
        Server | None, typer.Option("--for", help="Check what this server's loader takes; needs --flat.")
    ] = None,
    trunk_only: Annotated[
        bool, typer.Option("--trunk-only", help="Without any head, for AutoModel: also where the head is our own.")
    ] = False,
    dtype: Annotated[WrittenDtype, typer.Option("--dtype", help="Of the written weights.")] = WrittenDtype.FLOAT32,
    unmerged: Annotated[
        bool, typer.Option("--unmerged", help="In ONNX: keep the method beside the weights, also if it can be merged.")
    ] = False,
    quantise: Annotated[
        Quantised | None, typer.Option("--quantise", help="In ONNX: weights in eight bits, and what that changes.")
    ] = None,
    data: Annotated[
        str | None, option("--data", metavar="FILE", help="Rows to score before and after quantising.")
    ] = None,
    backbone: BackboneName = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at OUT.")] = False,
    as_json: Json = False,
) -> None:
    """Write an adapter for programs without adapterkit, proven to answer as it does.

    $ adapterkit export runs/wnut17 models/wnut17 --format transformers
    $ adapterkit export runs/banking77 models/banking77-trunk --trunk-only
    $ adapterkit export runs/poet adapters/poet --format peft --flat --for vllm
    $ adapterkit export runs/banking77 models/banking77-onnx --format onnx --quantise int8
    """
    from adapterkit.manifest import check_output, open_manifest

    # Before torch is imported, so that a mistake is named at once.
    check_output(output, overwrite=overwrite)
    open_manifest(folder)
    from adapterkit import artifact
    from adapterkit.evaluation.rows import read_for

    written = artifact.export(
        folder,
        output,
        to=to.value,
        backbone=backbone,
        trunk_only=trunk_only,
        flat=flat,
        server=server.value if server else "",
        dtype=dtype.value,
        unmerged=unmerged,
        quantise=quantise.value if quantise else "",
        rows=read_for(artifact.open_artifact(folder), data) if data is not None else (),
        overwrite=overwrite,
    )
    facts = json.loads((written / "export.json").read_text(encoding="utf-8")) if to is Format.ONNX else {}
    if as_json:
        console.print_json({"checkpoint": str(written), **facts})
        return
    what, by = SAID[to]
    console.say(f"{what}: {written}, which {by} loads and which answers as {folder} does", style="green")
    if "changes" in facts:
        moved = facts["changes"]
        kept = f"{moved['same_choices']} of {moved['choices']} golden choices stay"
        console.say(f"In int8 {kept}; the largest number moves by {moved['largest']:.1%}.")
        for name, both in facts["metrics"].items():
            console.say(f"{name}: {both['float32']:.4f} in float32, {both['int8']:.4f} in int8")
