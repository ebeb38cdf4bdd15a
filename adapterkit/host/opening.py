"""Open a host from names and sources, as command lines and configurations give them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapterkit.artifact.loading import find_backbone
from adapterkit.backbone import Backbone
from adapterkit.errors import DataError
from adapterkit.host.bank.sources import COMPOSITION_ENDINGS, Source, open_source
from adapterkit.host.host import Host
from adapterkit.manifest.signature import TrustedKeys, read_trusted


def open_host(
    sources: Mapping[str, Source],
    backbone: Backbone | str | Path | None = None,
    *,
    slots: int | None = None,
    dtype: str = "auto",
    require_signature: TrustedKeys | None = None,
) -> Host:
    """A host with everything mounted. Compositions come last, since their members may be mounted names.

    Args:
        sources: name -> what is mounted under it.
        backbone: a loaded one, or where to load it from; None loads the one that the first artifact names.
        slots: adapters in memory at once; None for as many as a host has by default.
        dtype: of the frozen weights, where they are loaded here.
        require_signature: see `Host`.

    Raises:
        DataError: compositions alone, and no backbone.
        AdapterkitError: what cannot be mounted.
    """
    opened, keys = dict(sources), read_trusted(require_signature) or None
    if isinstance(backbone, Backbone):
        found = backbone
    elif backbone is not None:
        found = Backbone.load(str(backbone), dtype=dtype)
    else:
        first = next((name for name in opened if not is_composition(opened[name])), None)
        artifact: Any = None if first is None else open_source(opened[first])
        if first is None:
            raise DataError("a composition does not name a backbone", remedy="Give one with --backbone PATH_OR_ID.")
        opened[first], found = artifact, find_backbone(artifact, None, dtype)
    own: Any = {} if slots is None else {"slots": slots}
    host = Host(found, require_signature=keys, **own)
    try:
        for name in sorted(opened, key=lambda name: is_composition(opened[name])):
            host.mount(name, opened[name])
    except BaseException:
        host.close()
        raise
    return host


def is_composition(source: Source) -> bool:
    """Whether a source is a composition, or the file of one."""
    if isinstance(source, str | os.PathLike):
        return Path(source).suffix in COMPOSITION_ENDINGS
    return hasattr(source, "build")
