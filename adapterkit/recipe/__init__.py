"""Recipes: a complete, validated description of one training run. Standard library, pydantic and PyYAML only."""

from adapterkit.recipe.columns import COLUMNS as COLUMNS
from adapterkit.recipe.columns import Column as Column
from adapterkit.recipe.data import DataSettings as DataSettings
from adapterkit.recipe.head import HeadSettings as HeadSettings
from adapterkit.recipe.kinds import KINDS as KINDS
from adapterkit.recipe.kinds import Kind as Kind
from adapterkit.recipe.load import Resolved as Resolved
from adapterkit.recipe.load import load_recipe as load_recipe
from adapterkit.recipe.load import recipe_schema as recipe_schema
from adapterkit.recipe.load import resolve as resolve
from adapterkit.recipe.method import MethodSettings as MethodSettings
from adapterkit.recipe.methods import BottleneckMethod as BottleneckMethod
from adapterkit.recipe.methods import FusionMethod as FusionMethod
from adapterkit.recipe.methods import Ia3Method as Ia3Method
from adapterkit.recipe.methods import LoraMethod as LoraMethod
from adapterkit.recipe.methods import NoMethod as NoMethod
from adapterkit.recipe.objective import ObjectiveSettings as ObjectiveSettings
from adapterkit.recipe.schema import BackboneSettings as BackboneSettings
from adapterkit.recipe.schema import Recipe as Recipe
from adapterkit.recipe.shipped import ShippedRecipe as ShippedRecipe
from adapterkit.recipe.shipped import shipped_recipes as shipped_recipes
from adapterkit.recipe.task import TaskSettings as TaskSettings
from adapterkit.recipe.training import NEAREST as NEAREST
from adapterkit.recipe.training import StartFrom as StartFrom
from adapterkit.recipe.training import TrainingSettings as TrainingSettings
