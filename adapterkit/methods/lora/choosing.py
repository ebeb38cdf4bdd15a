"""Where a LoRA stands: the sites that its settings name, and the rank and alpha of each."""

import math
from collections.abc import Iterable, Mapping
from typing import TypeVar

from adapterkit.backbone import Site, Sites
from adapterkit.errors import SiteError
from adapterkit.recipe import LoraMethod

N = TypeVar("N", int, float)


def choose(sites: Sites, settings: LoraMethod) -> tuple[Site, ...]:
    """The sites that a recipe names.
    Raises SiteError: sites, layers or pattern keys that match nothing; lists what exists."""
    chosen = sites.select(settings.sites, layers=settings.layers, top=settings.top)
    problems = [f"site {site.name!r}: not a linear, which LoRA needs" for site in unique(chosen) if not site.linear]
    known = {name for site in chosen for name in (site.name, f"{site.name}@{site.layer}")}
    for field in ("rank_pattern", "alpha_pattern"):
        problems += [
            f"{field}: {key!r} matches none of the chosen sites"
            for key in sorted(getattr(settings, field))
            if key not in known
        ]
    if problems:
        layers = sorted({site.layer for site in chosen})
        names = ", ".join(site.name for site in unique(chosen))
        raise SiteError(
            "LoRA cannot be attached as asked",
            problems,
            f"Chosen sites: {names}; layers {', '.join(map(str, layers))}. {sites.describe()}",
        )
    return chosen


def unique(sites: Iterable[Site]) -> list[Site]:
    """One site for each name."""
    return list({site.name: site for site in sites}.values())


def pattern_value(pattern: Mapping[str, N], site: Site, default: N) -> N:
    """The value for one site: the one for its layer ("attention.query@5"), for its name, or the default."""
    return pattern.get(f"{site.name}@{site.layer}", pattern.get(site.name, default))


def scaling_of(settings: LoraMethod, site: Site) -> float:
    """alpha / rank, or alpha / √rank for rsLoRA; both halves of split weights have that of the rank in training."""
    rank = pattern_value(settings.rank_pattern, site, settings.rank)
    return pattern_value(settings.alpha_pattern, site, settings.alpha) / (math.sqrt(rank) if settings.rslora else rank)


def plain(number: float) -> float:
    """An int where nothing is lost, as PEFT's files have it."""
    return int(number) if float(number).is_integer() else number
