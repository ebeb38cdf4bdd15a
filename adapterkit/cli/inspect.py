"""`adapterkit inspect`.

$ adapterkit inspect runs/banking77
$ adapterkit inspect runs/banking77 --json
$ adapterkit inspect runs
"""

import os
from pathlib import Path
from typing import Any

from adapterkit.cli import console
from adapterkit.cli.list import show
from adapterkit.cli.options import Folder, Json

LABELS_SHOWN = 12


def inspect(folder: Folder, as_json: Json = False) -> None:
    from adapterkit.manifest import open_manifest
    from adapterkit.report.runs import find_runs, holds_runs

    if holds_runs(folder):
        show(find_runs(folder), folder, as_json=as_json)
        return
    manifest = open_manifest(folder)
    signed = _signed(folder, manifest)
    if as_json:
        console.print_json({**manifest.model_dump(mode="json", exclude_unset=True), **signed})
        return
    told = [["signed by", ", ".join(signed.get("signed_by", ()))], ["not signed", signed.get("signature_problem", "")]]
    console.print_table([*_facts(manifest), *(row for row in told if row[1])], title=str(folder))
    for split, scores in manifest.metrics.items():
        console.print_table(console.metric_rows(scores), (split, "value", "95 % interval"))


def _signed(folder: Path, manifest: Any) -> dict[str, Any]:
    """Whose keys have signed it, or why what stands beside it is no signature of it; nothing where it has none."""
    from adapterkit.errors import SignatureError
    from adapterkit.manifest import SIGNATURE
    from adapterkit.manifest.signature import signers_of

    if not os.path.lexists(folder / SIGNATURE):
        return {}
    try:
        return {"signed_by": signers_of(folder, manifest)}
    except SignatureError as error:
        return {"signature_problem": "; ".join([error.summary, *error.problems])}


def _facts(manifest: Any) -> list[list[str]]:
    settings = manifest.method.model_dump(mode="json", exclude={"kind", "parts"})
    chosen = [f"{name} {_shown(value)}" for name, value in settings.items() if value not in (None, {}, False, 0.0)]
    labels = manifest.labels
    shown = ", ".join(labels[:LABELS_SHOWN]) + (", …" if len(labels) > LABELS_SHOWN else "")
    parameters = manifest.parameters
    rows = [
        ["task", manifest.kind],
        ["labels", f"{len(labels)}: {shown}" if labels else "none"],
        ["backbone", " @ ".join(filter(None, (manifest.backbone.name, manifest.backbone.revision)))],
        ["fingerprint", manifest.backbone.fingerprint],
        ["method", ", ".join([manifest.method.kind, *chosen])],
        ["parts", ", ".join(f"{part.name} ({part.sha256[:12]})" for part in manifest.parts)],
        ["head", f"{manifest.head.kind}, pooling {manifest.head.pooling}" + ", length 1" * manifest.head.normalize],
        ["parameters", f"{parameters.method:,} method + {parameters.head:,} head, {manifest.dtype}"],
        ["size", f"{console.readable_bytes(manifest.size_bytes)}"],
        ["data", manifest.data.source],
        ["rows", ", ".join(f"{split} {count:,}" for split, count in manifest.data.rows.items())],
        ["seed", str(manifest.seed)],
        ["version", f"{manifest.version}" + (f", parent {manifest.parent[:12]}" if manifest.parent else "")],
        ["made with", ", ".join(f"{name} {version}" for name, version in manifest.packages.items())],
        ["golden rows", str(len(manifest.golden.rows))],
    ]
    return [[name, value] for name, value in rows if value]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " + ".join(map(str, value))
    if isinstance(value, dict):
        return " + ".join(f"{name} {inner}" for name, inner in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
