"""The `training.objective` block: what shapes a representation beside the task's loss."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from adapterkit.recipe.settings import Settings, refuse

CONTRASTIVE = ("supervised-contrastive", "simcse")
TEMPERATURES = {"supervised-contrastive": 0.1, "simcse": 0.05}
"""As in the papers."""
WIDTH = 128


class ObjectiveSettings(Settings):
    """What shapes the representation beside the task's loss."""

    kind: Literal["supervised-contrastive", "simcse", "near-backbone", "near-start"]
    """supervised-contrastive: rows of one label near each other (Khosla et al. 2020). simcse: each row near itself
    under another dropout, far from all others (Gao et al. 2021). near-backbone: hidden states near those of the frozen
    backbone. near-start: the method's weights near those that it began with (Li et al. 2018)."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Factor on it; that of the task's loss is 1. Higher: the representation follows the labels less."""
    alone: bool = False
    """Whether a contrastive term alone shapes the method: the task's loss then ends at the head, which learns on what
    it is given."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """Of a contrastive term. Lower: the nearest rows count more. null: 0.1, or 0.05 for simcse."""
    width: Annotated[int, Field(ge=2, le=4096)] | None = None
    """Of the vectors that a contrastive term compares, behind a projection that no artifact holds. null: 128."""
    distance: Literal["squares", "cosine"] | None = None
    """How far states are from the backbone's. squares: mean square of the differences. cosine: 1 - cosine, whatever
    their lengths. null: squares."""

    @property
    def contrasts(self) -> bool:
        """Whether rows of a batch are compared with each other."""
        return self.kind in CONTRASTIVE

    @property
    def reads_rows(self) -> bool:
        """Whether it looks at what the trunk makes of rows, and not at weights alone."""
        return self.kind != "near-start"

    @model_validator(mode="after")
    def _together(self) -> Self:
        given = {"alone": self.alone, "temperature": self.temperature is not None, "width": self.width is not None}
        problems = [
            (name, f"belongs to {' and '.join(CONTRASTIVE)}, not to {self.kind}; remove it")
            for name, is_given in given.items()
            if is_given and not self.contrasts
        ]
        if self.distance is not None and self.kind != "near-backbone":
            problems.append(("distance", f"belongs to near-backbone, not to {self.kind}; remove it"))
        refuse(problems)
        return self
