"""What rows ask of a representation: the vectors that are looked at, each with a class."""

# Axes: N items, B rows of a batch, K choices, T tokens.

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from adapterkit.data import Rows, as_rows, named_rows, read_rows, rows_of
from adapterkit.data.problems import unusable_note
from adapterkit.errors import DataError, HeadError
from adapterkit.metrics.representations import LEAST_ITEMS, Labels
from adapterkit.recipe import COLUMNS
from adapterkit.recipe.kinds import FACTS
from adapterkit.recipe.reading import reading_settings
from adapterkit.recipe.task import TaskSettings
from adapterkit.survey.guessing import guess
from adapterkit.survey.seen import look_at
from adapterkit.tasks.protocol import Feature, Task, Vocabulary
from adapterkit.tasks.table import TASKS
from adapterkit.tasks.values import IGNORED

if TYPE_CHECKING:
    from accelerate import Accelerator

TARGETS = ("regression", "multi-label")
"""Problems whose rows have numbers instead of a class; of several labels a 0 or 1 for each."""

MOST_OF_ONE_TAG = 0.5
"""Share of the words that one tag may have: most words of a text are no entity, and would hide those that are."""


POOLINGS = ("auto", "mean", "first", "last")
Tell = Callable[[str, int, int], None]
"""Is told what is going on, how much more of it is done, and how much there is."""


@dataclass(frozen=True)
class Looking:
    """How representations are looked at, wherever they are.

    Attributes:
        kind: of task that the rows are for; None tells by their columns.
        columns: canonical name -> the column of the data.
        reading: how a file is read, by the fields of a recipe's data: {"encoding": "cp1252", "delimiter": ";"}.
        data_root: where relative paths are looked for first.
        rows: how many are drawn, at most; of words, the items.
        seed: of everything that is drawn.
        pooling: how a row becomes one vector; "auto" takes the backbone's.
        cache: whether states and measures are kept on the disk, and read from there.
        tell: is told of the progress.
        accelerator: the processes that look at a share each, all of which call this; None for this one alone.
    """

    kind: str | None = None
    columns: Mapping[str, str] | None = None
    reading: Mapping[str, Any] | None = None
    data_root: str | Path | None = None
    rows: int = 2000
    seed: int = 0
    pooling: str = "auto"
    cache: bool = True
    tell: Tell = lambda what, done, total: None
    accelerator: Accelerator | None = None

    def told(self, what: str, total: int, done: int) -> None:
        """Tell of the progress."""
        self.tell(what, done, total)

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise HeadError(
                f"rows cannot be pooled by {self.pooling!r} before anything was trained",
                [f"expected: {', '.join(POOLINGS)}"],
            )
        if self.rows < 1:
            raise DataError("no rows are left to look at", [f"rows: found {self.rows}, expected 1 or more"])


@dataclass(frozen=True, eq=False)
class ProbedRows:
    """The rows that are looked at, with the task that was prepared on them, how many could not be used, the digest of
    all usable ones, those that were not drawn too, and what a user should know of them."""

    task: Task
    rows: Rows
    unusable: int
    digest: str
    notes: tuple[str, ...]


class ProbedItem(NamedTuple):
    """One vector of a row: the row, and which choice or word of it; its feature, the row of the feature's inputs, and
    its token there, -1 where the whole row is pooled; its class; and its numbers, a 0 or 1 for each of several labels,
    or what a text is rated."""

    row: int
    part: int
    feature: int
    choice: int
    token: int
    label: int
    targets: tuple[float, ...] = ()


def ask(data: Any, how: Looking) -> ProbedRows:
    """Read rows, tell what they are for, and draw as many as are wanted at most.

    Raises DataError: the rows cannot be read or used, or have no classes to look for.
    """
    if isinstance(data, str | Path):
        read = read_rows(str(data), reading_settings(how.reading or {}), root=how.data_root, needs={})
    else:
        read = rows_of(data)
    asked = dict(how.columns or {})
    found = guess(look_at(read), how.kind, asked, "")
    named = named_rows(read, {**found.columns, **asked}, needs=COLUMNS[found.kind])
    settings = TaskSettings(kind=found.kind)
    task = TASKS[found.kind].prepare(settings, named)
    if not (_is_choice(task) or task.labels or task.problem in TARGETS):
        why = "a span has no class, so attribute says what a head alone reads of it"
        if FACTS[task.kind].borrows_head:
            why = "every token is an answer, so evaluate says what the checkpoint knows of them: its loss"
        raise DataError(
            f"{read.source} has no classes or numbers to look for in a representation",
            [f"found {found.kind}, by {found.why}: {why}"],
            "Use rows with labels or numbers, with tagged words, or with choices of which one is right.",
        )
    checked = task.check_rows(named, "score")
    usable = as_rows(checked.rows)
    notes = [*read.reading.notes]
    if checked.problems:
        notes.append(unusable_note(named.source, named, checked.problems))
    drawn = usable.sample(how.rows, how.seed)
    if len(drawn) < len(usable):
        notes.append(f"{len(drawn):,} of {len(usable):,} rows, drawn with seed {how.seed}")
    return ProbedRows(task, drawn, len(checked.problems), usable.digest(), tuple(notes))


def _is_choice(task: Task) -> bool:
    """Whether each row has several items, of which one is right."""
    return FACTS[task.kind].pooled and not task.labels and not task.problem


def items_of(asked: ProbedRows, vocabulary: Vocabulary) -> tuple[list[Feature], dict[tuple[int, int], ProbedItem]]:
    """The features of the rows for one vocabulary, and (row, part) -> item.
    Raises DataError: labels that cannot be read, or answers that are no classes."""
    encoded = asked.task.encode(asked.rows, vocabulary, "score")
    items: dict[tuple[int, int], ProbedItem] = {}
    for place, feature in enumerate(encoded.features):
        for item in _items(asked.task, place, feature):
            items[item.row, item.part] = item
    return encoded.features, items


def _items(task: Task, place: int, feature: Feature) -> list[ProbedItem]:
    if not FACTS[task.kind].pooled:
        words = zip(feature.extras.get("words", ()), feature.extras.get("at", ()), strict=True)
        marked = [(word, token, feature.labels[token]) for word, token in words]
        return [ProbedItem(feature.row, word, place, 0, token, mark) for word, token, mark in marked if mark != IGNORED]
    inner = feature.inputs["input_ids"]
    if inner and isinstance(inner[0], list):
        return [ProbedItem(feature.row, k, place, k, -1, int(k == feature.labels)) for k in range(len(inner))]
    if task.problem in TARGETS:
        return [ProbedItem(feature.row, 0, place, 0, -1, 0, tuple(map(float, feature.labels)))]
    return [ProbedItem(feature.row, 0, place, 0, -1, int(feature.labels))]


@dataclass(frozen=True, eq=False)
class Drawn:
    """The items that are looked at, the same for every representation: (row, part) of each, their classes as places in
    `names`, and their rows. Names are of the classes that occur, or of the targets that differ, which are labels or
    numbers. `targets` (N, C), where items have these and no class, have mean 0 and variance 1 each. In a choice, of
    each row's items one is right."""

    keys: list[tuple[int, int]]
    labels: Labels
    groups: NDArray[np.int64]
    is_choice: bool
    names: tuple[str, ...]
    notes: tuple[str, ...]
    targets: NDArray[np.float64] | None = None
    is_labels: bool = True

    @property
    def says(self) -> str:
        """What a probe's share is of."""
        return "is right in {}" if self.targets is None else "explains {} of the variance"

    @property
    def counts(self) -> dict[str, int]:
        """Class, or label of several -> how many items have it; {} where they have numbers."""
        if self.targets is None:
            return dict(zip(self.names, np.bincount(self.labels).tolist(), strict=True))
        if not self.is_labels:
            return {}
        return dict(zip(self.names, (self.targets > 0).sum(axis=0).tolist(), strict=True))

    def only(self, items: NDArray[np.int64]) -> Self:
        """The same of some items, with the classes that they have."""
        there, labels_N = np.unique(self.labels[items], return_inverse=True)
        names = self.names if self.targets is not None else tuple(self.names[place] for place in there)
        targets = None if self.targets is None else self.targets[items]
        keys = [self.keys[place] for place in items]
        return replace(self, keys=keys, labels=labels_N, groups=self.groups[items], names=names, targets=targets)


def draw(asked: ProbedRows, found: Sequence[Mapping[tuple[int, int], ProbedItem]], count: int, seed: int) -> Drawn:
    """Choose the items to look at, of those that every vocabulary leaves in its rows.
    `found`: the items of each vocabulary. `count`: of items, at most, in whole rows where these are choices. `seed`: of
    the draw. Raises DataError: fewer than two classes are left, or no number that differs."""
    shared = sorted(set(found[0]).intersection(*found[1:]))
    labels = {key: found[0][key].label for key in shared}
    is_choice = _is_choice(asked.task)
    is_word = not FACTS[asked.task.kind].pooled
    kept = shared
    notes = []
    if is_word:
        kept = _thinned(shared, labels, count, seed)
        if len(kept) < len(shared):
            notes.append(
                f"{len(kept):,} of {len(shared):,} words, no tag more than half of them, drawn with seed {seed}"
            )
    labels_N = np.asarray([labels[key] for key in kept], dtype=np.int64)
    names = ("wrong", "right") if is_choice else asked.task.labels
    targets = None
    if asked.task.problem in TARGETS:
        targets = np.asarray([found[0][key].targets for key in kept], dtype=np.float64).reshape(len(kept), -1)
        spread = np.minimum(np.ptp(targets, axis=0), targets.std(axis=0)) if len(kept) else np.zeros(targets.shape[1])
        names = names or tuple(f"number {place + 1}" for place in range(targets.shape[1]))
        names = tuple(name for name, one in zip(names, spread, strict=True) if one > 0)
        targets = targets[:, spread > 0]  # the smallest numbers differ, and their squares are 0
        targets = (targets - targets.mean(axis=0)) / targets.std(axis=0)
    problems = []
    if len(kept) < LEAST_ITEMS:
        problems.append(f"items: found {len(kept)}, expected {LEAST_ITEMS} or more")
    if targets is not None and not names:
        problems.append("numbers: all rows have the same")
    if targets is None and len(np.unique(labels_N)) < 2:
        problems.append(f"classes: found {len(np.unique(labels_N))}, expected 2 or more")
    if problems:
        remedy = "Name rows of two classes or more, or draw more of them."
        raise DataError(f"the rows of {asked.rows.source} cannot be probed", problems, remedy)
    groups_N = np.asarray([row for row, _ in kept], dtype=np.int64)
    if targets is not None:
        return Drawn(kept, labels_N, groups_N, is_choice, names, tuple(notes), targets, bool(asked.task.labels))
    # Classes are numbered as they occur here: some of the task's may not.
    there, labels_N = np.unique(labels_N, return_inverse=True)
    return Drawn(kept, labels_N, groups_N, is_choice, tuple(names[place] for place in there), tuple(notes))


def _thinned(
    keys: list[tuple[int, int]], labels: Mapping[tuple[int, int], int], count: int, seed: int
) -> list[tuple[int, int]]:
    """Keys in their order, at most `count` of them; the most frequent class gives way first."""
    chance = np.random.default_rng(seed)
    most = Counter(labels.values()).most_common(1)[0][0] if keys else 0
    frequent = [key for key in keys if labels[key] == most]
    others = [key for key in keys if labels[key] != most]
    room = max(1, round(count * (1 - MOST_OF_ONE_TAG)))
    if len(others) > room:
        others = [others[place] for place in chance.choice(len(others), room, replace=False)]
    room = max(1, min(count - len(others), len(others) or count))
    if len(frequent) > room:
        frequent = [frequent[place] for place in chance.choice(len(frequent), room, replace=False)]
    return sorted(frequent + others)
