"""What a composition's file may hold, as pydantic sees it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from adapterkit.recipe.settings import Many, Settings, refuse

Text = Annotated[str, Field(min_length=1)]
Sources = dict[Text, Text] | Many[Text]
"""Name in the composition -> folder, hub id or mounted name. A list: the names are what is looked for."""


class Block(Settings):
    """What all compositions have in common."""

    head: Text | None = None
    """The member whose head answers. null: the first member's, in a stack the last one's."""
    heads: Many[Text] | None = None
    """Several members whose heads answer, instead of head; an answer then is {member: answer}."""


class WeightedBlock(Block):
    """Σ w·ΔW of LoRA adapters as one LoRA."""

    members: Sources
    """Name in the composition → folder, hub id or mounted name; or a list of these."""
    weights: dict[Text, float]
    """Member → weight. Negative: subtract what it learned."""
    how: Literal["exact", "svd", "ties", "dare", "magnitude"] = "exact"
    """exact: nothing is lost, the ranks add up. svd: the nearest update of a rank. ties, dare, magnitude: entries are
    left out first."""
    rank: int | None = None
    """Rank of an approximation. Higher: closer, larger. null: the highest of the members'."""
    density: float | None = None
    """Share of the entries that ties, dare and magnitude keep. Lower: less interference, less of each member."""
    seed: int | None = None
    """Which entries dare drops. null: 0."""


class AverageBlock(Block):
    """The mean of the parameters of adapters that are built alike."""

    members: Sources
    """Name in the composition → folder, hub id or mounted name; or a list of these."""
    weights: dict[Text, float] | None = None
    """Member → weight, of which the share counts. null: all alike."""


class StackBlock(Block):
    """Adapters one on top of the other, the lowest first."""

    members: dict[Text, Text | CompositionBlock] | Many[Text]
    """Name in the composition → folder, hub id, mounted name, or another one; or a list of names. The order counts."""


class CompositionBlock(Settings):
    """One composition: exactly one of its blocks is there."""

    weighted: WeightedBlock | None = None
    """Σ w·ΔW of LoRA adapters, exactly or approximated at a rank."""
    average: AverageBlock | None = None
    """The mean of the parameters of adapters that are built alike."""
    stack: StackBlock | None = None
    """Adapters one on top of the other."""

    @model_validator(mode="after")
    def _one(self) -> CompositionBlock:
        given = [name for name in BLOCKS if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none"
            refuse([("", f"{found}, expected exactly one of {', '.join(BLOCKS)}")])
        return self


BLOCKS: dict[str, type[Block]] = {"weighted": WeightedBlock, "average": AverageBlock, "stack": StackBlock}


def composition_schema() -> dict[str, Any]:
    """JSON Schema of a composition's file, for editors: every field with its type, default and what it does."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **CompositionBlock.model_json_schema(),
        "title": "adapterkit composition",
    }
