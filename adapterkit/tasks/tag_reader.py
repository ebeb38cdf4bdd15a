"""The words and the tags of rows, as data sets write them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adapterkit.errors import DataError
from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks import tag_notations
from adapterkit.tasks.checked_rows import is_missing, string_problem, text_problem
from adapterkit.tasks.labels import is_whole, label_name, split_cell, stands_for_none
from adapterkit.tasks.tag_notations import OUTSIDE, conversion_note, is_entity_tag, to_iob2
from adapterkit.tasks.values import Purpose, Row

SHOWN = 10

HOW_TO_LIST = "write a list, or name what separates the words of a cell: task.label_separator"
"""The two ways of giving one tag per word."""


@dataclass(frozen=True)
class TagReader:
    """Reads rows whose words are tagged, by the recipe's task section and a scheme of `TokenClassification`."""

    settings: TaskSettings
    scheme: str

    def words_of(self, row: Row) -> list[str]:
        """The words of a row: its tokens, or its text split at white space."""
        tokens: list[str] | None = self._split(row.get("tokens"))
        return str(row["text"]).split() if tokens is None else tokens

    def names_of(self, row: Row) -> list[str]:
        """The tags of a row as they are written; numbers by the names that the recipe gives them."""
        return [self._name(tag) for tag in self._split(row["tags"])]

    def read(self, row: Row) -> list[str]:
        """The tags of a row; those of entities in IOB2."""
        return to_iob2(self.names_of(row)) if self.scheme == "iob2" else self.names_of(row)

    def problem_of(self, row: Row, purpose: Purpose) -> str | None:
        """Why a row cannot be used, or None where it can."""
        tokens = self._split(row.get("tokens"))
        if tokens is None:
            problem = "no tokens" if is_missing(row.get("text")) else text_problem(row, "text")
            if problem or purpose == "predict":
                return problem
            tokens = row["text"].split()
        if not isinstance(tokens, list):
            return f"tokens is {type(tokens).__name__}, expected a list of words; {HOW_TO_LIST}"
        for place, token in enumerate(tokens):
            if problem := string_problem(token, "word"):
                return f"tokens[{place}]: {problem}"
        if purpose == "predict":
            return None
        tags = self._split(row.get("tags"))
        if is_missing(tags):
            return "no tags"
        if not isinstance(tags, list):
            return f"tags is {type(tags).__name__}, expected a list; {HOW_TO_LIST}"
        if len(tags) != len(tokens):
            return f"{len(tokens)} tokens, but {len(tags)} tags"
        if not tags:
            return "no words"
        return next((problem for tag in tags if (problem := self._tag_problem(tag))), None)

    def find_scheme(self, names: Sequence[Sequence[str]], places: Sequence[str]) -> str:
        """The recipe's scheme, or what the tags of usable rows, at these places, are written in.
        Raises DataError: tags in several ways, or numbers that nothing names."""
        if self.settings.tags != "auto":
            return self.settings.tags
        found = {tag for row in names for tag in row}
        if self.settings.labels is None and all(map(is_whole, found)):
            shown = ", ".join(sorted(found, key=int)[:SHOWN]) + (", …" if len(found) > SHOWN else "")
            raise DataError(
                "the tags are numbers without names",
                [f"tags: found {shown} in all {len(names)} training rows"],
                'Name them in the order of their numbers: task.labels: ["O", "B-PER", "I-PER", …]. Where they have no'
                " names, task.tags: flat takes the numbers for names.",
            )
        return tag_notations.find_scheme(names, places)

    def notes(self, names: Sequence[Sequence[str]], labels: Sequence[str]) -> list[str]:
        """What a user should know of how these tags were read."""
        if self.scheme == "iob2":
            return [note] if (note := conversion_note(names)) else []
        if OUTSIDE in labels and self.settings.tags == "auto":
            return ["tags are O and plain names, so that every word is scored by itself; entities need B-… and I-…"]
        return []

    def _name(self, tag: Any) -> str:
        """A tag's name; a number is a position in the names that the recipe gives, unless these are numbers."""
        name, given = label_name(tag), self.settings.labels
        if given and name not in given and name.isdecimal() and int(name) < len(given):
            return given[int(name)]
        return name

    def _split(self, value: Any) -> Any:
        separator = self.settings.label_separator
        return value if separator is None else split_cell(value, separator)

    def _tag_problem(self, tag: Any) -> str | None:
        if not isinstance(tag, str | int | float) or isinstance(tag, bool) or is_missing(tag):
            return f"tag {tag!r:.40} is not a tag"
        if isinstance(tag, float) and not tag.is_integer():
            return f"tag {tag!r:.40} is not a tag"
        if stands_for_none(tag, self.settings.labels or ()):
            return f"tag {tag!r:.40} stands for 'no label', unless task.labels names it"
        if self.scheme == "iob2" and is_whole(self._name(tag)):
            return f"tag {tag!r:.40} is a number without a name; write names, or train with task.labels"
        if self.scheme == "iob2" and not is_entity_tag(self._name(tag)):
            return f"tag {tag!r:.40} is not O, B-… or I-…"
        return None
