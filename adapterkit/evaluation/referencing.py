"""Keep what rows look like to an adapter, in a new version of it, so that a service can say when they drift."""

import base64
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from adapterkit.artifact import check_output, save_version
from adapterkit.errors import DataError
from adapterkit.evaluation.outcome import SEED, HowAnswered, ask
from adapterkit.host import Host
from adapterkit.metrics.drift import projected
from adapterkit.recipe.columns import input_text

MOST_ROWS = 384
"""With 64 numbers of two bytes each they are 64 kB of base64."""
FEWEST_ROWS = 16


def reference(
    artifact: str | Path, data: Any, output: str | Path, *, overwrite: bool = False, **how: Unpack[HowAnswered]
) -> int:
    """Keep the pooled states of up to 384 rows, drawn by chance, in a new version of an artifact.

    They are means over tokens of the last hidden states with the adapter, projected to 64 numbers: at most 64 kB. No
    text can be read from them, yet they are made of one: keep rows that may be kept.

    Args:
        artifact: its folder, which stays as it is.
        data: rows as they should be, such as those that were trained on; and `evaluate`'s other arguments.
        output: where the new version shall stand.

    Returns:
        How many rows it keeps.

    Raises:
        DataError: fewer than 16 rows that say something.
        ArtifactError, ContractError, BackboneError: the artifact or its backbone cannot be used.
        OutputError: something stands at `output`.
    """
    check_output(Path(output), overwrite=overwrite)
    question = ask(artifact, data, **how)
    opened = question.artifact
    texts = [text for row in question.rows if (text := input_text(row, opened.manifest.kind))]
    if len(texts) < FEWEST_ROWS:
        raise DataError("these rows cannot be a reference", [f"{len(texts)} rows, expected {FEWEST_ROWS} at least"])
    order = np.random.default_rng(SEED).permutation(len(texts))[:MOST_ROWS]
    with Host(question.backbone) as host:
        host.mount("reference", opened)
        states = host.features([texts[place] for place in order], "reference")
    kept_NW = projected([state.float().mean(dim=0).tolist() for state in states]).astype("<f2")
    packed = base64.b64encode(kept_NW.tobytes()).decode()
    facts = {"rows": len(kept_NW), "width": kept_NW.shape[1], "packed": packed}
    save_version(output, opened.folder, {"reference": facts}, overwrite=overwrite)
    return len(kept_NW)
