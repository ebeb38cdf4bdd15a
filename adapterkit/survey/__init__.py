"""A look at files before anything trains: what they hold, what they are for, and a recipe that suits them."""

from adapterkit.survey.survey import Survey, look
from adapterkit.survey.writing import recipe_text

__all__ = ["Survey", "look", "recipe_text"]
