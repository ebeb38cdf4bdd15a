"""Artifacts: adapters on disk. docs/artifact-format.md is the specification."""

from adapterkit.artifact.atomic import check_output
from adapterkit.artifact.convert.peft import import_peft
from adapterkit.artifact.convert.transformers import export
from adapterkit.artifact.hub import Published, pull, push
from adapterkit.artifact.load import Artifact, load, open_artifact, read_parts
from adapterkit.artifact.manifest import CompositionFacts, DataFacts, Manifest
from adapterkit.artifact.save import KEPT, round_weights, save
from adapterkit.artifact.verify import Check, Report, verify

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
