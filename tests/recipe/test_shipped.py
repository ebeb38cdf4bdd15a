"""Where the shipped recipes are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterkit.recipe import shipped, shipped_recipes


def test_an_installed_package_has_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.yaml").write_text("# The headline.\n# more\ntask: {}\n", encoding="utf-8")
    (tmp_path / "deep" / "a.yml").write_text("task: {}  # no headline\n# late\n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("no recipe", encoding="utf-8")
    monkeypatch.setattr(shipped, "IN_THE_PACKAGE", tmp_path)
    assert shipped_recipes() == [
        ("b", tmp_path / "b.yaml", "The headline."),
        ("deep/a", tmp_path / "deep" / "a.yml", ""),
    ]


def test_an_installation_without_recipes_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "IN_THE_PACKAGE", tmp_path / "no")
    monkeypatch.setattr(shipped, "IN_A_CHECKOUT", tmp_path / "recipes")
    assert shipped_recipes() == []
    (tmp_path / "recipes").mkdir()
    assert shipped_recipes() == []  # a folder of that name beside site-packages is not ours


def test_a_checkout_has_them_in_its_top_folder() -> None:
    assert shipped.recipes_folder() is not None
