"""A subject that breaks in every way that there is, for the tests of what counts them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from adapterkit.errors import ArtifactError


class Toy:
    """Attempt 1 is refused, 2 breaks a promise, 3 raises, 4 hangs, 5 takes the process with it; the others end well."""

    judged = True

    def __init__(self, folder: Path) -> None:
        """Nothing to build."""

    def attempt(self, number: int, folder: Path) -> str:
        (folder / "file").write_text("of this attempt alone")
        if number == 1:
            raise ArtifactError("refused")
        assert number != 2, "two is not one"
        if number == 3:
            raise KeyError("three")
        if number == 4:
            time.sleep(3600)
        if number == 5:
            os.abort()
        return "well"
