"""The rows of every step: the same for every number of processes, and for a run that was stopped and resumed."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from adapterkit.data import RowStream, as_rows, group_by_length
from adapterkit.data.problems import unusable_note
from adapterkit.errors import DataError, RecipeError
from adapterkit.recipe import TrainingSettings
from adapterkit.tasks.protocol import Feature, Task, Vocabulary
from adapterkit.training.standing import Position

STREAM_WINDOW_ROWS = 4096
"""Rows of a stream that are encoded at once, so that batches of similar length can be made of them."""


class Batches(Protocol):
    """Global batches of features, epoch by epoch."""

    total_steps: int
    steps_per_epoch: int | None

    def after(self, position: Position) -> Iterator[tuple[Position, Sequence[Feature]]]:
        """Every batch from `position` on, with the position after it, without end."""

    def line_numbers(self, features: Sequence[Feature]) -> list[int]:
        """Where in the training data the rows of a batch stand."""


class HeldBatches:
    """Batches of features that are held in memory."""

    def __init__(self, features: Sequence[Feature], lines: Sequence[int], settings: TrainingSettings) -> None:
        """The batches of features whose rows stand at `lines`. Raises DataError where there is no feature."""
        if not features:
            raise _nothing_to_learn(f"{len(lines)} training rows")
        self._features, self._lines = features, lines
        self._lengths = [feature.length_tokens for feature in features]
        self._settings = settings
        self.steps_per_epoch: int | None = len(self._of_epoch(0))
        wanted = math.ceil(settings.epochs * self.steps_per_epoch)
        self.total_steps = max(1, wanted if settings.max_steps is None else min(wanted, settings.max_steps))

    def _of_epoch(self, epoch: int) -> list[list[int]]:
        return _grouped(self._lengths, self._settings, epoch)

    def after(self, position: Position) -> Iterator[tuple[Position, Sequence[Feature]]]:
        """Every batch from `position` on; see `Batches`. With a token budget epochs may differ by a few batches."""
        epoch, start = position.epoch, position.batch
        while True:
            batches = self._of_epoch(epoch)
            for number in range(start, len(batches)):
                yield Position(epoch, number + 1), [self._features[index] for index in batches[number]]
            epoch, start = epoch + 1, 0

    def line_numbers(self, features: Sequence[Feature]) -> list[int]:
        """Where in the training data the rows of a batch stand."""
        return sorted({self._lines[feature.row] for feature in features})


class StreamedBatches:
    """Batches of rows that are read as they are needed; `training.max_steps` says when to end."""

    steps_per_epoch: int | None = None

    def __init__(
        self,
        stream: RowStream,
        task: Task,
        vocabulary: Vocabulary,
        settings: TrainingSettings,
        warn: Callable[[str], None] = lambda note: None,
    ) -> None:
        """Read batches from a stream. `warn`: told, in the first epoch, of rows that cannot be used and of text that is
        cut. Raises RecipeError: nothing says when to end."""
        if settings.max_steps is None:
            raise RecipeError(
                "a streamed data set does not say how many rows it has",
                ["training.max_steps: found null, expected a number of steps with data.streaming=true"],
            )
        self.total_steps = settings.max_steps
        self._stream, self._task, self._vocabulary, self._settings = stream, task, vocabulary, settings
        self._warn = warn
        self._lines: Sequence[int] = ()

    def after(self, position: Position) -> Iterator[tuple[Position, Sequence[Feature]]]:
        """Every batch from `position` on; see `Batches`. Rows before it are read again and dropped."""
        epoch, done = position.epoch, position.batch
        while True:
            number = 0
            for number, batch in enumerate(self._epoch(epoch), start=1):
                if number > done:
                    yield Position(epoch, number), batch
            if number == 0:
                raise _nothing_to_learn(self._stream.source)
            epoch, done = epoch + 1, 0

    def _epoch(self, epoch: int) -> Iterator[Sequence[Feature]]:
        settings, task = self._settings, self._task
        for window, rows in enumerate(self._stream.shuffled(settings.seed, epoch).chunks(STREAM_WINDOW_ROWS)):
            usable, problems = task.check_rows(rows, "train")
            self._lines = as_rows(usable).numbers
            encoded = task.encode(usable, self._vocabulary, "train")
            if epoch == 0 and problems:
                self._warn(unusable_note("train", rows, problems))
            for note in encoded.notes if epoch == 0 else ():
                self._warn(f"train: {note}")
            lengths = [feature.length_tokens for feature in encoded.features]
            for chosen in _grouped(lengths, settings, epoch, window):
                yield [encoded.features[index] for index in chosen]

    def line_numbers(self, features: Sequence[Feature]) -> list[int]:
        """Where in the training data the rows of a batch of the window at hand stand."""
        return sorted({self._lines[feature.row] for feature in features})


def _grouped(lengths: Sequence[int], settings: TrainingSettings, epoch: int, window: int = 0) -> list[list[int]]:
    size, tokens = None if settings.batch_tokens else settings.batch_size, settings.batch_tokens
    return group_by_length(lengths, batch_size=size, batch_tokens=tokens, seed=settings.seed + window, epoch=epoch)


def _nothing_to_learn(source: str) -> DataError:
    return DataError(
        f"there is nothing to learn from {source}",
        ["found: no example after encoding, expected at least one"],
        "Texts may be empty, or too short for one block.",
    )
