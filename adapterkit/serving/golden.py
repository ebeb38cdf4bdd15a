"""Whether what is mounted still answers its golden rows: asked of the host itself, as any client would."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapterkit.errors import AdapterkitError
from adapterkit.manifest import open_manifest
from adapterkit.serving.fleet import Fleet

logger = logging.getLogger(__name__)

TOLERANCE = 0.02
"""How far a number of an answer may be off, since a host may round otherwise than training did."""


def check_all(fleet: Fleet) -> None:
    """Check every task that was not checked yet, and note in the fleet what was found."""
    for task in sorted(fleet.routes):
        if task not in fleet.checked:
            found = problem_of(fleet, task)
            fleet.checked[task] = found
            if found:
                logger.error("%s does not answer its golden rows: %s", task, found)


def problem_of(fleet: Fleet, task: str) -> str:
    """What is wrong with the golden rows of a task's arms, or ""."""
    sources = {status.name: status.source for status in fleet.host.status()}
    for name, arm in fleet.routes[task].arms.items():
        folder = Path(sources.get(arm.mounted, ""))
        if not arm.digest or not (folder / "adapterkit.json").is_file():
            continue  # a composition has no golden rows
        try:
            rows = [row for row in open_manifest(folder).golden.rows if row.prediction is not None]
            found = fleet.host.predict([(arm.mounted, dict(row.row)) for row in rows])
        except AdapterkitError as error:
            return f"{name}: {error.message}"
        for number, (row, answer) in enumerate(zip(rows, found, strict=True), 1):
            if not alike(answer, row.prediction):
                return f"{name}: golden row {number} has another answer"
    return ""


def alike(found: Any, expected: Any) -> bool:
    """Whether two answers are the same but for what number formats round."""
    if isinstance(expected, Mapping):
        return (
            isinstance(found, Mapping)
            and found.keys() == expected.keys()
            and all(alike(found[name], value) for name, value in expected.items())
        )
    if isinstance(expected, list | tuple):
        same = isinstance(found, list | tuple) and len(found) == len(expected)
        return same and all(alike(one, other) for one, other in zip(found, expected, strict=True))
    if isinstance(expected, float) and isinstance(found, int | float):
        return math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(found == expected)
