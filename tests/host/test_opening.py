"""A host from names and sources."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from adapterkit.artifact import open_artifact
from adapterkit.errors import ArtifactError, DataError
from adapterkit.host import Host, open_host
from tests.host.artifacts import Recipe
from tests.host.conftest import FolderOf

TEXT = Recipe("text-classification", "lora")
OTHER = Recipe("text-classification", "lora", seed=9)


def test_plans_are_mounted_after_the_names_that_they_are_made_of(
    tiny_backbones: Mapping[str, Any], folder_of: FolderOf, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("weighted: {members: [a, b], weights: {a: 0.5, b: 0.5}}\n", encoding="utf-8")
    sources = {"plan": plan, "a": folder_of("bert", TEXT), "b": open_artifact(folder_of("bert", OTHER))}
    with open_host(sources, tiny_backbones["bert"], slots=2) as host:
        assert host.slots == 2
        assert [status.name for status in host.status()] == ["a", "b", "plan"]
        assert host.backbone is tiny_backbones["bert"]


def test_the_first_artifact_names_the_backbone(folder_of: FolderOf, tiny_folders: Mapping[str, Path]) -> None:
    with open_host({"a": folder_of("bert", TEXT)}, dtype="float32") as host:
        assert host.backbone.name == str(tiny_folders["bert"])
    with open_host({"a": folder_of("bert", TEXT)}, tiny_folders["bert"]) as host:
        assert "a" in host


def test_a_plan_alone_names_no_backbone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not name a backbone"):
        open_host({"plan": tmp_path / "plan.yaml"})


def test_a_host_that_cannot_be_filled_is_closed(
    tiny_backbones: Mapping[str, Any], folder_of: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Host] = []
    monkeypatch.setattr(Host, "close", lambda host: closed.append(host))
    with pytest.raises(ArtifactError):
        open_host({"a": folder_of("bert", TEXT), "b": tmp_path / "none"}, tiny_backbones["bert"])
    assert len(closed) == 1
