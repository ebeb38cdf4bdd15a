"""The bottleneck adapter (houlsby, pfeiffer, parallel) as a PEFT tuner."""

from adapterkit.methods.bottleneck.config import BottleneckConfig, BottleneckType
from adapterkit.methods.bottleneck.layer import BottleneckLayer
from adapterkit.methods.bottleneck.model import BottleneckModel
from adapterkit.methods.bottleneck.registration import register

register()

__all__ = ["BottleneckConfig", "BottleneckLayer", "BottleneckModel", "BottleneckType"]
