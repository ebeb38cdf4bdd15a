"""Number formats that a recipe asks for: of the frozen weights, and of what is computed with them."""

from adapterkit.errors import RecipeError
from adapterkit.recipe.schema import Recipe

FORMATS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""`training.precision` -> the format that it computes in."""

QUANTISED = ("int8", "nf4")
"""What to load a backbone's weights as, besides torch's number formats."""


def backbone_dtypes(recipe: Recipe) -> tuple[str, str]:
    """The dtype and the compute dtype to load the backbone with: the recipe's, else what its precision computes in.

    Raises RecipeError: a backbone in a narrower format than the precision asks for.
    """
    dtype, precision = recipe.backbone.dtype, recipe.training.precision
    if precision == "auto":
        return dtype, "auto"
    if dtype in QUANTISED:
        return dtype, FORMATS[precision]
    if dtype == "auto":
        return FORMATS[precision], "auto"
    if dtype not in ("float32", FORMATS[precision]):
        raise RecipeError(
            "backbone.dtype and training.precision contradict each other",
            [f"backbone.dtype: found {dtype}, expected float32 or {FORMATS[precision]} with precision {precision}"],
            "Leave one of the two at auto.",
        )
    return dtype, "auto"
