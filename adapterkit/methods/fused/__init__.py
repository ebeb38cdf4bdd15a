"""A faster forward and backward under the methods' layers; what is learned stays the same."""

from adapterkit.methods.fused.frozen import most_bytes, put_on, take_off
from adapterkit.methods.fused.layers import put_under, take_away

__all__ = ["most_bytes", "put_on", "put_under", "take_away", "take_off"]
