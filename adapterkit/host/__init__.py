"""The host: one backbone in memory that answers with many mounted adapters, each row with its own."""

from adapterkit.compose.mountable import Composition, HeadState, MethodState, Mountable, Origin
from adapterkit.host.bank.mounted import Status, Statuses
from adapterkit.host.host import Host

__all__ = ["Composition", "HeadState", "Host", "MethodState", "Mountable", "Origin", "Status", "Statuses"]
