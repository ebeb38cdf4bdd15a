"""Whose rows are whose in a batch that several adapters share: each has its lane, one behind the other."""

from collections.abc import Sequence

from torch import Tensor


class NoLanesError(ValueError):
    """Adapters, or batches of theirs, that cannot share a batch; the text says why."""


class Lanes:
    """The lanes of the batch at hand: the adapters that have one, by number; rows of the padded batch in each; and
    places of the packed batch (1, P, …) in each, None where nothing is packed."""

    def __init__(self) -> None:
        self.members: Sequence[int] = ()
        self.rows: Sequence[int] = ()
        self.places: Sequence[int] | None = None

    def set(self, members: Sequence[int], rows: Sequence[int]) -> None:
        """A batch begins."""
        self.members, self.rows, self.places = tuple(members), tuple(rows), None

    def sizes(self, x: Tensor) -> tuple[int, Sequence[int]]:
        """The axis along which a tensor of the model has its lanes, and how wide they are.
        Raises NoLanesError: it has none."""
        if self.places is not None and x.ndim > 1 and len(x) == 1 and x.shape[1] == sum(self.places):
            return 1, self.places
        if len(x) == sum(self.rows):
            return 0, self.rows
        raise NoLanesError(f"a tensor of shape {tuple(x.shape)} has no lanes of {list(self.rows)} rows")
