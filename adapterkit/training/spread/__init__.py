"""How the processes of a run hold the backbone, and how they exchange gradients."""

from collections.abc import Mapping

from accelerate import Accelerator

from adapterkit.recipe import Recipe
from adapterkit.training.launch import is_sharded
from adapterkit.training.spread.protocol import Spread
from adapterkit.training.spread.replicated import Replicated
from adapterkit.training.spread.sharded import Sharded

__all__ = ["Spread", "spread_of"]


def spread_of(environment: Mapping[str, str], accelerator: Accelerator, recipe: Recipe) -> Spread:
    """What a launcher asks for: shards of the backbone, or a whole one in every process. One process has it whole."""
    if is_sharded(environment) and accelerator.num_processes > 1:
        keep = environment.get("FSDP_RESHARD_AFTER_FORWARD", "true") == "false"
        return Sharded(accelerator, recipe, keep_gathered=keep)
    return Replicated(accelerator)
