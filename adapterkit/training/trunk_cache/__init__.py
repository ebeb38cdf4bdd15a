"""What lies below the lowest adapted layer, computed once per text and kept on disk."""

from adapterkit.training.trunk_cache.listing import KeptStates, entries, prune
from adapterkit.training.trunk_cache.prepare import cache_root, use_cache
from adapterkit.training.trunk_cache.shortcut import share_states

__all__ = ["KeptStates", "cache_root", "entries", "prune", "share_states", "use_cache"]
