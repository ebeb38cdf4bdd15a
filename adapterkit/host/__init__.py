"""The host: one backbone in memory that answers with many mounted adapters, each row with its own."""

from adapterkit.compose.mountable import Composed, Facts, HeadPart, Part, Plan
from adapterkit.host.bank.mounted import Status, Statuses
from adapterkit.host.host import Host

__all__ = ["Composed", "Facts", "HeadPart", "Host", "Part", "Plan", "Status", "Statuses"]
