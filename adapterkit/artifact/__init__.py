"""Artifacts: adapters on disk. docs/artifact-format.md is the specification."""

from typing import TYPE_CHECKING

from adapterkit.artifact.hub import Published
from adapterkit.artifact.loading import load, open_artifact, read_parts
from adapterkit.artifact.reading import Artifact
from adapterkit.artifact.saving import round_weights, save, save_version
from adapterkit.artifact.sharing import pull, push
from adapterkit.artifact.verification import Check, Report, verify, verify_all
from adapterkit.lazy import lazily
from adapterkit.manifest import KEPT, CompositionFacts, DataFacts, Manifest, check_output

if TYPE_CHECKING:
    from adapterkit.artifact.convert.adapterhub.importing import import_adapterhub
    from adapterkit.artifact.convert.exporting import export
    from adapterkit.artifact.convert.peft import import_peft
    from adapterkit.artifact.convert.sentence.importing import (
        import_sentence_transformers as import_sentence_transformers,
    )

__all__ = [
    "KEPT", "Artifact", "Check", "CompositionFacts", "DataFacts", "Manifest", "Published", "Report", "check_output",
    "export", "import_adapterhub", "import_peft", "import_sentence_transformers", "load", "open_artifact", "pull",
    "push", "read_parts", "round_weights", "save", "save_version", "verify", "verify_all",
]  # fmt: skip


__getattr__, __dir__ = lazily(
    __name__,
    {
        "export": "adapterkit.artifact.convert.exporting",
        "import_adapterhub": "adapterkit.artifact.convert.adapterhub.importing",
        "import_peft": "adapterkit.artifact.convert.peft",
        "import_sentence_transformers": "adapterkit.artifact.convert.sentence.importing",
    },
)
