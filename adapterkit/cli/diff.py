"""`adapterkit diff`."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from adapterkit.cli import console, options

SHOWN = 12
"""Of the farthest apart that are told; JSON has them all."""


def diff(
    a: Annotated[Path, options.a_folder(metavar="A", help="The artifact to compare with.")],
    b: Annotated[Path, options.a_folder(metavar="B", help="The other.")],
    backbone: Annotated[
        str | None,
        options.option(
            "--backbone",
            metavar="PATH_OR_ID",
            help="Let both answer the golden rows of both. Default: as they were kept.",
        ),
    ] = None,
    parts: options.Parts = None,
    as_json: options.Json = False,
) -> None:
    """Say what differs between two artifacts: recipe, data, labels, metrics, what was learned, and answers.

    $ adapterkit diff runs/banking77 runs/banking77-v2
    $ adapterkit diff runs/banking77 runs/banking77-v2 --backbone ./models/all-MiniLM-L6-v2 --json > diff.json
    """
    from adapterkit.manifest import open_manifest

    open_manifest(a)
    open_manifest(b)
    from adapterkit import evaluation

    named = options.named(parts, "--part", "NAME=FOLDER", "language=runs/language")
    found = evaluation.diff(a, b, backbone=backbone, parts=named).to_dict()
    if as_json:
        console.print_json(found)
        return
    console.echo(
        f"a: {a}, version {found['a']['version']}\nb: {b}, version {found['b']['version']}\n{found['relation']}"
    )
    for title in ("changes", "metrics"):
        rows = [[each["field"].removeprefix("metrics."), _shown(each["a"]), _shown(each["b"])] for each in found[title]]
        if rows:
            console.print_table(rows, (title, "a", "b"))
    for title in ("labels_added", "labels_removed"):
        if found[title]:
            console.echo(f"{title.replace('_', ' ')}: {', '.join(found[title])}")
    apart = [each for each in found["learned"] if each["distance"] != 0]
    if apart:
        console.echo(f"{len(apart)} of {len(found['learned'])} modules and tensors that were learned differ")
        console.print_table([_apart(each) for each in apart[:SHOWN]], ("farthest apart", "‖a‖", "‖b‖", "‖b - a‖ / ‖a‖"))
    rows = [[_shown(each["row"]), _shown(each["a"]), _shown(each["b"])] for each in found["golden"]]
    if rows:
        console.print_table(rows, ("golden row", "a answers", "b answers"))


def _apart(each: Mapping[str, Any]) -> Sequence[str]:
    norms = ["–" if each[name] is None else f"{each[name]:.4g}" for name in ("a", "b")]
    share = "–" if each["distance"] is None or not each["a"] else f"{each['distance'] / each['a']:.3f}"
    return [each["name"], *norms, share]


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping) and "low" in value:
        return f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"
    text = re.sub(r"\s+", " ", json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:57]}…"
