"""`adapterkit attribute`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from adapterkit.cli import console, options


def attribute(
    folder: options.Folder,
    data: Annotated[str | None, options.option("--data", help="Test rows. Default: the recipe's.")] = None,
    output: Annotated[Path | None, options.option("--output", help="Folder to keep the head alone in.")] = None,
    backbone: options.BackboneName = None,
    columns: options.Columns = None,
    data_root: options.DataRoot = None,
    as_json: options.Json = False,
) -> None:
    """Say what the head gains over the commonest answer, and the adapter over the head alone.

    $ adapterkit attribute runs/banking77
    $ adapterkit attribute runs/banking77 --data banking77/test.jsonl --output runs/banking77-head --json
    """
    from adapterkit.manifest import check_output, open_manifest

    open_manifest(folder)
    if output is not None:
        check_output(output, overwrite=False)
    from adapterkit import evaluation

    found = evaluation.attribute(
        folder,
        data,
        backbone=backbone,
        columns=options.named(columns, "--column", "NAME=COLUMN", "text=sentence"),
        data_root=data_root,
        output=output,
        quiet=as_json,
    ).to_dict()
    if as_json:
        console.print_json(found)
    else:
        console.echo(sentence(found))


def sentence(found: dict[str, Any]) -> str:
    """constant answer 0.013 → head +0.834 [+0.820, +0.847] → representation +0.071 [+0.061, +0.081] (accuracy)."""
    pieces = [f"{found['starts_from']} {found['gains'][0]['difference']['a']:.3f}"] if found["gains"] else []
    for gain in found["gains"]:
        one = gain["difference"]
        pieces.append(f"{gain['name']} {one['difference']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}]")
    return f"{' → '.join(pieces) or 'there is nothing but a head'} ({found['metric']})"
