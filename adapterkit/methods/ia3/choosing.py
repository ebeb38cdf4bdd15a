"""Where an IA3 stands: the sites that its settings name, and which side of each is scaled."""

from adapterkit.backbone import Site, Sites
from adapterkit.errors import SiteError
from adapterkit.methods.lora.choosing import unique
from adapterkit.recipe import Ia3Method

AUTO_ROLES = tuple(f"attention.{role}" for role in ("key", "value", "qkv", "key_value", "qkv_gate"))
"""Ends of the names of the sites whose output is scaled where a recipe names none: cross attention has them too."""
FEEDFORWARD = "feedforward.output"
"""The site whose input is scaled where a recipe names none."""


def choose(sites: Sites, settings: Ia3Method) -> tuple[Site, ...]:
    """The sites that a recipe names.
    Raises SiteError: sites, layers or inputs that match nothing; lists what exists."""
    auto = tuple(name for name in sites.names() if name.endswith(AUTO_ROLES) or name == FEEDFORWARD)
    names = auto if settings.sites == "auto" else settings.sites
    chosen = sites.select(names, layers=settings.layers, top=settings.top)
    problems = [f"site {site.name!r}: not a linear, which IA3 needs" for site in unique(chosen) if not site.linear]
    if settings.inputs != "auto":
        problems += [f"inputs: {name!r} is none of the chosen sites" for name in settings.inputs if name not in names]
    if problems:
        raise SiteError(
            "IA3 cannot be attached as asked", problems, f"Chosen sites: {', '.join(names)}. {sites.describe()}"
        )
    return chosen


def scales_input(site: Site, settings: Ia3Method) -> bool:
    """Whether what a site reads is scaled, and not what it gives."""
    return site.name == FEEDFORWARD if settings.inputs == "auto" else site.name in settings.inputs
