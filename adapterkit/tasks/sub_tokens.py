"""The sub-tokens of words."""

from collections.abc import Sequence

from adapterkit.tasks.long_texts import in_groups
from adapterkit.tasks.values import Vocabulary


def first_tokens(rows: Sequence[Sequence[str]], vocabulary: Vocabulary) -> list[tuple[list[int], dict[int, int]]]:
    """Per row, its token ids and word -> its first token. Words are joined by a space, as in running text.

    A token belongs to the word of its first character that is not the space between two words.
    """
    texts = [" ".join(words) for words in rows]
    found = []
    for group in in_groups(range(len(texts)), list(map(len, texts))):
        batch = vocabulary.read(
            [texts[index] for index in group],
            add_special_tokens=False,
            truncation=False,
            padding=False,
            return_offsets_mapping=True,
        )
        for index, ids, offsets in zip(group, batch["input_ids"], batch["offset_mapping"], strict=True):
            found.append((list(ids), _firsts(rows[index], offsets)))
    return found


def _firsts(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> dict[int, int]:
    word_at: list[int] = []
    for place, word in enumerate(words):
        word_at += [place] * len(word) + [-1]
    firsts: dict[int, int] = {}
    for token, (start, stop) in enumerate(offsets):
        owner = next((word_at[at] for at in range(start, stop) if word_at[at] >= 0), -1)
        if owner >= 0 and owner not in firsts:
            firsts[owner] = token
    return firsts
