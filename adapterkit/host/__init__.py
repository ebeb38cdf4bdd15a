"""The host: one backbone in memory that answers with many mounted adapters, each row with its own."""

from adapterkit.host.composed import Composed, Facts, HeadPart, Part, Plan
from adapterkit.host.host import Host
from adapterkit.host.mounted import Status, Statuses

__all__ = ["Composed", "Facts", "HeadPart", "Host", "Part", "Plan", "Status", "Statuses"]
