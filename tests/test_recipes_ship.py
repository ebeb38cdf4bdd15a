"""Every recipe in recipes/ is valid, introduces itself, and comes with LoRA and with a bottleneck."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterkit.recipe import KINDS, Recipe, load_recipe, shipped_recipes

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
FILES = sorted(FOLDER.glob("*.yaml"))
SETS = (
    "banking77",
    "commonsenseqa",
    "e2e_small",
    "scan_simple",
    "squad_small",
    "tinyshakespeare",
    "ud_ewt_upos",
    "wikitext2",
    "wnut17",
)


def test_every_file_was_collected() -> None:
    assert [file.name for file in FILES] == sorted(f"{name}{end}.yaml" for name in SETS for end in ("", "-bottleneck"))
    assert sorted(path.name for path in FOLDER.iterdir() if path.is_file()) == [file.name for file in FILES]


def test_the_command_line_offers_the_same_files() -> None:
    shipped = {name: path.read_bytes() for name, path, _ in shipped_recipes()}
    assert shipped == {file.stem: file.read_bytes() for file in FILES}


def test_every_kind_has_a_recipe() -> None:
    assert {load_recipe(file).task.kind for file in FILES} == set(KINDS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_recipe_is_valid_and_survives_being_written_out(file: Path) -> None:
    recipe = load_recipe(file)
    assert isinstance(recipe, Recipe)
    assert load_recipe(recipe.to_dict()) == recipe


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_recipe_introduces_itself_with_its_own_command(file: Path) -> None:
    title, command, *_ = file.read_text(encoding="utf-8").splitlines()
    assert title.startswith("# ")
    assert command.startswith(f"# adapterkit train recipes/{file.name}")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_shipped_recipe_names_no_absolute_path_and_an_output_of_its_own(file: Path) -> None:
    recipe = load_recipe(file)
    paths = [recipe.data.train, recipe.data.validation, recipe.data.test, recipe.data.root, recipe.output]
    assert [path for path in paths if isinstance(path, str) and Path(path).is_absolute()] == []
    assert recipe.output == f"runs/{file.stem}"


@pytest.mark.parametrize("name", SETS)
def test_the_two_recipes_of_a_set_differ_in_the_method_only_where_it_matters(name: str) -> None:
    lora, bottleneck = (load_recipe(FOLDER / f"{name}{end}.yaml") for end in ("", "-bottleneck"))
    assert (lora.method.kind, bottleneck.method.kind) == ("lora", "bottleneck")
    assert (lora.task, lora.backbone, lora.head, lora.data) == (
        bottleneck.task,
        bottleneck.backbone,
        bottleneck.head,
        bottleneck.data,
    )
