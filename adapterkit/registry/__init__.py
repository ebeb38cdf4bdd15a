"""The registry: which version of a task answers on which channel, since when, and on what evidence.

It knows manifests, names and numbers; nothing here imports torch.
"""

from adapterkit.registry.audit import AuditReport, Entry
from adapterkit.registry.gates import Evidence, Gate
from adapterkit.registry.records import Served, Version
from adapterkit.registry.registry import Registry

__all__ = ["AuditReport", "Entry", "Evidence", "Gate", "Registry", "Served", "Version"]
