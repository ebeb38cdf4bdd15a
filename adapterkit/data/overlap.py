"""Rows that training and test share: a score on them says little."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from adapterkit.data.problems import listing
from adapterkit.data.rows import Row, Rows, canonical


@dataclass(frozen=True)
class Overlap:
    """Test rows that also stand in training.

    Attributes:
        pairs: (number of the test row, numbers of the training rows equal to it), in test order.
        test_rows: how many test rows there are.
        train_source, test_source: where both came from.
    """

    pairs: tuple[tuple[int, tuple[int, ...]], ...]
    test_rows: int
    train_source: str
    test_source: str

    @property
    def count(self) -> int:
        """Test rows that training has too."""
        return len(self.pairs)

    @property
    def test_numbers(self) -> tuple[int, ...]:
        return tuple(number for number, _ in self.pairs)

    @property
    def train_numbers(self) -> tuple[int, ...]:
        return tuple(sorted({number for _, numbers in self.pairs for number in numbers}))

    def __bool__(self) -> bool:
        return bool(self.pairs)

    def __str__(self) -> str:
        if not self.pairs:
            return f"no row of {self.test_source} stands in {self.train_source}"
        return (
            f"{self.count:,} of {self.test_rows:,} rows of {self.test_source} also stand in {self.train_source}: "
            f"{listing(self.test_numbers)} (there {listing(self.train_numbers)})"
        )


def find_overlap(train: Rows, test: Rows, columns: Sequence[str] | None = None) -> Overlap:
    """The test rows whose content also stands in training, whatever its case, spacing or Unicode form.
    `columns`: what is compared; name the inputs only, so that a row with another label counts too. None compares
    every column that both have."""
    compared = columns if columns is not None else [name for name in test.columns if name in set(train.columns)]
    if not compared:
        return Overlap((), len(test), train.source, test.source)
    known: dict[str, list[int]] = defaultdict(list)
    for key, number in zip(_keys(train, compared), train.numbers, strict=True):
        known[key].append(number)
    pairs = tuple(
        (number, tuple(known[key]))
        for key, number in zip(_keys(test, compared), test.numbers, strict=True)
        if key in known
    )
    return Overlap(pairs, len(test), train.source, test.source)


@dataclass(frozen=True)
class Repeats:
    """Rows of one source whose inputs are equal, whatever their case, spacing or Unicode form.
    `equal`: rows beyond the first of each group of equal inputs. `conflicts`: numbers of the rows of each group
    whose targets differ."""

    equal: int
    conflicts: tuple[tuple[int, ...], ...]


def find_repeats(rows: Rows, inputs: Sequence[str], targets: Sequence[str]) -> Repeats:
    """Rows that say the same, and those of them that are answered differently.
    `inputs`: the columns in which rows say the same. `targets`: the columns in which they are answered differently."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, key in enumerate(_keys(rows, inputs)):
        groups[key].append(index)
    repeated = [group for group in groups.values() if len(group) > 1]
    conflicts = [
        tuple(rows.numbers[index] for index in group)
        for group in repeated
        if len({canonical([rows[index].get(name) for name in targets]) for index in group}) > 1
    ]
    return Repeats(sum(len(group) - 1 for group in repeated), tuple(conflicts) if targets else ())


def _keys(rows: Iterable[Row], columns: Sequence[str]) -> Iterable[str]:
    return (canonical([_normal(row.get(name)) for name in columns]) for row in rows)


def _normal(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(unicodedata.normalize("NFKC", value).casefold().split())
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if isinstance(value, dict):
        return {name: _normal(item) for name, item in value.items()}
    return value
