"""`adapterkit probe`."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from adapterkit.cli import console, options, shared
from adapterkit.cli.processes import all_processes

SHOWN = {
    "knn_accuracy": ("kNN", "{:.1%}"),
    "logme": ("LogME", "{:.3f}"),
    "h_score": ("H-score", "{:.2f}"),
    "codelength_bits": ("bits/label", "{:.2f}"),
    "information_nats": ("InfoNCE", "{:.2f}"),
    "silhouette": ("silhouette", "{:.2f}"),
    "nmi": ("NMI", "{:.2f}"),
    "rank_me": ("rank", "{:.0f}"),
    "anisotropy": ("anisotropy", "{:.2f}"),
    "alignment": ("alignment", "{:.2f}"),
    "uniformity": ("uniformity", "{:.2f}"),
}
"""Measure -> heading and format."""


@shared.given(how=shared.looking, tell=shared.telling)
def probe(
    how: dict[str, Any],
    tell: shared.Telling,
    representations: options.Representations = None,
    data: Annotated[str | None, options.option("--data", help="Rows with labels.")] = None,
) -> None:
    """Show what each layer of a backbone knows of some rows' classes, bare and with adapters, without any training.

    $ adapterkit probe runs/banking77 --data banking77/test.jsonl
    $ adapterkit probe sentence-transformers/all-MiniLM-L6-v2 --data banking77/test.jsonl --rows 1000 --json
    $ torchrun --standalone --nproc_per_node 2 -m adapterkit probe runs/banking77 --data banking77/test.jsonl
    """
    options.check_runs(representations or [])
    accelerator = all_processes()
    from adapterkit import evaluation

    with console.stages() as progress:
        record = evaluation.probe(representations or [], data, tell=progress, accelerator=accelerator, **how)
    if (found := tell(record)) is None or not console.is_main_process():
        return
    for note in found["notes"]:
        console.say(f"Note: {note}.", style="yellow")
    print_probe(found)


def print_probe(found: Mapping[str, Any]) -> None:
    """A table for each representation, and what they say in sentences."""
    names = [one["name"] for one in found["representations"]]
    refused: dict[str, str] = {}
    for one in found["representations"]:
        layers, others = one["layers"], [name for name in names if name != one["name"]]
        shown = [name for name in SHOWN if any(name in layer["figures"] for layer in layers)]
        headings = ["layer", "probe", "95 % interval", *(SHOWN[name][0] for name in shown)]
        ceilings = [layer["figures"].get("information_ceiling_nats") for layer in layers]
        if known := next(filter(None, ceilings), None):
            headings = [f"InfoNCE (≤ {known:.2f})" if name == "InfoNCE" else name for name in headings]
        headings += [f"CKA {name}" for name in others]
        console.print_table([_row(layer, shown, others) for layer in layers], headings, title=one["name"])
        typer.echo()
        for layer in layers:
            refused |= {name: why for name, why in layer["refused"].items() if name in SHOWN and name not in shown}
    for name, why in refused.items():
        console.say(f"Note: no {name.replace('_', ' ')}: {why}.", style="yellow")
    for sentence in found["findings"]:
        typer.echo(sentence)


def _row(layer: Mapping[str, Any], shown: Sequence[str], others: Sequence[str]) -> list[str]:
    probed = "–", ""
    if (accuracy := layer["accuracy"]) is not None:
        probed = f"{accuracy['value']:.1%}", f"{accuracy['low']:.1%} – {accuracy['high']:.1%}"
    figures = [SHOWN[name][1].format(layer["figures"][name]) if name in layer["figures"] else "–" for name in shown]
    similar = [layer["similarity"].get(name) for name in others]
    return [str(layer["layer"]), *probed, *figures, *("–" if value is None else f"{value:.3f}" for value in similar)]
