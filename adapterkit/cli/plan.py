"""`adapterkit plan`.

The backbone may be a folder that holds nothing but [cyan]config.json[/cyan]. Rows are read and encoded; without a
tokenizer, four characters count as one token.

$ adapterkit plan recipes/banking77.yaml
$ adapterkit plan banking77 backbone.name=models/llama-3-8b training.batch_size=256 --gpus 8 --memory 80GiB
$ adapterkit plan banking77 --gpus 1024 --memory 80GiB --interconnect 50GB
"""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from adapterkit.cli import console
from adapterkit.cli.fields import Fields
from adapterkit.cli.options import DataRoot, Json, Overrides, RecipeName, option

COMMAND = Fields


def plan(
    recipe: RecipeName,
    overrides: Overrides = None,
    gpus: Annotated[
        int | None, typer.Option("--gpus", help="How many GPUs there will be. Default: what this machine has.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="SIZE", help="Memory of each, as in 80GiB. Default: this one's.")
    ] = None,
    interconnect: Annotated[
        str | None,
        option("--interconnect", metavar="SIZE", help="What each GPU sends in a second, as in 50GB: what travels."),
    ] = None,
    tflops: Annotated[float, typer.Option("--tflops", help="10¹² operations a second that each GPU does.")] = 400.0,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    from adapterkit.data import check_sources
    from adapterkit.recipe import resolve
    from adapterkit.recipe.load import folder_of

    # Before torch is imported, so that a mistake is named at once.
    resolved = resolve(recipe, overrides or ())
    check_sources(resolved.recipe.data, folder_of(recipe))
    from adapterkit import planning

    found = planning.plan(
        recipe, gpus=gpus, memory=memory, interconnect=interconnect, tflops=tflops, overrides=overrides or ()
    )
    if as_json:
        console.print_json(asdict(found))
        return
    for note in found.notes:
        console.say(f"Note: {note}", style="yellow")
    console.print_table(_facts(found), title=recipe)
    uses = {**found.memory.uses(), "all": found.memory.total}
    rows = [[name, console.readable_bytes(size)] for name, size in uses.items()]
    console.print_table(rows, ("memory of the largest step", "one device"))
    headings = ("way, the cheapest first", "time", "per device", "fits", "how")
    rows = []
    for way in found.strategies:
        batches = f" in {way.accumulate} micro-batches" if way.accumulate > 1 else ""
        fits = "yes, taken" if way is found.chosen else "yes" if way.fits else "no"
        size = console.readable_bytes(way.memory.total)
        rows.append([f"{way.name}{batches}", f"{way.cost:.2f}", size, fits, way.how])
    console.print_table(rows, headings)
    if found.traffic:
        headings = ("what travels in a step", "each sends", "seconds", "seconds computing", "waits from")
        rows = []
        for sent in found.traffic:
            seconds = [f"{value:.2g}" for value in (sent.seconds, sent.computing_seconds)]
            rows.append([sent.way, console.readable_bytes(sent.device_bytes), *seconds, f"{sent.waits_from:,} GPUs"])
        console.print_table(rows, headings)
    console.say(*_verdict(found))


def _facts(plan: Any) -> list[list[str]]:
    cache = plan.cache
    kept = f"{console.readable_bytes(cache.size_bytes)} for {cache.texts:,} texts, below layer {cache.layer}"
    share = (plan.method_parameters + plan.head_parameters) / max(1, plan.frozen_parameters)
    return [
        ["trained", f"{plan.method_parameters:,} method + {plan.head_parameters:,} head ({share:.3%} of the frozen)"],
        ["frozen", f"{plan.frozen_parameters:,} parameters"],
        ["rows", f"{plan.rows:,}, {plan.features:,} encoded, {plan.steps:,} steps in {plan.dtype}"],
        ["largest step", f"{plan.step_rows:,} rows of {plan.step_tokens:,} tokens"],
        ["operations", f"{_readable(plan.flops)}FLOP in a usual step"],
        ["trunk cache", f"none: {cache.reason}" if cache.reason else kept],
        ["artifact", f"{console.readable_bytes(plan.artifact_bytes)} of tensors"],
        ["machine", f"{plan.devices} × {console.readable_bytes(plan.memory_bytes)}"],
    ]


def _verdict(plan: Any) -> tuple[str, str]:
    size = console.readable_bytes
    if plan.chosen is not None:
        used = plan.chosen.memory
        limit = f"{plan.limit} ({size(used.uses()[plan.limit])})"
        share = f"{used.total / plan.memory_bytes:.0%} of what is there"
        what = f"{plan.chosen.name}: {size(used.total)} per device, {share}"
        return f"{what}. Most of it: {limit}. Set: {plan.chosen.how}.", "green"
    least = min(plan.strategies, key=lambda way: way.memory.total)
    limit = f"{plan.limit} ({size(least.memory.uses()[plan.limit])})"
    needs = f"the least is {size(least.memory.total)} per device ({least.name}), most of it {limit}"
    return f"It does not fit: {needs}; there are {size(plan.memory_bytes)}.", "red"


def _readable(count: int) -> str:
    """1,234,567,890 as "1.23 G"."""
    for unit, factor in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count} "
