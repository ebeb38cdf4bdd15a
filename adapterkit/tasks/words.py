"""Words of a row: their sub-tokens, and the scheme of their tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapterkit.errors import DataError
from adapterkit.metrics import is_iob2
from adapterkit.tasks.checked_rows import listed
from adapterkit.tasks.labels import label_name
from adapterkit.tasks.values import Row, Vocabulary


def words_of(row: Row) -> list[str]:
    """The words of a row: its tokens, or its text split at white space."""
    tokens: list[str] | None = row.get("tokens")
    return str(row["text"]).split() if tokens is None else tokens


def tag_name(tag: Any, labels: Sequence[str] | None) -> str:
    """A tag's name; a number is a position in `labels` where these are not numbers themselves."""
    name = label_name(tag)
    if labels and name not in labels and name.isdecimal() and int(name) < len(labels):
        return labels[int(name)]
    return name


def find_scheme(names: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
    """IOB2 where every tag is O, B-… or I-…; flat where tags look like neither O nor B-….

    Raises:
        DataError: most tags are IOB2 and some are not, with the lines of these.
    """
    every = {tag for row in names for tag in row}
    spans = {tag for tag in every if tag != "O" and is_iob2(tag)}
    if not spans:
        return "flat"
    if "O" not in every and any(not is_iob2(tag) for tag in every):
        return "flat"
    wrong = [
        f"line {line}: tag {tag!r:.40}"
        for row, line in zip(names, numbers, strict=True)
        for tag in dict.fromkeys(row)
        if not is_iob2(tag)
    ]
    if wrong:
        raise DataError(
            "some tags are IOB2 and some are not",
            listed(wrong),
            "Expected O, B-… or I-… everywhere. Correct these, or set task.tags: flat to score every word by itself"
            " (task.tags: iob2 leaves these rows out).",
        )
    return "iob2"


def first_tokens(rows: Sequence[Sequence[str]], vocabulary: Vocabulary) -> list[tuple[list[int], dict[int, int]]]:
    """Per row, its token ids and word -> its first token. Words are joined by a space, as in running text.

    A token belongs to the word of its first character that is not the space between two words.
    """
    if not rows:
        return []
    batch = vocabulary.tokenizer(
        [" ".join(words) for words in rows],
        add_special_tokens=False,
        truncation=False,
        padding=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    found = []
    for words, ids, offsets in zip(rows, batch["input_ids"], batch["offset_mapping"], strict=True):
        word_at: list[int] = []
        for place, word in enumerate(words):
            word_at += [place] * len(word) + [-1]
        firsts: dict[int, int] = {}
        for token, (start, stop) in enumerate(offsets):
            owner = next((word_at[at] for at in range(start, stop) if word_at[at] >= 0), -1)
            if owner >= 0 and owner not in firsts:
                firsts[owner] = token
        found.append((list(ids), firsts))
    return found
