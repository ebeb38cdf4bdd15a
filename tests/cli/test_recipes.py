"""`adapterkit recipes`."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from adapterkit.cli.app import app
from adapterkit.recipe import load_recipe, shipped_recipes

runner = CliRunner()


def test_every_recipe_is_listed_with_its_headline() -> None:
    shown = runner.invoke(app, ["recipes"]).stdout
    assert len(shipped_recipes()) > 0
    for recipe in shipped_recipes():
        assert any(recipe.name in line and recipe.headline in line for line in shown.splitlines())


def test_the_list_for_machines_has_name_path_and_headline() -> None:
    listed = json.loads(runner.invoke(app, ["recipes", "--json"]).stdout)
    assert [entry["name"] for entry in listed] == [recipe.name for recipe in shipped_recipes()]
    assert all(set(entry) == {"name", "path", "headline"} for entry in listed)


def test_a_recipe_is_printed_as_it_was_written() -> None:
    first = shipped_recipes()[0]
    assert runner.invoke(app, ["recipes", first.name]).stdout == first.path.read_text(encoding="utf-8")


def test_a_recipe_for_machines_has_every_default() -> None:
    first = shipped_recipes()[0]
    shown = json.loads(runner.invoke(app, ["recipes", first.name, "--json"]).stdout)
    assert shown == load_recipe(first.path).to_dict()


def test_a_name_that_does_not_ship_is_refused() -> None:
    refused = runner.invoke(app, ["recipes", "nothing"])
    assert refused.exit_code == 1
    assert "No recipe named nothing" in refused.stderr
