"""`--mount NAME=FOLDER`: a host with several adapters, for the verbs that answer with many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapterkit.cli.options import named

if TYPE_CHECKING:
    from adapterkit.host import Host

PLAN_ENDINGS = (".yaml", ".yml")

Mounts = Annotated[
    list[str] | None,
    typer.Option(
        "--mount",
        metavar="NAME=FOLDER",
        help="Mount an artifact, a hub id or a composition's plan under a name. May be given many times.",
        show_default=False,
    ),
]
Slots = Annotated[
    int | None,
    typer.Option(min=1, help="Adapters in memory at once; the others wait on disk. Default: 64.", show_default=False),
]


def sources_of(mounts: Sequence[str]) -> dict[str, str]:
    """Name -> artifact or plan. Raises DataError for what is not NAME=FOLDER, or a name given twice."""
    from adapterkit.errors import DataError

    sources = named(list(mounts), "--mount", "NAME=FOLDER", "intent=runs/banking77")
    if len(sources) < len(mounts):
        names = [mount.partition("=")[0] for mount in mounts]
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError("--mount names the same adapter twice", [f"{name}: given more than once" for name in twice])
    return sources


def mounted(sources: Mapping[str, str], backbone: str | None, slots: int | None, dtype: str = "auto") -> Host:
    """A host with everything mounted. Plans come last, since their members may be mounted names.

    Args:
        slots: None for as many as the host has by default.
        dtype: of the frozen weights.

    Raises:
        DataError: plans alone, and no backbone.
        AdapterkitError: what cannot be mounted.
    """
    from adapterkit.host import Host

    artifacts = {name: source for name, source in sources.items() if not is_plan(source)}
    found = _backbone(list(artifacts.values()), backbone, dtype)
    host = Host(found) if slots is None else Host(found, slots=slots)
    for name in (*artifacts, *(sources.keys() - artifacts.keys())):
        host.mount(name, sources[name])
    return host


def is_plan(source: str) -> bool:
    """Whether a source is the file of a composition's plan."""
    return Path(source).suffix in PLAN_ENDINGS


def _backbone(artifacts: Sequence[str], backbone: str | None, dtype: str) -> Any:
    from adapterkit.artifact.loading import find_backbone
    from adapterkit.backbone import Backbone
    from adapterkit.errors import DataError
    from adapterkit.host.bank.sources import open_source

    if backbone is not None:
        return Backbone.load(backbone, dtype=dtype)
    if not artifacts:
        raise DataError("a plan does not name a backbone", remedy="Give one with --backbone PATH_OR_ID.")
    opened: Any = open_source(artifacts[0])
    return find_backbone(opened, None, dtype)
