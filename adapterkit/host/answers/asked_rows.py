"""The rows of one call, by the head that answers them: checked, encoded, and turned into answers in row order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adapterkit.data import Rows
from adapterkit.errors import DataError
from adapterkit.host.answers.remembering_tokenizer import RememberingTokenizer
from adapterkit.host.bank.mounted import Mounted, MountedHead
from adapterkit.tasks.protocol import Batch, Feature, GeneratingTask, Row, Vocabulary

Answer = dict[str, Any]


@dataclass(eq=False)
class HeadRows:
    """The rows that one head of one mounted adapter answers in one call.

    Attributes:
        mounted: the version that was mounted when the call began.
        name: of the head.
        head: the head.
        places: where each row stands in the call.
        rows: the rows, with the task's columns.
        features: what the backbone reads of them.
        outputs: per feature what the task makes of its logits, or the generated text.
    """

    mounted: Mounted
    name: str
    head: MountedHead
    places: list[int]
    rows: Rows
    features: list[Feature] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)

    @property
    def generates(self) -> bool:
        """Whether its answers are generated text."""
        return isinstance(self.head.task, GeneratingTask)

    def answers(self) -> list[Answer]:
        """One answer per row."""
        task = self.head.task
        if isinstance(task, GeneratingTask):
            return task.answers(self.rows, self.outputs)
        return task.predictions(self.rows, self.features, self.outputs)


def rows_by_head(rows: Sequence[tuple[Mounted, Row | str]]) -> list[HeadRows]:
    """The groups of a call, in the order in which their adapters first appear.

    Raises:
        DataError: rows that their task cannot use, all of them, by their place in the call counted from 1.
    """
    by_adapter: dict[Mounted, list[int]] = {}
    for place, (mounted, _) in enumerate(rows):
        by_adapter.setdefault(mounted, []).append(place)
    problems: list[tuple[int, str]] = []
    groups = []
    for mounted, places in by_adapter.items():
        for name, head in mounted.heads.items():
            named = [_named(rows[place][1], head) for place in places]
            for place, row in zip(places, named, strict=True):
                reason = _reason(row, head)
                if reason is not None:
                    problems.append((place, f"row {place + 1} ({mounted.name}): {reason}"))
            usable = [row for row in named if not isinstance(row, str)]
            if len(usable) == len(places):
                groups.append(HeadRows(mounted, name, head, places, Rows(usable, [place + 1 for place in places])))
    if problems:
        kinds = {mounted.name: head.task for mounted in by_adapter for head in mounted.heads.values()}
        bad = dict.fromkeys(rows[place][0].name for place, _ in problems)
        raise DataError(
            f"{len({place for place, _ in problems})} of {len(rows)} rows cannot be answered",
            [text for _, text in sorted(problems)],
            " ".join(
                f"A row of {name} has: {', '.join(n for n, c in kinds[name].columns.items() if not c.target)}."
                for name in bad
            ),
        )
    return groups


def encode(groups: Sequence[HeadRows], vocabulary: Vocabulary) -> None:
    """Give every group its features. Groups that read the same rows in the same way share them.

    What is read to predict depends on the kind of a task and on its settings, and not on what it has learned.
    """
    if len(groups) > 1:
        vocabulary = replace(vocabulary, tokenizer=RememberingTokenizer(vocabulary.tokenizer))
    known: dict[tuple[type, str], list[HeadRows]] = {}
    for group in groups:
        task = group.head.task
        alike = known.setdefault((type(task), repr(list(group.rows))), []) if len(groups) > 1 else []
        twin = next((other for other in alike if other.head.task.settings == task.settings), None)
        if twin is None:
            alike.append(group)
            group.features = task.encode(group.rows, vocabulary, "predict").features
        else:
            group.features = twin.features
        group.outputs = [None] * len(group.features)


def collate(batch: Mapping[HeadRows, Sequence[int]], vocabulary: Vocabulary) -> list[Batch]:
    """Some features of each group as tensors, all of one length. What groups share is made once."""
    longest = max(group.features[index].length_tokens for group, indices in batch.items() for index in indices)
    known: dict[tuple[int, tuple[int, ...]], Batch] = {}
    found = []
    for group, indices in batch.items():
        key = id(group.features), tuple(indices)
        if key not in known:
            chosen = [group.features[index] for index in indices]
            known[key] = group.head.task.collate(chosen, vocabulary, multiple=longest)
        found.append(known[key])
    return found


def answers_of(groups: Sequence[HeadRows], count: int) -> list[Any]:
    """The answers of all groups in the order of the call's rows; of several heads on one row, {head: answer}."""
    found: list[Any] = [None] * count
    for group in groups:
        several = len(group.mounted.heads) > 1
        for place, answer in zip(group.places, group.answers(), strict=True):
            if several:
                found[place] = {**(found[place] or {}), group.name: answer}
            else:
                found[place] = answer
    return found


def problem_of(mounted: Mounted, row: Any) -> str | None:
    """Why an adapter cannot answer a row, or None where it can."""
    reasons = (_reason(_named(row, head), head) for head in mounted.heads.values())
    return next((reason for reason in reasons if reason is not None), None)


def _reason(row: Row | str, head: MountedHead) -> str | None:
    return row if isinstance(row, str) else head.task.problem_of(row, "predict")


def _named(row: Any, head: MountedHead) -> dict[str, Any] | str:
    """The row as columns, or what is wrong with it. Plain text stands for the task's first column."""
    if isinstance(row, str):
        return {next(iter(head.task.columns)): row}
    if isinstance(row, Mapping):
        return dict(row)
    return f"found {type(row).__name__}, expected a dict with the task's columns, or text"
