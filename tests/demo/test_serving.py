"""The demo of a fleet on a tiny backbone: a real service in a process of its own, steered over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from adapterkit.demo import serving as demo
from adapterkit.registry import Registry


def test_the_demo_promotes_refuses_what_is_broken_and_rolls_back(
    fresh_backbone: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = StringIO()
    monkeypatch.setattr(demo, "ROWS", 6)
    quick = ("training.max_steps=2", "data.limit=120")
    demo.run(tmp_path, fresh_backbone("bert"), quick, Console(file=text, width=400))
    said = text.getvalue()
    assert "refused: intent" in said
    assert "golden rows: intent@" in said
    assert said.count("the service: ") == 1
    with Registry(f"sqlite:///{tmp_path}/registry.db") as registry:
        assert [move.version.number for move in registry.history("intent")] == [1, 2, 3, 2]
        assert registry.history("intent")[2].forced == "it is Friday"
        assert registry.shares("intent") == {"stable": 0.5, "candidate": 0.5}
        assert registry.audit()
    assert "Nothing in it was changed: yes" in said
