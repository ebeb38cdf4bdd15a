"""The rows of one call, by the head that answers them: read, encoded, and turned into answers in row order."""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adapterkit.data import Rows
from adapterkit.errors import AdapterkitError, BadRowError, MountError, NotMountedError
from adapterkit.host.bank.mounted import Mounted, MountedHead
from adapterkit.host.bank.residency import Bank, Loaded
from adapterkit.recipe.suggestions import nearest
from adapterkit.tasks.asked import Errors, check_errors, encode_each, in_place, refuse
from adapterkit.tasks.finite import no_numbers
from adapterkit.tasks.protocol import Batch, Feature, GeneratingTask, Vocabulary

TASK = "task"
"""The column in which a row by itself names its adapter."""


@dataclass(eq=False)
class HeadRows:
    """The rows that one head of one mounted adapter answers in one call: the version that was mounted when it began,
    the head and its name, where each row stands in the call, the rows in the task's columns, what the backbone reads of
    them, and per feature what the task makes of its logits, or the generated text."""

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

    def answers(self) -> list[dict[str, Any]]:
        """One answer per row."""
        task = self.head.task
        if isinstance(task, GeneratingTask):
            return task.answers(self.rows, self.outputs)
        return task.predictions(self.rows, self.features, self.outputs)


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, as `Host.predict` gives it, or the error in its place; and the version that answered, which was
    mounted when the call began. None where there is no answer."""

    answer: Any
    mounted: Mounted | None


class Call:
    """The rows of one call of a host: in `groups` those that can be answered, in the order in which their adapters
    first appear, of which some may turn out to have `failed`; in `bad`, by place from 0, why the others cannot be.
    Errors go in the place of their rows where the call `returns` them; otherwise they are raised."""

    def __init__(self, rows: Iterable[Any], table: Mapping[str, Mounted], errors: Errors) -> None:
        """Read the rows, as `Host.predict` takes them; each name is looked up once in the table of what is mounted.
        Raises NotMountedError, DataError, and TypeError for rows that are no pairs, where errors are raised."""
        check_errors(errors)
        self.returns = errors == "return"
        self.bad: dict[int, AdapterkitError] = {}
        self.failed: set[HeadRows] = set()
        pairs: dict[int, tuple[str, Any]] = {}
        count = 0
        for place, item in enumerate(rows):
            count += 1
            addressed = _addressed(item, table)
            if isinstance(addressed, tuple):
                pairs[place] = addressed
            elif isinstance(addressed, TypeError) and not self.returns:
                raise TypeError(f"row {count}: {addressed}")
            else:
                self.bad[place] = addressed if isinstance(addressed, AdapterkitError) else BadRowError(str(addressed))
        self.rows = count
        self.groups: list[HeadRows] = []
        by_name: dict[str, list[int]] = {}
        for place, (name, _) in pairs.items():
            by_name.setdefault(name, []).append(place)
        found = {name: mounted for name in by_name if (mounted := table.get(name)) is not None}
        unknown = [name for name in by_name if name not in found]
        if unknown and not self.returns:
            raise not_mounted(unknown, sorted(table))
        for name in unknown:
            self.refuse(dict.fromkeys(by_name[name], not_mounted([name], sorted(table))))
        for name, mounted in found.items():
            self._read(mounted, {place: pairs[place][1] for place in by_name[name]})
        if not self.returns:
            refuse(self.bad, self.rows, {place: name for place, (name, _) in pairs.items()})

    def _read(self, mounted: Mounted, given: Mapping[int, Any]) -> None:
        """Make the groups of one adapter. A row that one of its heads cannot answer is answered by none."""
        read: dict[str, dict[int, Any]] = {}
        for name, head in mounted.heads.items():
            read[name] = {place: head.asked.read(row) for place, row in given.items()}
            self.refuse({place: row for place, row in read[name].items() if isinstance(row, BadRowError)})
        kept = [place for place in given if place not in self.bad]
        for name, head in mounted.heads.items() if kept else ():
            rows = Rows((read[name][place] for place in kept), (place + 1 for place in kept))
            self.groups.append(HeadRows(mounted, name, head, kept, rows))

    def refuse(self, errors: Mapping[int, AdapterkitError]) -> None:
        """Rows that cannot be answered, by place; the first reason counts."""
        for place, error in errors.items():
            self.bad.setdefault(place, error)

    def encode(self, vocabulary: Vocabulary) -> None:
        """Give every group its features. Groups that read the same rows in the same way share them: what is read to
        predict depends on the kind of a task and on its settings, and not on what it has learned."""
        if len(self.groups) > 1:
            vocabulary = replace(vocabulary, tokenizer=RememberingTokenizer(vocabulary.tokenizer))
        errors: Errors = "return" if self.returns else "raise"
        known: dict[tuple[type, str], list[tuple[HeadRows, Any]]] = {}
        for group in self.groups:
            task = group.head.task
            alike = known.setdefault((type(task), repr(list(group.rows))), []) if len(self.groups) > 1 else []
            found = next((found for other, found in alike if other.head.task.settings == task.settings), None)
            if found is None:
                found = encode_each(task, group.rows, vocabulary, errors)
                alike.append((group, found))
            group.features, kept, stopped = found
            group.outputs = [None] * len(group.features)
            self.refuse({group.places[index]: error for index, error in stopped.items()})
            if stopped:
                group.rows, group.places = group.rows.select(kept), [group.places[index] for index in kept]
        self.groups = [group for group in self.groups if group.places]

    def lose(self, rows: Mapping[int, str]) -> None:
        """Rows whose answers are not finite: place -> whom they asked. Raises it where errors are raised."""
        if rows and not self.returns:
            raise no_numbers(sorted(rows), rows)
        self.refuse({place: no_numbers([place], rows) for place in rows})

    def fail(self, group: HeadRows, error: AdapterkitError) -> None:
        """A group has no answer to any row. Raises the error where errors are raised."""
        if not self.returns:
            raise error
        self.failed.add(group)
        self.refuse(dict.fromkeys(group.places, error))

    def reach(self, groups: Iterable[HeadRows], bank: Bank) -> dict[HeadRows, Loaded]:
        """The tensors of groups, one by one; a group fails whose adapter cannot come back from where it waits."""
        found: dict[HeadRows, Loaded] = {}
        for group in groups:
            try:
                (found[group],) = bank.take([group.mounted.seat], [0])
            except AdapterkitError as error:
                self.fail(group, error)
        return found

    def answered(self, *, texts: bool = False) -> list[Answered]:
        """Answers, or generated texts alone, and errors in the order of the rows, with whose they are; of several heads
        on one row, {head: answer}."""
        found: dict[int, Any] = {}
        whose: dict[int, Mounted] = {}
        for group in self.groups:
            several = len(group.mounted.heads) > 1 and not texts
            answers = () if group in self.failed else zip(group.places, group.answers(), strict=True)
            for place, answer in answers:
                own = answer["text"] if texts else answer
                found[place] = {**found.get(place, {}), group.name: own} if several else own
                whose[place] = group.mounted
        rows = enumerate(in_place(found, self.bad, self.rows))
        return [Answered(answer, None if place in self.bad else whose[place]) for place, answer in rows]


class RememberingTokenizer:
    """A tokenizer for the length of one call, which reads every text once, however many tasks ask for it in the same
    words. Everything else is the tokenizer's own."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._known: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: Any, text_pair: Any = None, **settings: Any) -> Any:
        """The tokenizer's answer; a copy, from which the asker may take things out."""
        key = _fixed(text), _fixed(text_pair), tuple(sorted(settings.items()))
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._tokenizer(text, text_pair, **settings)
        return copy.copy(found)


def _fixed(texts: Any) -> Any:
    return tuple(map(_fixed, texts)) if isinstance(texts, list | tuple) else texts


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


def taken(name: str) -> MountError:
    """The error for a name under which something is mounted."""
    return MountError(
        f"{name!r} is mounted already", remedy=f"Take its place with host.swap({name!r}, …), or unmount it first."
    )


def not_mounted(names: Sequence[str], mounted: Sequence[str]) -> NotMountedError:
    """The error for names that are not mounted, with the nearest of those that are."""
    problems = []
    for name in names:
        near = nearest(name, mounted) if isinstance(name, str) else None
        problems.append(f"{name!r} is not mounted" + (f"; did you mean {near!r}?" if near else ""))
    shown = ", ".join(map(repr, mounted[:20])) + (f" and {len(mounted) - 20} more" if len(mounted) > 20 else "")
    return NotMountedError(
        f"{len(names)} name{'s are' if len(names) > 1 else ' is'} not mounted on this host",
        problems,
        f"Mounted: {shown or 'nothing yet'}. Mount an adapter with host.mount(name, folder).",
    )


def _addressed(item: Any, table: Mapping[str, Mounted]) -> tuple[str, Any] | AdapterkitError | TypeError:
    """Whom a row asks, and the row; or why nobody knows."""
    if isinstance(item, AdapterkitError):
        return item
    if isinstance(item, Mapping) and item.get(TASK) is not None:
        name, row = item[TASK], {column: value for column, value in item.items() if column != TASK}
        return (
            (name, row) if isinstance(name, str) else BadRowError(f"{TASK} is {type(name).__name__}, expected a name")
        )
    if isinstance(item, str | Mapping):
        names = sorted(table)
        if len(names) == 1:
            return names[0], item
        if isinstance(item, str):
            return TypeError(f"expected (name, row), or a dict with a column {TASK}, found {type(item).__name__}")
        return BadRowError(f"no {TASK}", remedy=f"Every row names in its column {TASK} one of: {', '.join(names)}.")
    if not isinstance(item, Sequence) or len(item) != 2:
        return TypeError(f"expected (name, row), found {type(item).__name__}")
    name, row = item
    return (name, row) if isinstance(name, str) else TypeError(f"expected a name, found {type(name).__name__}")
