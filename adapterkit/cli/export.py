"""`adapterkit export`.

$ adapterkit export runs/wnut17 models/wnut17 --format transformers
$ adapterkit export runs/banking77 models/banking77-trunk --trunk-only
$ adapterkit export runs/poet adapters/poet --format peft --flat --for vllm
$ adapterkit export runs/banking77 models/banking77-onnx --format onnx --quantise int8
"""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from adapterkit.cli import console
from adapterkit.cli.options import BackboneName, Json, Run, WrittenDtype, argument, option

Format = Literal["transformers", "peft", "adapterhub", "onnx", "sentence-transformers"]
SAID: dict[Format, tuple[str, str]] = {
    "transformers": ("Checkpoint", "transformers"),
    "peft": ("Flat LoRA", "PEFT"),
    "adapterhub": ("Folder", "AdapterHub"),
    "onnx": ("Model", "onnxruntime"),
    "sentence-transformers": ("Adapter of the trunk", "sentence-transformers"),
}
"""Format -> what was written, and what loads it."""


def export(
    folder: Run,
    output: Annotated[Path, argument(metavar="OUT", help="The folder to write.")],
    to: Annotated[
        Format,
        typer.Option(
            "--format",
            help="transformers: a merged checkpoint. peft, with --flat: for servers. adapterhub, "
            "sentence-transformers: their folders. onnx.",
        ),
    ] = "transformers",
    flat: Annotated[
        bool, typer.Option("--flat", help="A LoRA with one rank and no scale, for loaders that ignore both.")
    ] = False,
    server: Annotated[
        Literal["vllm", "sglang", "lorax", "gguf"] | None,
        typer.Option("--for", help="Check what this server's loader takes; needs --flat."),
    ] = None,
    trunk_only: Annotated[
        bool, typer.Option("--trunk-only", help="Without any head, for AutoModel: also where the head is our own.")
    ] = False,
    dtype: Annotated[WrittenDtype, typer.Option("--dtype", help="Of the written weights.")] = "float32",
    unmerged: Annotated[
        bool, typer.Option("--unmerged", help="In ONNX: keep the method beside the weights, also if it can be merged.")
    ] = False,
    quantise: Annotated[
        Literal["int8"] | None,
        typer.Option("--quantise", help="In ONNX: weights in eight bits, and what that changes."),
    ] = None,
    data: Annotated[
        str | None, option("--data", metavar="FILE", help="Rows to score before and after quantising.")
    ] = None,
    backbone: BackboneName = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands at OUT.")] = False,
    as_json: Json = False,
) -> None:
    from adapterkit.manifest import check_output

    check_output(output, overwrite=overwrite)  # before torch is imported
    from adapterkit import artifact
    from adapterkit.evaluation.rows import read_for

    written = artifact.export(
        folder,
        output,
        to=to,
        backbone=backbone,
        trunk_only=trunk_only,
        flat=flat,
        server=server or "",
        dtype=dtype,
        unmerged=unmerged,
        quantise=quantise or "",
        rows=read_for(artifact.open_artifact(folder), data) if data is not None else (),
        overwrite=overwrite,
    )
    facts = json.loads((written / "export.json").read_text(encoding="utf-8")) if to == "onnx" else {}
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
