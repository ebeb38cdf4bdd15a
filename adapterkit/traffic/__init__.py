"""Who answers: pure choices over names and numbers. Nothing here knows a host, a request or torch."""

from adapterkit.traffic.guards import Guards, Tripped
from adapterkit.traffic.rules import Rules, TaskRules, read_rules
from adapterkit.traffic.splits import Split, arm_of, unit
from adapterkit.traffic.tallies import Tally, Verdict, verdicts_of

__all__ = [
    "Guards", "Rules", "Split", "Tally", "TaskRules", "Tripped", "Verdict", "arm_of", "read_rules", "unit",
    "verdicts_of",
]  # fmt: skip
