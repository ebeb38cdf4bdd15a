"""Methods: what is attached to a frozen backbone, as PEFT modules. Importing this makes PEFT know the bottleneck."""

from __future__ import annotations

from adapterkit.methods.attachment import Attachment, attach
from adapterkit.methods.bottleneck import BottleneckConfig, BottleneckLayer, BottleneckModel, BottleneckType

__all__ = [
    "Attachment",
    "BottleneckConfig",
    "BottleneckLayer",
    "BottleneckModel",
    "BottleneckType",
    "attach",
]
