"""Artifacts: adapters on disk. docs/artifact-format.md is the specification."""

from typing import TYPE_CHECKING

from adapterkit.artifact.hub import Published as Published
from adapterkit.artifact.loading import load as load
from adapterkit.artifact.loading import open_artifact as open_artifact
from adapterkit.artifact.loading import read_parts as read_parts
from adapterkit.artifact.reading import Artifact as Artifact
from adapterkit.artifact.saving import round_weights as round_weights
from adapterkit.artifact.saving import save as save
from adapterkit.artifact.saving import save_version as save_version
from adapterkit.artifact.sharing import pull as pull
from adapterkit.artifact.sharing import push as push
from adapterkit.artifact.verification import Check as Check
from adapterkit.artifact.verification import Report as Report
from adapterkit.artifact.verification import verify as verify
from adapterkit.artifact.verification import verify_all as verify_all
from adapterkit.lazy import lazily
from adapterkit.manifest import KEPT as KEPT
from adapterkit.manifest import CompositionFacts as CompositionFacts
from adapterkit.manifest import DataFacts as DataFacts
from adapterkit.manifest import Manifest as Manifest
from adapterkit.manifest import check_output as check_output

if TYPE_CHECKING:
    from adapterkit.artifact.convert.adapterhub.importing import import_adapterhub as import_adapterhub
    from adapterkit.artifact.convert.exporting import export as export
    from adapterkit.artifact.convert.peft import import_peft as import_peft
    from adapterkit.artifact.convert.sentence.importing import (
        import_sentence_transformers as import_sentence_transformers,
    )


__getattr__, __dir__ = lazily(
    __name__,
    {
        "export": "adapterkit.artifact.convert.exporting",
        "import_adapterhub": "adapterkit.artifact.convert.adapterhub.importing",
        "import_peft": "adapterkit.artifact.convert.peft",
        "import_sentence_transformers": "adapterkit.artifact.convert.sentence.importing",
    },
)
