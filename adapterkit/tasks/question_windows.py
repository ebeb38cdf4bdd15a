"""Question and context as overlapping windows, with the characters that every context token stands for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapterkit.tasks.checked_rows import Cuts
from adapterkit.tasks.values import IGNORED, Encoded, Feature, Row, Vocabulary

Gold = list[tuple[str, int | None]]


def encode_windows(
    rows: Sequence[Row], golds: Sequence[Gold | None], vocabulary: Vocabulary, limit: int, overlap: int
) -> Encoded:
    """Windows of at most `limit` tokens, in row order. A question that leaves the context less than half is cut.

    Every feature has `extras`: "offsets", the character span of each context token (None elsewhere), and "null", the
    token that stands for no answer. Its labels are the first and last token of the first right gold answer that the
    window holds whole, else the null token twice; IGNORED where the row has answers and none is at its offset.

    Args:
        golds: per row its answers, [] for no answer, None for a row without labels.
        overlap: tokens that neighbouring windows share; at most half of the room that the question leaves.
    """
    tokenizer = vocabulary.tokenizer
    special = int(tokenizer.num_special_tokens_to_add(pair=True))
    cuts = Cuts(rows)
    questions, rooms = _questions([row["question"] for row in rows], tokenizer, limit, special, cuts)
    features: list[Feature] = []
    spans: dict[int, list[int]] = {}
    for index, room in enumerate(rooms):
        spans.setdefault(min(overlap, room // 2), []).append(index)
    found: dict[int, list[dict[str, Any]]] = {}
    for shared, chosen in spans.items():
        for index, window in _call(rows, questions, chosen, tokenizer, limit, shared):
            found.setdefault(index, []).append(window)
    for index in range(len(rows)):
        for window in found[index]:
            offsets = window.pop("offsets")
            null = _null_token(window["input_ids"], offsets, tokenizer)
            labels = _labels(golds[index], rows[index]["context"], offsets, null)
            extras = {"offsets": offsets, "null": null}
            features.append(Feature(index, len(features), window, labels, len(window["input_ids"]), extras))
    return cuts.encoded(features)


def _questions(
    questions: Sequence[str], tokenizer: Any, limit: int, special: int, cuts: Cuts
) -> tuple[list[str], list[int]]:
    """The questions, cut to half of what special tokens leave, and the room that each leaves to its context."""
    if not questions:
        return [], []
    # White space at the ends of questions costs tokens and says nothing (SQuAD has some).
    texts = [question.strip() for question in questions]
    batch = tokenizer(texts, add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False)
    most = max(1, (limit - special) // 2)
    rooms = []
    for index, offsets in enumerate(batch["offset_mapping"]):
        kept = len(offsets)
        if kept > most:
            cuts.add(index, kept - most)
            texts[index], kept = texts[index][: offsets[most - 1][1]], most
        rooms.append(max(1, limit - special - kept))
    return texts, rooms


def _call(
    rows: Sequence[Row], questions: Sequence[str], chosen: Sequence[int], tokenizer: Any, limit: int, overlap: int
) -> list[tuple[int, dict[str, Any]]]:
    batch = tokenizer(
        [questions[index] for index in chosen],
        [rows[index]["context"] for index in chosen],
        truncation="only_second",
        max_length=limit,
        stride=overlap,
        padding=False,
        return_attention_mask=True,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        verbose=False,
    )
    owners, mapping = batch.pop("overflow_to_sample_mapping"), batch.pop("offset_mapping")
    windows = []
    for place, owner in enumerate(owners):
        window: dict[str, Any] = {name: list(values[place]) for name, values in batch.items()}
        context = rows[chosen[owner]]["context"]
        window["offsets"] = [
            _visible(context, int(span[0]), int(span[1])) if part == 1 else None
            for span, part in zip(mapping[place], batch.sequence_ids(place), strict=True)
        ]
        windows.append((chosen[owner], window))
    return windows


def _visible(context: str, start: int, stop: int) -> tuple[int, int] | None:
    """A token's characters without the white space around them, which byte-level tokenizers count in."""
    piece = context[start:stop]
    start += len(piece) - len(piece.lstrip())
    stop = start + len(piece.strip())
    return (start, stop) if stop > start else None


def _null_token(ids: Sequence[int], offsets: Sequence[tuple[int, int] | None], tokenizer: Any) -> int:
    """The class token; without one the end token (T5); without that the first token, which no answer can be.

    The first token of a decoder has read nothing, so there "no answer" means that no span's score is high.
    """
    if tokenizer.cls_token_id is not None and tokenizer.cls_token_id in ids:
        return list(ids).index(tokenizer.cls_token_id)
    return len(ids) - 1 if offsets[-1] is None else 0


def _labels(
    gold: Gold | None, context: str, offsets: Sequence[tuple[int, int] | None], null: int
) -> tuple[int, int] | None:
    if gold is None:
        return None
    if not gold:
        return null, null
    right = [
        span
        for text, start in gold
        if start is not None
        and context[start : start + len(text)] == text
        and (span := _visible(context, start, start + len(text))) is not None
    ]
    if not right:
        return IGNORED, IGNORED
    for start, stop in right:
        covering = [
            place for place, span in enumerate(offsets) if span is not None and span[0] < stop and span[1] > start
        ]
        if covering and offsets[covering[0]][0] <= start and offsets[covering[-1]][1] >= stop:  # type: ignore[index]
            return covering[0], covering[-1]
    return null, null
