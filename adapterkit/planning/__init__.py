"""Planning: what a recipe will need, without loading weights."""

from adapterkit.planning.cache import CachePlan
from adapterkit.planning.needs import Plan, plan
from adapterkit.planning.strategies import Memory, Strategy
from adapterkit.planning.traffic import Traffic

__all__ = ["CachePlan", "Memory", "Plan", "Strategy", "Traffic", "plan"]
