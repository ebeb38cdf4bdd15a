"""Texts that are too long, or too many, to be tokenised at once.

A tokenizer holds hundreds of bytes for every token of a call, so that 100 MB of text would take 20 GB. Rows go in
groups; of a text that will be cut, the beginning is read; one that is read whole goes in pieces that overlap.
"""

from collections.abc import Iterable, Iterator, Sequence

from adapterkit.tasks.values import Vocabulary

CHARACTERS_AT_ONCE = 2**18
"""Of a group of texts, and of a piece of one."""

OVERLAP_CHARACTERS = 2**12
EQUAL_TOKENS = 16
"""So many tokens in a row that are the same in both pieces make a seam."""

SPARE_TOKENS = 256
"""Behind the last token that is kept: what stands that far behind it does not change it."""

Span = tuple[int, int, int]
"""A token: its id, its first character, the one behind its last."""


def in_groups(indices: Iterable[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """The indices in order, in groups of at most `CHARACTERS_AT_ONCE`; a larger one by itself."""
    group: list[int] = []
    held = 0
    for index in indices:
        if group and held + sizes[index] > CHARACTERS_AT_ONCE:
            yield group
            group, held = [], 0
        group.append(index)
        held += sizes[index]
    if group:
        yield group


def beginning(vocabulary: Vocabulary, text: str, tokens: int) -> tuple[str, int]:
    """The beginning of a text that decides its first `tokens`, and about how many tokens stand behind it.

    A text that is not long comes back whole.
    """
    size = max(2**16, 32 * tokens)
    while size < len(text):
        # Words are not cut where that can be helped, but some scripts have no spaces.
        stop = max(text.rfind(" ", size // 2, size), text.rfind("\n", size // 2, size))
        kept = text[: stop if stop > 0 else size]
        found = len(vocabulary.bare(kept)["input_ids"])
        if found >= tokens + SPARE_TOKENS:
            return kept, round((len(text) - len(kept)) * found / len(kept))
        size *= 4
    return text, 0


def ids_in_pieces(vocabulary: Vocabulary, text: str) -> list[int]:
    """The token ids of a text without special tokens, as if it had been tokenised at once.

    Neighbouring pieces share `OVERLAP_CHARACTERS`, and are joined where both have the same tokens at the same
    characters. Where they never agree, or the tokenizer gives no offsets, more is read at once.
    """
    size, overlap = CHARACTERS_AT_ONCE, OVERLAP_CHARACTERS
    while vocabulary.tokenizer.is_fast and size < len(text):
        joined = _joined(vocabulary, text, size, overlap)
        if joined is not None:
            return joined
        size, overlap = 4 * size, 4 * overlap
    return list(vocabulary.bare(text)["input_ids"])


def same_numbers(ids: Iterable[int], known: dict[int, int]) -> list[int]:
    """The ids as numbers that other rows hold too: a number of its own takes 28 bytes for every token."""
    return [known.setdefault(token, token) for token in ids]


def _joined(vocabulary: Vocabulary, text: str, size: int, overlap: int) -> list[int] | None:
    known: dict[int, int] = {}
    ids: list[int] = []
    tail: list[Span] = []
    start = 0
    while True:
        batch = vocabulary.bare(text[start : start + size], offsets=True)
        spans = [
            (token, start + first, start + stop)
            for token, (first, stop) in zip(batch["input_ids"], batch["offset_mapping"], strict=True)
        ]
        if start:
            seam = _seam(tail, spans, start + overlap // 2)
            if seam is None:
                return None
            kept, begun = seam
            ids += same_numbers((token for token, _, _ in tail[:kept]), known)
            spans = spans[begun:]
        if start + size >= len(text):
            return ids + same_numbers((token for token, _, _ in spans), known)
        start += size - overlap
        split = next((place for place, span in enumerate(spans) if span[1] >= start), len(spans))
        ids += same_numbers((token for token, _, _ in spans[:split]), known)
        tail = spans[split:]


def _seam(before: Sequence[Span], after: Sequence[Span], middle: int) -> tuple[int, int] | None:
    """How many tokens to keep of the one piece, and where the other goes on; None where they never agree."""
    places = {span: place for place, span in enumerate(before)}
    for begun, span in enumerate(after):
        kept = places.get(span, len(before))
        if span[1] < middle or kept + EQUAL_TOKENS > len(before):
            continue
        if list(before[kept : kept + EQUAL_TOKENS]) == list(after[begun : begun + EQUAL_TOKENS]):
            return kept, begun
    return None
