"""What lies below the lowest adapted layer, computed once per text and kept on disk."""

from adapterkit.training.trunk_cache.cut import share_states
from adapterkit.training.trunk_cache.listing import KeptStates, entries, prune
from adapterkit.training.trunk_cache.prepare import cache_root, use_cache

__all__ = ["KeptStates", "cache_root", "entries", "prune", "share_states", "use_cache"]
