"""Write an artifact as a folder that AdapterHub loads, once it is read back with the same answers."""

import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from adapterkit.artifact.convert.adapterhub.folder import ADAPTER, FUSION, HEAD, SETUP, write_saved
from adapterkit.artifact.convert.adapterhub.importing import import_adapterhub
from adapterkit.artifact.convert.adapterhub.writing import write_fusion, write_head, write_method
from adapterkit.artifact.convert.answering import check_answers, expected_answers, plain_answer
from adapterkit.artifact.loading import load, open_artifact
from adapterkit.artifact.parts import folders_of_parts
from adapterkit.artifact.reading import Artifact
from adapterkit.backbone import Backbone
from adapterkit.errors import ExportError
from adapterkit.manifest import dump_json
from adapterkit.recipe.kinds import FACTS

CLASSES = {
    "bert": "BertAdapterModel",
    "roberta": "RobertaAdapterModel",
    "xlm-roberta": "XLMRobertaAdapterModel",
    "distilbert": "DistilBertAdapterModel",
    "gpt2": "GPT2AdapterModel",
    "t5": "T5AdapterModel",
    "bart": "BartAdapterModel",
}
"""Family -> AdapterHub's class of it, of those whose layers it names as we know them."""

VERSION = "adapters.1.3.0"
"""Whose layout is written."""

NEAR = 1e-5
"""By how much an answer may differ, as a share of the largest number of its row: only rounding is left."""


def write_adapterhub(artifact: Artifact, backbone: Backbone, stage: Path, out: Path) -> None:
    """Write a folder for AdapterHub's `load_adapter`, or `load_adapter_setup` where it is a fusion. The name of `out`
    is the adapter's.
    Raises ExportError: AdapterHub cannot say it, with every reason, or what was written answers otherwise."""
    family = str(backbone.config.model_type)
    if family not in CLASSES:
        raise ExportError(
            f"{artifact.folder} cannot be written for AdapterHub",
            [f"backbone: {family}, expected one of {', '.join(CLASSES)}"],
            "Serve it with `adapterkit serve`.",
        )
    problems: list[str] = []
    name = re.sub(r"[^A-Za-z0-9_-]", "_", out.name)
    pieces: list[tuple[tuple[str, str, str], str, Mapping[str, Any], Mapping[str, Tensor]]] = []
    parts = folders_of_parts(artifact.folder, artifact.manifest.parts, artifact.part_folders)
    for part, folder in (parts or {name: artifact.folder}).items():
        alone = open_artifact(folder) if parts else artifact
        pieces.append((ADAPTER, part, *write_method(alone, backbone, part, problems)))
    if parts:
        pieces.append((FUSION, ",".join(parts), *write_fusion(artifact, backbone, list(parts), problems)))
    if (head := write_head(artifact, backbone, name, problems)) is not None:
        pieces.append((HEAD, name, *head))
    if problems:
        raise ExportError(
            f"{artifact.folder} cannot be written for AdapterHub", problems, "Serve it with `adapterkit serve`."
        )
    about = {
        "hidden_size": backbone.hidden_size,
        "model_class": CLASSES[family],
        "model_name": artifact.manifest.backbone.name,
        "model_type": family,
        "version": VERSION,
    }
    for files, called, config, tensors in pieces:
        content = {**about, "name": called, "config": config}
        if files is FUSION:
            content["adapter_names"] = list(parts)
        write_saved(stage / called if parts else stage, files, content, tensors)
    if parts:
        single = [{"type": "single", "children": [part]} for part in parts]
        setup = {"adapter_setup": {"type": "Fuse", "children": single}, "head_setup": name if head else None}
        (stage / SETUP).write_bytes(dump_json({**setup, "version": VERSION}))
    _prove(artifact, backbone, stage)


def _prove(artifact: Artifact, backbone: Backbone, folder: Path) -> None:
    """Raises ExportError where what was written, read as AdapterHub's folders are, answers otherwise."""
    with artifact.adapted(backbone) as adapted:
        batches, expected = expected_answers(adapted, artifact, False)
    kind = artifact.task.kind
    with TemporaryDirectory() as scratch:
        again = Path(scratch) / "artifact"
        import_adapterhub(folder, again, backbone, kind=kind if FACTS[kind].borrows_head else None)
        with load(again, backbone) as adapted:
            found = [plain_answer(adapted, batch, False) for batch in batches]
    check_answers("what was written for AdapterHub answers otherwise", found, expected, NEAR)
