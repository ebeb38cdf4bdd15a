"""Sweeps train many points, and drawing a point's picture takes longer than its tiny training."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from adapterkit.training import finishing as finish


@pytest.fixture(autouse=True, scope="module")
def no_pictures_of_points() -> Iterator[None]:
    """An empty file stands where each point's picture would; the sweep's own is drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "plot_run", lambda journal, path, *_: path.touch())
        yield
