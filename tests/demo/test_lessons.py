"""The demo on a tiny backbone: it trains, saves and shows; how well it learns is not looked at here."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from rich.console import Console

from adapterkit.artifact import verify
from adapterkit.demo import __main__ as command
from adapterkit.demo import lessons as demo
from adapterkit.errors import BackboneError
from adapterkit.recipe import load_recipe


@pytest.fixture(scope="module")
def shown(fresh_backbone: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, str]:
    text = StringIO()
    backbone = fresh_backbone("bert")
    folder = tmp_path_factory.mktemp("demo")
    quick = ("training.max_steps=2", "data.limit=120")
    console = Console(file=text, width=160)
    return backbone, demo.run(folder, backbone, quick, console), text.getvalue()


def test_the_demo_leaves_two_artifacts_that_verify(shown: tuple[Any, Any, str]) -> None:
    backbone, trained, _ = shown
    assert [one.lesson.name for one in trained] == ["intent", "slots"]
    assert all(verify(one.artifact, backbone) for one in trained)


def test_the_demos_artifacts_do_not_know_where_they_were_made(shown: tuple[Any, Any, str]) -> None:
    for one in shown[1]:
        manifest = json.loads((one.artifact / "adapterkit.json").read_text())
        assert manifest["data"]["source"] == f"{one.lesson.data}/train.jsonl"
        assert str(one.artifact.parent) not in json.dumps(
            {**manifest, "backbone": None, "recipe": manifest["recipe"]["data"]}
        )


def test_the_demo_shows_scores_sizes_and_both_answers_to_one_sentence(shown: tuple[Any, Any, str]) -> None:
    _, trained, text = shown
    for one in trained:
        assert f"{one.score:.1%}" in text
        assert f"{one.head_only:.1%}" in text
        assert f"{one.size_bytes / 1000:,.0f} kB" in text
        assert str(one.artifact.name) in text
    assert text.count(demo.SENTENCE) == 1
    assert "  intent: " in text
    assert "  slots: " in text


def test_the_size_is_that_of_the_artifacts_files(shown: tuple[Any, Any, str]) -> None:
    for one in shown[1]:
        files = json.loads((one.artifact / "adapterkit.json").read_text())["files"]
        assert one.size_bytes == sum((one.artifact / name).stat().st_size for name in files)


@pytest.mark.parametrize("lesson", demo.LESSONS, ids=lambda lesson: lesson.name)
@pytest.mark.parametrize("method", [demo.LORA, demo.HEAD_ONLY], ids=["lora", "head only"])
def test_the_demos_recipes_are_valid(lesson: demo.Lesson, method: dict[str, Any], tmp_path: Path) -> None:
    class Named:
        name = "a-backbone"

    recipe = load_recipe(demo.recipe(lesson, method, Named(), tmp_path, tmp_path / "out"))  # type: ignore[arg-type]
    assert recipe.method.kind == method["kind"]
    assert recipe.task.kind == lesson.task["kind"]


def test_a_demo_without_its_backbone_ends_with_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "run", Mock(side_effect=BackboneError("no such backbone", remedy="install it")))
    monkeypatch.setattr("sys.argv", ["demo"])
    assert command.main() == 1
    assert capsys.readouterr().err == "BackboneError: no such backbone\ninstall it\n"


def test_a_demo_that_is_stopped_ends_as_shells_expect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "run", Mock(side_effect=KeyboardInterrupt))
    monkeypatch.setattr("sys.argv", ["demo"])
    assert command.main() == 128 + signal.SIGINT


def test_the_demo_writes_where_its_argument_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = Mock()
    monkeypatch.setattr(demo, "run", run)
    monkeypatch.setattr("sys.argv", ["demo", str(tmp_path)])
    assert command.main() == 0
    run.assert_called_once_with(tmp_path)
