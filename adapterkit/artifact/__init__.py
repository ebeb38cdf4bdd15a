"""Artifacts: adapters on disk. docs/artifact-format.md is the specification."""

from typing import TYPE_CHECKING

from adapterkit.artifact.hub import Published, pull, push
from adapterkit.artifact.loading import Artifact, load, open_artifact, read_parts
from adapterkit.artifact.saving import round_weights, save
from adapterkit.artifact.verification import Check, Report, verify
from adapterkit.lazy import lazily
from adapterkit.manifest import KEPT, CompositionFacts, DataFacts, Manifest, check_output

if TYPE_CHECKING:
    from adapterkit.artifact.convert.peft import import_peft as import_peft
    from adapterkit.artifact.convert.transformers import export as export

__all__ = [
    "KEPT",
    "Artifact",
    "Check",
    "CompositionFacts",
    "DataFacts",
    "Manifest",
    "Published",
    "Report",
    "check_output",
    "export",
    "import_peft",
    "load",
    "open_artifact",
    "pull",
    "push",
    "read_parts",
    "round_weights",
    "save",
    "verify",
]

__getattr__, __dir__ = lazily(
    __name__,
    {"export": "adapterkit.artifact.convert.transformers", "import_peft": "adapterkit.artifact.convert.peft"},
)
