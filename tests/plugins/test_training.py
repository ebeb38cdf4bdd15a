"""A recipe with a method and a head of other packages trains; stopped and resumed it gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.test_resume import stop_after  # noqa: F401 - a fixture
from tests.training.worlds import bytes_of, recipe, train


@pytest.mark.usefixtures("toys")
def test_a_run_that_was_stopped_goes_on_as_if_it_never_was(
    tiny_backbones: Any,
    tmp_path: Path,
    stop_after: Callable[[int], None],  # noqa: F811
) -> None:
    backbone = tiny_backbones["bert"]
    blocks = {"method": {"kind": "scale"}, "head": {"kind": "gated", "pooling": "mean"}, "training": {"epochs": 2}}
    plan = recipe(tmp_path, backbone, **blocks)
    whole = train({**plan, "output": str(tmp_path / "whole")}, backbone=backbone)
    stop_after(3)
    with pytest.raises(KeyboardInterrupt):
        train(plan, backbone=backbone)
    assert bytes_of(train(plan, backbone=backbone, resume=True).artifact) == bytes_of(whole.artifact)
