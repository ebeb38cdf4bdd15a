"""`adapterkit search`.

$ adapterkit search --backbone sentence-transformers/all-MiniLM-L6-v2
$ adapterkit search runs --backbone runs/banking77
$ adapterkit search s3://team --backbone ./models/all-MiniLM-L6-v2 --json
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from adapterkit.cli import console
from adapterkit.cli.list import measured
from adapterkit.cli.options import Json, argument, option

if TYPE_CHECKING:
    from adapterkit.report.searching import Sought


def search(
    backbone: Annotated[
        str, option("--backbone", metavar="BACKBONE", help="A folder, a hub id, an artifact, or a fingerprint.")
    ],
    where: Annotated[
        str | None, argument(metavar="[WHERE]", help="A folder, or a URL as s3://team. Default: the hub.")
    ] = None,
    as_json: Json = False,
) -> None:
    from adapterkit.report.searching import search as look

    found = look(_sought(backbone), where)
    if as_json:
        console.print_json(found.to_dict())
        return
    for source, why in found.refused.items():
        console.say(f"{source}: {why}", style="yellow")
    if not found.found:
        console.say(f"Nothing in {found.where} fits {backbone}; {found.others} artifacts are of other backbones.")
        return
    rows = [[one.source, one.fit, one.kind, one.method, *measured(one)] for one in found.found]
    console.print_table(rows, ("artifact", "fit", "kind", "method", "metric", "95 % interval", "size", "date"))


def _sought(backbone: str) -> Sought:
    """What is known of the backbone that somebody names. Facts are enough for an artifact's, and for a fingerprint."""
    from adapterkit.errors import BackboneError
    from adapterkit.manifest import MANIFEST, open_manifest
    from adapterkit.manifest.names import is_digest, is_repository
    from adapterkit.report.searching import Sought

    if is_digest(backbone):
        return Sought(backbone, (), (backbone,))
    if (Path(backbone) / MANIFEST).is_file():
        facts = open_manifest(backbone).backbone
        return Sought(backbone, (facts.name,), (facts.fingerprint,))
    import torch

    from adapterkit.backbone import fingerprints
    from adapterkit.backbone.files import weight_files
    from adapterkit.planning.hollow import hollow_backbone
    from adapterkit.recipe.schema import BackboneSettings

    try:
        under = hollow_backbone(BackboneSettings(name=backbone), torch.float32).backbone
    except BackboneError:
        if os.path.exists(backbone) or not is_repository(backbone):
            raise
        return Sought(backbone, (backbone,), ())  # it is not here: artifacts may name it all the same
    known = fingerprints(under.folder, under.contract.tokenizer).values() if weight_files(under.folder) else ()
    return Sought(backbone, (backbone,), tuple(known))
