"""The host: one backbone in memory that answers with many mounted adapters, each row with its own."""

from adapterkit.compose.mountable import Composition, HeadState, MethodState, Mountable, Origin
from adapterkit.host.bank.mounted import Status, Statuses
from adapterkit.host.host import Host
from adapterkit.host.opening import open_host

__all__ = ["Composition", "HeadState", "Host", "MethodState", "Mountable", "Origin", "Status", "Statuses", "open_host"]
