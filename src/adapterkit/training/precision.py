"""Which number format a run loads its backbone in, and which it computes in."""

from __future__ import annotations

import torch

from adapterkit.backbone import Backbone
from adapterkit.errors import DeviceError, RecipeError
from adapterkit.recipe import Recipe

FORMATS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def backbone_dtype(recipe: Recipe) -> str:
    """The dtype to load the backbone in: the recipe's, else the one that its precision computes in.

    Raises:
        RecipeError: a backbone in a narrower format than the precision asks for.
    """
    dtype, precision = recipe.backbone.dtype, recipe.training.precision
    if precision == "auto":
        return dtype
    if dtype == "auto":
        return FORMATS[precision]
    if dtype not in ("float32", FORMATS[precision]):
        raise RecipeError(
            "backbone.dtype and training.precision contradict each other",
            [f"backbone.dtype: found {dtype}, expected float32 or {FORMATS[precision]} with precision {precision}"],
            "Leave one of the two at auto.",
        )
    return dtype


def compute_dtype(recipe: Recipe, backbone: Backbone) -> torch.dtype:
    """The format of the run's matrix products.

    Raises:
        DeviceError: fp16 on a CPU, which multiplies it slowly and loses small gradients.
        RecipeError: a backbone that is loaded in another narrow format than the precision asks for.
    """
    precision = recipe.training.precision
    wanted = backbone.dtype if precision == "auto" else getattr(torch, FORMATS[precision])
    if wanted == torch.float16 and backbone.device.type == "cpu":
        raise DeviceError("fp16 does not train on a CPU", remedy="Use training.precision=bf16 or fp32.")
    if backbone.dtype not in (torch.float32, wanted):
        raise RecipeError(
            "the backbone's format and the recipe's precision contradict each other",
            [f"training.precision: found {precision}, the backbone is loaded in {backbone.dtype}"],
            "Load the backbone in float32, or leave training.precision at auto.",
        )
    return wanted
