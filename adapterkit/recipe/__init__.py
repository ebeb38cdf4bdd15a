"""Recipes: a complete, validated description of one training run. Standard library, pydantic and PyYAML only."""

from adapterkit.recipe.columns import COLUMNS, Column
from adapterkit.recipe.data import DataSettings
from adapterkit.recipe.head import HeadSettings
from adapterkit.recipe.kinds import KINDS, Kind
from adapterkit.recipe.load import Resolved, load_recipe, recipe_schema, resolve
from adapterkit.recipe.method import MethodSettings
from adapterkit.recipe.methods import BottleneckMethod, FusionMethod, Ia3Method, LoraMethod, NoMethod
from adapterkit.recipe.schema import BackboneSettings, Recipe
from adapterkit.recipe.shipped import ShippedRecipe, shipped_recipes
from adapterkit.recipe.task import TaskSettings
from adapterkit.recipe.training import NEAREST, ObjectiveSettings, StartFrom, TrainingSettings

__all__ = [
    "COLUMNS", "KINDS", "NEAREST", "BackboneSettings", "BottleneckMethod", "Column", "DataSettings", "FusionMethod",
    "HeadSettings", "Ia3Method", "Kind", "LoraMethod", "MethodSettings", "NoMethod", "ObjectiveSettings", "Recipe",
    "Resolved", "ShippedRecipe", "StartFrom", "TaskSettings", "TrainingSettings", "load_recipe", "recipe_schema",
    "resolve", "shipped_recipes",
]  # fmt: skip
