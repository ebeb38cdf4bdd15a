"""`adapterkit predict`.

Standard input holds one text per line, or one JSON object per line for tasks that read several columns.
With --mount many adapters answer, and every row names its own in a column called task.

$ echo "my card was lost" | adapterkit predict runs/banking77
$ adapterkit predict runs/banking77 questions.csv --json > answers.jsonl
$ echo '{"question": "Who?", "context": "Ada wrote it."}' | adapterkit predict runs/squad_small
$ adapterkit predict --mount intent=runs/banking77 --mount ner=runs/wnut17 rows.jsonl
$ adapterkit predict runs/banking77 questions.csv --errors skip --json > answers.jsonl
$ adapterkit predict runs/banking77 questions.parquet --ray --ray-actors 4 --output answers.jsonl
$ torchrun --standalone --nproc_per_node 2 -m adapterkit predict runs/banking77 questions.csv --json > answers.jsonl
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from adapterkit.cli import console, options
from adapterkit.cli.answering import Answering, rows_of
from adapterkit.cli.processes import all_processes
from adapterkit.errors import AdapterkitError

if TYPE_CHECKING:
    from adapterkit.host.bank.sources import Source

SKIPPED = 3
"""The exit status where rows were skipped, and the others answered."""


def predict(
    folder: Annotated[
        Path | None, options.a_folder(help="The artifact's folder, URL or name on a hub; not with --mount.")
    ] = None,
    data: Annotated[
        Path | None, options.argument(metavar="FILE", help="JSONL, CSV, TSV, Parquet or text. Default: standard input.")
    ] = None,
    mount: options.Mounts = None,
    slots: options.Slots = None,
    backbone: options.BackboneName = None,
    backbone_dtype: options.BackboneFormat = "auto",
    parts: options.Parts = None,
    encoding: options.Encoding = None,
    delimiter: options.Delimiter = None,
    read_as: options.ReadAs = None,
    errors: Annotated[
        Literal["stop", "skip"],
        typer.Option(help="Bad rows: stop before anything is answered, or skip: errors in their places, status 3."),
    ] = "stop",
    as_json: options.Json = False,
    ray: Annotated[
        bool, typer.Option("--ray", help="Let a pool of hosts under Ray answer a FILE, here or where RAY_ADDRESS says.")
    ] = False,
    actors: Annotated[
        int | None, options.option("--ray-actors", min=1, help="With --ray: hosts that answer at once. Default: 2.")
    ] = None,
    output: Annotated[
        Path | None,
        options.option(metavar="FILE", help="With --ray: JSON lines to write. Begun and stopped, it is gone on with."),
    ] = None,
) -> None:
    folders = options.named(parts, "--part", "NAME=FOLDER", "language=runs/language")
    name: str | None = None
    if mount:
        if data is not None:
            raise typer.BadParameter("takes one FILE and no FOLDER", param_hint="--mount")
        if parts:
            raise typer.BadParameter("belongs to one artifact, and not to --mount", param_hint="--part")
        named, data = options.sources_of(mount), folder
    elif slots is not None:
        raise typer.BadParameter("belongs to --mount", param_hint="--slots")
    elif folder is None:
        raise typer.BadParameter("missing; or mount adapters with --mount NAME=FOLDER", param_hint="FOLDER")
    else:
        from adapterkit.manifest import open_manifest

        open_manifest(folder)  # before torch is imported, so that what is no artifact is named at once
        name = str(folder)
        named = {name: name}
    read = options.reading(encoding, delimiter, read_as)
    if read and data is None:
        raise typer.BadParameter("belong to a FILE", param_hint="--encoding, --delimiter, --read")
    skip = errors == "skip"
    accelerator = all_processes()
    if ray:
        if data is None or output is None or accelerator is not None:
            raise typer.BadParameter("takes a FILE and --output, and no launcher", param_hint="--ray")
        settings = {"backbone": backbone, "slots": slots, "dtype": backbone_dtype}
        from adapterkit.serving.ray.files import Hosting, answer_file

        hosting = Hosting(named, name, folders, settings, actors or 2)
        with console.progress("rows", None) as advance:
            found = answer_file(hosting, data, output, reading=read, skip=skip, progress=advance)
        console.say("\n".join([f"{found.rows:,} rows in {output}", *found.problems]), style="dim")
        raise typer.Exit(SKIPPED if found.bad else 0)
    if actors is not None or output is not None:
        raise typer.BadParameter("they go with --ray", param_hint="--ray-actors, --output")
    from adapterkit.artifact import open_artifact
    from adapterkit.host.opening import open_host

    sources: dict[str, Source] = {**named} if name is None else {name: open_artifact(name, parts=folders)}
    rows = rows_of(data, read, again=not skip, accelerator=accelerator)
    with open_host(sources, backbone, slots=slots, dtype=backbone_dtype) as host:
        answering, started = Answering(host, rows, name, skip=skip, accelerator=accelerator), time.perf_counter()
        for answer in answering.answers():
            if console.is_main_process():
                _print(answer, as_json)
        if mount:
            seconds = time.perf_counter() - started
            console.say(
                f"{answering.rows:,} rows in {seconds:.2f} s: {answering.rows / seconds:,.0f} rows/s, "
                f"{len(host)} adapter{'s' if len(host) > 1 else ''} on {host.backbone.name}",
                style="dim",
            )
    if answering.bad:
        if console.is_main_process():
            console.print_error(answering.refusal(answering.rows))
        raise typer.Exit(SKIPPED)


def _print(answer: Any, as_json: bool) -> None:
    if isinstance(answer, AdapterkitError):
        if as_json:
            console.print_json({"error": answer.as_json()}, indent=None)
        else:
            console.echo(f"(no answer: {answer.summary})".replace("\n", " "))
    elif as_json:
        console.print_json(answer, indent=None)
    else:
        from adapterkit.tasks.closer_look import one_line

        console.echo(one_line(answer))
