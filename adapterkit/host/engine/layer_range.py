"""Some layers of a view of the trunk, so that a batch may change between two layers.

Axes: B rows, T tokens, D hidden width.
"""

from typing import Any

from torch import Tensor, nn

from adapterkit.backbone.cut import above, below, entering


class LayerRange:
    """Layers `low` to `high` of a model, with what lies below the lowest or above the highest of them.

    It shares its layers with the model, and so whatever a view was given to do in them. It runs one forward at a
    time, as the view itself.
    """

    def __init__(self, model: nn.Module, low: int, high: int | None) -> None:
        """`model`: a trunk, or the encoder of one. `low`: the first layer; 0 begins with the embeddings. `high`: the
        layer before which it ends; None for all that follows, with the final norm and the pooler."""
        self._entered = above(model, low) if low else None
        opened = model if self._entered is None else self._entered
        self._run = opened if high is None else below(opened, high)

    def __call__(self, states_BTD: Tensor | None, **inputs: Any) -> Any:
        """The states that enter layer `high`, (B, T, D), or the model's own output.
        `states_BTD`: what enters layer `low`; None where that is 0. `inputs`: as the whole model takes them."""
        if self._entered is None or states_BTD is None:
            return self._run(**inputs)
        with entering(self._entered, states_BTD):
            return self._run(**inputs)
