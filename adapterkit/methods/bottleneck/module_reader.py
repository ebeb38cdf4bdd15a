"""The modules that a bottleneck reads beside the one that it wraps."""

from collections.abc import Mapping

from adapterkit.backbone.sites import Sublayer
from adapterkit.methods.reach import Reach


def read_modules(
    reach: Reach, targets: Mapping[str, Sublayer], placement: str
) -> tuple[dict[str, str], dict[str, str]]:
    """For each target the module whose first input is the residual, and the norm behind the sublayer, as a placement
    needs them. `targets`: sublayers by path in the model."""
    residuals, norms = {}, {}
    for path, sublayer in targets.items():
        residual, norm = reach.path(sublayer.residual), sublayer.norm and reach.path(sublayer.norm)
        if placement != "houlsby" and residual is not None:
            residuals[path] = residual
        if placement == "pfeiffer" and norm is not None:
            norms[path] = norm
    return residuals, norms
