"""Which of a backbone's sites a model really holds, and under which path."""

import sys
from collections.abc import Mapping
from typing import Any

from torch import nn

from adapterkit.backbone.sites import P, Sublayer
from adapterkit.errors import SiteError


def is_wrapped(module: nn.Module) -> bool:
    """Whether a module holds an adapter that stands around, or in the place of, one of the backbone's."""
    if "peft" not in sys.modules:  # until somebody imports it, there is none
        return False
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(module, BaseTunerLayer)


def bare(module: nn.Module) -> nn.Module:
    """The backbone's own module, without what is around it."""
    wrapper: Any = module
    return wrapper.get_base_layer() if is_wrapped(module) else module


def adapted_paths(trunk: nn.Module) -> list[str]:
    """Where in a trunk an adapter is attached."""
    return [path for path, module in trunk.named_modules() if is_wrapped(module)]


def check_bare(trunk: nn.Module, summary: str, remedy: str) -> None:
    """Raise SiteError, in these words, where an adapter is attached to a trunk."""
    if adapted := adapted_paths(trunk):
        raise SiteError(summary, [f"{path}: adapted" for path in adapted[:4]], remedy)


class Reach:
    """Paths of a trunk's modules in a model that shares them, or some of them: T5's token classifier has no decoder."""

    def __init__(self, model: nn.Module, trunk: nn.Module) -> None:
        """Look every module of the model up by identity.
        Raises SiteError: the model or the trunk carries an adapter already."""
        self._trunk = trunk
        self._paths = {id(module): path for path, module in model.named_modules()}
        adapted = adapted_paths(trunk)
        if adapted or hasattr(model, "peft_config"):
            raise SiteError(
                "this backbone carries an adapter already",
                [f"{path}: already adapted" for path in adapted[:4]],
                "Detach it first, or put this one on a twin of the backbone: backbone.twin().",
            )

    def path(self, trunk_path: str) -> str | None:
        """The path in the model of the module at a path of the trunk, or None if the model lacks it."""
        return self._paths.get(id(self._trunk.get_submodule(trunk_path)))

    def keep(self, sites: Mapping[str, P]) -> dict[str, P]:
        """Those of the sites, given by trunk path, that the model holds, by path in the model.
        Raises SiteError: it holds none of them."""
        found = {path: site for trunk_path, site in sites.items() if (path := self.path(trunk_path)) is not None}
        if not found:
            raise SiteError(
                "the model does not hold any of the chosen sites",
                [f"{path}: not in the model" for path in list(sites)[:4]],
                "Choose sites of the side that this kind of task uses.",
            )
        return found

    def read_modules(self, targets: Mapping[str, Sublayer], placement: str) -> tuple[dict[str, str], dict[str, str]]:
        """What a bottleneck reads beside the linear of each sublayer, by path in the model, as its placement needs it:
        the module whose first input is the residual, and the norm behind the sublayer."""
        residuals, norms = {}, {}
        for path, sublayer in targets.items():
            residual, norm = self.path(sublayer.residual), sublayer.norm and self.path(sublayer.norm)
            if placement != "houlsby" and residual is not None:
                residuals[path] = residual
            if placement == "pfeiffer" and norm is not None:
                norms[path] = norm
        return residuals, norms
