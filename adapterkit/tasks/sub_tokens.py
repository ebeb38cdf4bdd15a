"""The sub-tokens of words."""

from __future__ import annotations

from collections.abc import Sequence

from adapterkit.tasks.values import Vocabulary


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
