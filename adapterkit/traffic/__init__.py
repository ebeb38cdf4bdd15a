"""Who answers: pure choices over names and numbers. Nothing here knows a host, a request or torch."""

from adapterkit.traffic.rules import Rules, TaskRules, read_rules
from adapterkit.traffic.splits import Split, arm_of, unit

__all__ = ["Rules", "Split", "TaskRules", "arm_of", "read_rules", "unit"]
