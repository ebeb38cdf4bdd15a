"""`adapterkit cache`.

$ adapterkit cache ls
$ adapterkit cache prune --older-than 30
$ adapterkit cache prune --max-size 10GB
$ adapterkit cache prune --all
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from adapterkit.cli import console
from adapterkit.cli.options import Json, option


def cache(
    act: Annotated[Literal["ls", "prune"], typer.Argument(help="List what is kept, or remove some of it.")] = "ls",
    folder: Annotated[
        Path | None, option("--dir", help="The folder of training.cache. Default: the one of auto.")
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", metavar="DAYS", min=0, help="Remove what was not used for so many days."),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option("--max-size", metavar="SIZE", help="Remove what was used longest ago, until so much is left."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Remove everything.")] = False,
    as_json: Json = False,
) -> None:
    from adapterkit.errors import RecipeError
    from adapterkit.training.trunk_cache import cache_root, entries, prune

    root = cache_root() if folder is None else folder
    chosen = older_than is not None or max_size is not None or everything
    if chosen != (act == "prune"):
        raise RecipeError(
            f"adapterkit cache {act} {'removes nothing' if chosen else 'does not know what to remove'}",
            ["--older-than, --max-size, --all: " + ("found one of them" if chosen else "found none, expected one")],
            "Write adapterkit cache prune with --older-than DAYS, --max-size SIZE or --all.",
        )
    if act == "ls":
        _show(entries(root), root, as_json)
        return
    largest = None if max_size is None else _size(max_size)
    removed = prune(root, older_than_days=older_than, max_bytes=largest, everything=everything)
    _show(removed, root, as_json)
    console.say(f"Removed {console.readable_bytes(sum(entry.size_bytes for entry in removed))}.")


def _show(found: list[Any], root: Path, as_json: bool) -> None:
    facts, rows = [], []
    for entry in found:
        used = datetime.fromtimestamp(entry.used, UTC).strftime("%Y-%m-%d %H:%M")
        told = {name: getattr(entry, name) for name in ("backbone", "layer", "pooling", "dtype", "rows", "size_bytes")}
        facts.append({**told, "used": used, "folder": str(entry.folder)})
        size, name = console.readable_bytes(entry.size_bytes), "/".join(Path(entry.backbone).parts[-2:])
        rows.append([size, name, str(entry.layer), entry.pooling or "-", entry.dtype, f"{entry.rows:,}", used])
    headings = ("size", "backbone", "below layer", "pooling", "numbers", "rows", "last use (UTC)")
    console.print_either(as_json, facts, rows, headings, str(root))


def _size(text: str) -> int:
    from adapterkit.errors import RecipeError
    from adapterkit.planning.needs import read_bytes

    size = read_bytes(text)
    if size is None or size < 0:
        problem = f"--max-size: found {text!r}, expected a size"
        raise RecipeError("--max-size cannot be read", [problem], "As in --max-size 10GB")
    return size
