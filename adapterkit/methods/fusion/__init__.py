"""AdapterFusion: attention over the outputs of several frozen bottlenecks (Pfeiffer et al. 2021)."""

from __future__ import annotations

from adapterkit.methods.fusion.attaching import fusion_layers
from adapterkit.methods.fusion.layer import FusionLayer
from adapterkit.methods.fusion.part import Part, check_parts

__all__ = ["FusionLayer", "Part", "check_parts", "fusion_layers"]
