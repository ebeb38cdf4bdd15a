"""`adapterkit import`.

$ adapterkit import lora-folder runs/imported --from peft
$ adapterkit import adapterhub-folder runs/imported --from adapterhub
$ adapterkit import setfit-folder runs/imported --from setfit
$ adapterkit import lora-folder runs/imported --kind text-classification --labels no,yes
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from adapterkit.cli import console
from adapterkit.cli.options import Json, argument, option


def import_(
    source: Annotated[Path, argument(metavar="SRC", help="The folder to read.")],
    output: Annotated[Path, argument(metavar="OUT", help="The artifact to write.")],
    origin: Annotated[
        Literal["peft", "adapterhub", "sentence-transformers", "setfit"],
        typer.Option("--from", help="Whose format SRC has."),
    ] = "peft",
    backbone: Annotated[
        str | None, option("--backbone", metavar="PATH_OR_ID", help="Its backbone. Default: what SRC says.")
    ] = None,
    kind: Annotated[str | None, option("--kind", help="The kind of task. Default: what SRC says.")] = None,
    labels: Annotated[str | None, option("--labels", help="Label names in order, with commas between them.")] = None,
    problem: Annotated[
        str | None, option("--problem", help="Of a text classification: single-label, multi-label or regression.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an artifact that exists.")] = False,
    as_json: Json = False,
) -> None:
    from adapterkit.manifest import KEPT, check_output

    check_output(output, overwrite=overwrite, keep=KEPT)  # before torch is imported
    from adapterkit.artifact import import_adapterhub, import_peft, import_sentence_transformers

    names = [name.strip() for name in labels.split(",")] if labels is not None else None
    task = {"problem": problem} if problem is not None else None
    readers = {"peft": import_peft, "adapterhub": import_adapterhub}
    read = readers.get(origin, import_sentence_transformers)
    written = read(source, output, backbone=backbone, kind=kind, labels=names, task=task, overwrite=overwrite)
    told = f"Artifact: {written}", f"Try: adapterkit verify {written}"
    console.tell_done(as_json, {"artifact": str(written)}, *told)
