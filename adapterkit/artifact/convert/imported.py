"""What every import ends with: tensors on an adapter that was built on the backbone, checked, and saved."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from adapterkit.adapted import PREFIX, build
from adapterkit.artifact.contents import check_state, without_effect
from adapterkit.artifact.saving import SaveDtype, save
from adapterkit.backbone import Backbone
from adapterkit.errors import ArtifactError
from adapterkit.manifest import DataFacts
from adapterkit.methods.fusion.part import Part
from adapterkit.recipe import HeadSettings, MethodSettings
from adapterkit.tasks.protocol import Task

logger = logging.getLogger(__name__)

SEED = 0
"""Of modules that are overwritten by the imported tensors at once."""


def save_imported(
    out: str | Path,
    src: Path,
    origin: str,
    backbone: Backbone,
    task: Task,
    method: MethodSettings,
    head: HeadSettings,
    tensors: Mapping[str, Tensor],
    *,
    rows: Sequence[Mapping[str, Any]] = (),
    parts: Sequence[Part] = (),
    overwrite: bool = False,
    dtype: SaveDtype | None = None,
) -> Path:
    """Build the adapter, give it the tensors, and write the artifact.

    Args:
        src: what was read, for messages and the manifest.
        origin: whose format it had.
        tensors: by their names in an artifact; exactly those that the adapter has.
        rows: to take the golden rows from; without them a few sentences of ours.
        parts: of a fusion.
        dtype: of the saved tensors. None keeps theirs, so that not one bit changes.

    Raises:
        ArtifactError: other tensors than the adapter has, or it changes nothing.
        OutputError: `out` is in the way or cannot be written.
    """
    adapted = build(backbone, task, method, head, SEED, parts=parts)
    try:
        expected = {name: tuple(tensor.shape) for name, tensor in adapted.state().items()}
        check_state({name: tuple(tensor.shape) for name, tensor in tensors.items()}, expected)
        heads = {PREFIX + path for path in adapted.headed.trained}
        if (reason := without_effect(method, heads, tensors)) and not heads:
            raise ArtifactError(f"{src} cannot be imported", [f"it changes nothing: {reason}"], "Train it first.")
        if reason:
            logger.warning("the head of %s alone answers, since its method changes nothing: %s", src, reason)
        adapted.load_state(tensors)
        return save(
            out,
            adapted,
            recipe={},
            data=DataFacts(source=f"imported from {origin}: {src.name}"),
            metrics={},
            seed=SEED,
            golden=list(rows) or task.sample_rows(task.labels, task.problem),
            overwrite=overwrite,
            dtype=dtype or _dtype(tensors),
        )
    finally:
        adapted.detach()


def _dtype(tensors: Mapping[str, Tensor]) -> SaveDtype:
    words = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}
    if words == {"bfloat16"}:
        return "bfloat16"
    return "float16" if words == {"float16"} else "float32"
