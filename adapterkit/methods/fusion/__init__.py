"""AdapterFusion: attention over the outputs of several frozen bottlenecks (Pfeiffer et al. 2021)."""
