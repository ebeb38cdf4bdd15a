"""`adapterkit compose`.

$ adapterkit compose composition.yaml
$ adapterkit compose composition.yaml --output runs/both
$ adapterkit schema composition > composition.schema.json
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapterkit.cli import console
from adapterkit.cli.options import BackboneName, Json, WrittenDtype, argument, option

if TYPE_CHECKING:
    from adapterkit.compose.mountable import Mountable

WORST_SHOWN = 5


def compose(
    file: Annotated[Path, argument(metavar="FILE", help="The composition, in YAML.")],
    output: Annotated[
        Path | None, option("--output", "-o", metavar="DIR", help="Write the result as an artifact.")
    ] = None,
    backbone: BackboneName = None,
    dtype: Annotated[WrittenDtype, typer.Option("--dtype", help="Of the saved tensors.")] = "float32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an artifact that exists.")] = False,
    as_json: Json = False,
) -> None:
    from adapterkit.manifest import KEPT, check_output

    if output is not None:
        check_output(output, overwrite=overwrite, keep=KEPT)  # before torch is imported
    from adapterkit.compose import compose_file

    result = compose_file(file, output, backbone=backbone, dtype=dtype, overwrite=overwrite)
    if as_json:
        console.print_json({**result.mountable.report, "artifact": None if output is None else str(output)})
        return
    console.print_table(_facts(result.mountable), title=result.words)
    error = result.mountable.report.get("error")
    if error and error["sites"]:
        worst = sorted(error["sites"].items(), key=lambda item: -item[1])[:WORST_SHOWN]
        console.print_table([[site, f"{value:.4f}"] for site, value in worst], ("worst sites", "relative error"))
    if output is not None:
        console.say(f"Artifact: {output}", style="green")
        console.say(f"Try: adapterkit verify {output}")
    else:
        console.say(result.use)


def _facts(composed: Mountable) -> list[list[str]]:
    report: Mapping[str, Any] = composed.report
    rows = [["composition", str(report["composition"])]]
    if "how" in report:
        rows.append(["how", str(report["how"])])
    for member in report["members"]:
        name, weight = member["name"], member.get("weight")
        told = f"{name}: {member.get('method') or member.get('words')}"
        rows.append(["member", told if weight is None else f"{weight:g} × {name}"])
    rows += [["head", f"{name}: {head.task.kind}, {head.head.kind}"] for name, head in composed.heads.items()]
    if "rank" in report:
        lowest, highest = report["rank"]["lowest"], report["rank"]["highest"]
        rows.append(["rank", str(lowest) if lowest == highest else f"{lowest} to {highest}"])
    if "error" in report:
        rows.append(["relative error", f"{report['error']['overall']:.4f}"])
    return rows
