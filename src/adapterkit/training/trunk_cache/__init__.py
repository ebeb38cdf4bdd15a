"""What lies below the lowest adapted layer, computed once per text and kept on disk."""

from adapterkit.training.trunk_cache.listing import Entry, entries, prune
from adapterkit.training.trunk_cache.prepare import cache_root, use_cache

__all__ = ["Entry", "cache_root", "entries", "prune", "use_cache"]
