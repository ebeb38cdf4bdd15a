"""The lowest layer that a method touches: what lies below depends on the text alone."""

from collections.abc import Iterable

from adapterkit.backbone.sites import Site, Sublayer

BELOW_ALL_LAYERS = -1
"""Where the embeddings are touched too."""


def lowest_layers(sites: Iterable[Site | Sublayer]) -> dict[str, int]:
    """The lowest layer of each side among the sites."""
    lowest: dict[str, int] = {}
    for site in sites:
        lowest[site.side] = min(site.layer, lowest.get(site.side, site.layer))
    return lowest
