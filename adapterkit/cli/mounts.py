"""`--mount NAME=FOLDER`: a host with several adapters, for the verbs that answer with many."""

from collections.abc import Sequence
from typing import Annotated

from adapterkit.cli.options import named, option

Mounts = Annotated[
    list[str] | None,
    option(
        "--mount",
        metavar="NAME=FOLDER",
        help="Mount an artifact (a folder, URL or hub id) or a composition under a name. May be given many times.",
    ),
]
Slots = Annotated[int | None, option(min=1, help="Adapters in memory at once; the others wait on disk. Default: 64.")]


def sources_of(mounts: Sequence[str]) -> dict[str, str]:
    """Name -> artifact or composition. Raises DataError for what is not NAME=FOLDER, or a name given twice."""
    from adapterkit.errors import DataError

    sources = named(list(mounts), "--mount", "NAME=FOLDER", "intent=runs/banking77")
    if len(sources) < len(mounts):
        names = [mount.partition("=")[0] for mount in mounts]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError("--mount names the same adapter twice", [f"{name}: given more than once" for name in twice])
    return sources
