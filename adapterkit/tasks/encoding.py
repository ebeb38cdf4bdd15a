"""Texts to token ids within a length limit, windows over longer ones, and features to padded tensors."""

# Axes: B rows, T tokens.

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adapterkit.errors import BackboneError, RecipeError
from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks.long_texts import CHARACTERS_AT_ONCE, beginning, ids_in_pieces, in_groups, same_numbers
from adapterkit.tasks.values import DEFAULT_MAX_TOKENS, Vocabulary

Tokens = dict[str, list[int]]
"""Model inputs of one sequence, each (T,)."""


def longest(settings: TaskSettings, vocabulary: Vocabulary, wanted: int | None = None, name: str = "max_tokens") -> int:
    """The most tokens of one sequence: `wanted` or the recipe's max_tokens, else the backbone's limit, else 512.
    Raises RecipeError: more than the backbone takes."""
    wanted = settings.max_tokens if wanted is None else wanted
    limit = vocabulary.max_tokens
    if wanted is not None and limit is not None and wanted > limit:
        told = [f"task.{name}: found {wanted}, expected at most {limit}"]
        raise RecipeError(
            f"the backbone takes at most {limit} tokens", told, f"Set task.{name}={limit}, or leave it out."
        )
    return wanted or limit or DEFAULT_MAX_TOKENS


def needs_fast(vocabulary: Vocabulary, kind: str, reason: str) -> None:
    """Raise BackboneError for a tokenizer that cannot say which characters a token stands for."""
    if not vocabulary.tokenizer.is_fast:
        told = [f"tokenizer: found {type(vocabulary.tokenizer).__name__}, which gives no character offsets; {reason}"]
        raise BackboneError(f"{kind} needs a fast tokenizer", told, "Use a checkpoint that has a tokenizer.json.")


def encode_texts(
    vocabulary: Vocabulary, texts: Sequence[str], pairs: Sequence[str | None] | None, limit: int
) -> list[tuple[Tokens, int]]:
    """Every text (with its pair) as tokens with special ones, and the number of tokens cut away to fit `limit`.

    A text without any token becomes one padding token that the model may see, so that every row has an answer. What is
    cut from a very long text is estimated.
    """
    pairs = [None] * len(texts) if pairs is None else pairs
    done: list[tuple[Tokens, int]] = [({}, 0)] * len(texts)
    sizes = [len(text) + len(pair or "") for text, pair in zip(texts, pairs, strict=True)]
    known: dict[int, int] = {}
    for paired in (False, True):
        chosen = [index for index, pair in enumerate(pairs) if (pair is not None) == paired]
        for group in in_groups(chosen, sizes):
            first, behind = _beginnings(vocabulary, [texts[index] for index in group], limit)
            second, behind_second = _beginnings(vocabulary, [pairs[index] or "" for index in group], limit)
            whole = _call(vocabulary, first, second if paired else None, None)
            long = [place for place, tokens in enumerate(whole) if len(tokens["input_ids"]) > limit]
            cut = _call(vocabulary, [first[at] for at in long], [second[at] for at in long] if paired else None, limit)
            shorter = dict(zip(long, cut, strict=True))
            for place, index in enumerate(group):
                tokens = shorter.get(place, whole[place])
                lost = len(whole[place]["input_ids"]) - len(tokens["input_ids"])
                kept = {name: same_numbers(values, known) for name, values in tokens.items()}
                done[index] = (kept, lost + behind[place] + behind_second[place])
    return [(tokens if tokens["input_ids"] else surrounded(vocabulary, [], [], []), lost) for tokens, lost in done]


def _beginnings(vocabulary: Vocabulary, texts: Sequence[str], limit: int) -> tuple[list[str], list[int]]:
    """What of each text is read for `limit` tokens, and about how many tokens stand behind it."""
    begun = [beginning(vocabulary, text, limit) for text in texts]
    return [text for text, _ in begun], [behind for _, behind in begun]


def _call(vocabulary: Vocabulary, texts: Sequence[str], pairs: Sequence[str] | None, limit: int | None) -> list[Tokens]:
    if not texts:
        return []
    cut: dict[str, Any] = {"truncation": False} if limit is None else {"truncation": True, "max_length": limit}
    batch = vocabulary.read(
        list(texts), None if pairs is None else list(pairs), padding=False, return_attention_mask=True, **cut
    )
    return [{name: list(values[place]) for name, values in batch.items()} for place in range(len(texts))]


def bare_ids(vocabulary: Vocabulary, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of every text without special tokens, uncut."""
    sizes = list(map(len, texts))
    found: list[list[int]] = []
    known: dict[int, int] = {}
    for group in in_groups(range(len(texts)), sizes):
        if len(group) == 1 and sizes[group[0]] > CHARACTERS_AT_ONCE:
            found.append(ids_in_pieces(vocabulary, texts[group[0]]))
            continue
        batch = vocabulary.bare([texts[index] for index in group])
        found += [same_numbers(ids, known) for ids in batch["input_ids"]]
    return found


def first_tokens(rows: Sequence[Sequence[str]], vocabulary: Vocabulary) -> list[tuple[list[int], dict[int, int]]]:
    """Per row, its token ids and word -> its first token. Words are joined by a space, as in running text.

    A token belongs to the word of its first character that is not the space between two words.
    """
    texts = [" ".join(words) for words in rows]
    found = []
    for group in in_groups(range(len(texts)), list(map(len, texts))):
        batch = vocabulary.bare([texts[index] for index in group], offsets=True)
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


def surroundings(vocabulary: Vocabulary) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and after one sequence."""
    whole = list(vocabulary.read("a", truncation=False)["input_ids"])
    (bare,) = bare_ids(vocabulary, ["a"])
    for start in range(len(whole) - len(bare) + 1):
        if bare and whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    return [], []


def surrounded(vocabulary: Vocabulary, ids: Sequence[int], before: Sequence[int], after: Sequence[int]) -> Tokens:
    """Model inputs of one sequence that is given as ids; of none at all a padding token that the model may see."""
    whole = [*before, *ids, *after] or [vocabulary.pad_id]
    tokens = {"input_ids": whole, "attention_mask": [1] * len(whole)}
    if "token_type_ids" in vocabulary.tokenizer.model_input_names:
        tokens["token_type_ids"] = [0] * len(whole)
    return tokens


def pad(sequences: Sequence[Sequence[int]], value: int, multiple: int = 1, *, left: bool = False) -> Tensor:
    """(B, T) int64, padded with `value` on the right (or left) to the longest, rounded up."""
    if len(sequences) == 1 and len(sequences[0]) % multiple == 0:
        return torch.tensor([list(sequences[0])], dtype=torch.int64)
    lengths_B1 = np.fromiter(map(len, sequences), np.int64, len(sequences))[:, None]
    longest_tokens = -(-int(lengths_B1.max(initial=0)) // multiple) * multiple
    place_T = np.arange(longest_tokens)
    there_BT = place_T >= longest_tokens - lengths_B1 if left else place_T < lengths_B1
    padded_BT = np.full(there_BT.shape, value, np.int64)
    padded_BT[there_BT] = np.fromiter(chain.from_iterable(sequences), np.int64, int(lengths_B1.sum()))
    return torch.from_numpy(padded_BT)


def pad_inputs(
    inputs: Sequence[Tokens], vocabulary: Vocabulary, multiple: int = 1, *, left: bool = False
) -> dict[str, Tensor]:
    """Model inputs of a batch, each (B, T)."""
    return {
        name: pad(
            [tokens[name] for tokens in inputs], vocabulary.pad_id if name == "input_ids" else 0, multiple, left=left
        )
        for name in inputs[0]
    }


class Window(NamedTuple):
    """Items [start, stop) are read; items [fresh, stop) are not in any earlier window, so they are counted here."""

    start: int
    stop: int
    fresh: int


def windows_over(count: int, size: int, overlap: int) -> list[Window]:
    """Windows of at most `size` items that cover 0..count, neighbours sharing `overlap` items. Every item is fresh in
    exactly one window. The last window reaches back to be full, so that its fresh items have as much context as the
    others'.

    Raises ValueError: size below 1, or an overlap that leaves no progress.
    """
    if size < 1 or not 0 <= overlap < size:
        raise ValueError(f"windows of {size} items cannot overlap by {overlap}")
    if count <= size:
        return [Window(0, count, 0)]
    found = [Window(0, size, 0)]
    while found[-1].stop < count:
        fresh = found[-1].stop
        stop = min(count, fresh + size - overlap)
        found.append(Window(stop - size, stop, fresh))
    return found


def blocks(count: int, size: int) -> list[Window]:
    """Windows without overlap; the last may be short."""
    return [Window(start, min(count, start + size), start) for start in range(0, max(count, 1), size)]


def middle_owner(found: list[Window], count: int) -> list[int]:
    """For every item, the window in which it is furthest from an edge: the one with most context on both sides."""
    owner = [0] * count
    best = [-1] * count
    for place, window in enumerate(found):
        for item in range(window.start, window.stop):
            left = item - window.start if window.start else count
            right = window.stop - 1 - item if window.stop < count else count
            context = min(left, right)
            if context > best[item]:
                owner[item], best[item] = place, context
    return owner
