"""The lowest layer that a method touches: what lies below depends on the text alone."""

from collections.abc import Iterable
from typing import Protocol

BELOW_ALL_LAYERS = -1
"""Where the embeddings are touched too."""


class Layered(Protocol):
    """A site or a sublayer: something at a numbered layer of a side."""

    @property
    def layer(self) -> int: ...

    @property
    def side(self) -> str: ...


def lowest_layers(sites: Iterable[Layered]) -> dict[str, int]:
    """The lowest layer of each side among the sites."""
    lowest: dict[str, int] = {}
    for site in sites:
        lowest[site.side] = min(site.layer, lowest.get(site.side, site.layer))
    return lowest
