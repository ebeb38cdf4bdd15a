"""Question and context as overlapping windows, with the characters that every context token stands for."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from unicodedata import category

from adapterkit.tasks.checked_rows import encoded, places_of
from adapterkit.tasks.long_texts import in_groups
from adapterkit.tasks.values import IGNORED, Encoded, Feature, Row, Vocabulary

Gold = list[tuple[str, int | None]]
Offsets = Sequence[tuple[int, int] | None]
"""Of a window's tokens, the characters of the context that each stands for; None outside the context."""

NO_SPAN = (-1, -1)
IGNORED_SPAN = (IGNORED, IGNORED)
NAMED = 10


def encode_windows(
    rows: Sequence[Row], golds: Sequence[Gold | None], vocabulary: Vocabulary, limit: int, overlap: int
) -> Encoded:
    """Windows of at most `limit` tokens, in row order. A question that leaves the context less than half is cut.

    Every feature has `extras`: "offsets", the character span of each context token (None elsewhere), and "null", the
    token that stands for no answer. Its labels are the first and last token of the first right gold answer that the
    window holds whole, else the null token twice; IGNORED where the row has answers and no window holds one that is at
    its offset. An answer's characters without a token (tokenizers drop some) are not asked of a window. Gold answers
    are [] for no answer, None for a row without labels; windows share `overlap` tokens, at most half of the room that
    the question leaves.
    """
    tokenizer = vocabulary.tokenizer
    special = int(tokenizer.num_special_tokens_to_add(pair=True))
    cuts = Counter[int]()
    questions, rooms = _questions([row["question"] for row in rows], vocabulary, limit, special, cuts)
    features: list[Feature] = []
    spans: dict[int, list[int]] = {}
    for index, room in enumerate(rooms):
        spans.setdefault(min(overlap, room // 2), []).append(index)
    found: dict[int, list[dict[str, Any]]] = {}
    sizes = [len(row["context"]) for row in rows]
    for shared, chosen in spans.items():
        for group in in_groups(chosen, sizes):
            for index, window in _call(rows, questions, group, vocabulary, limit, shared):
                found.setdefault(index, []).append(window)
    beyond: list[int] = []
    for index in range(len(rows)):
        windows = [window.pop("offsets") for window in found[index]]
        spans_of = _labels(golds[index], rows[index]["context"], windows)
        if IGNORED_SPAN in spans_of:
            beyond.append(index)
        for window, offsets, span in zip(found[index], windows, spans_of, strict=True):
            null = _null_token(window["input_ids"], offsets, tokenizer)
            labels = (null, null) if span == NO_SPAN else span
            extras = {"offsets": offsets, "null": null}
            features.append(Feature(index, len(features), window, labels, len(window["input_ids"]), extras))
    return encoded(rows, features, cuts, _beyond_note(beyond, rows))


def _beyond_note(beyond: Sequence[int], rows: Sequence[Row]) -> str:
    """What to tell of rows whose answers no window holds."""
    if not beyond:
        return ""
    places = places_of(rows)
    shown = ", ".join(places[index] for index in beyond[:NAMED]) + (", …" if len(beyond) > NAMED else "")
    return (
        f"{len(beyond):,} of {len(rows):,} rows have answers of which no window holds one whole where it is said to "
        f"stand; no span is learned from them ({shown}). Answers longer than a window need a larger "
        "task.max_tokens"
    )


def _questions(
    questions: Sequence[str], vocabulary: Vocabulary, limit: int, special: int, cuts: Counter[int]
) -> tuple[list[str], list[int]]:
    """The questions, cut to half of what special tokens leave, and the room that each leaves to its context."""
    if not questions:
        return [], []
    # White space at the ends of questions costs tokens and says nothing (SQuAD has some).
    texts = [question.strip() for question in questions]
    batch = vocabulary.bare(texts, offsets=True)
    most = max(1, (limit - special) // 2)
    rooms = []
    for index, offsets in enumerate(batch["offset_mapping"]):
        kept = len(offsets)
        if kept > most:
            cuts[index] = kept - most
            texts[index], kept = texts[index][: offsets[most - 1][1]], most
        rooms.append(max(1, limit - special - kept))
    return texts, rooms


def _call(
    rows: Sequence[Row],
    questions: Sequence[str],
    chosen: Sequence[int],
    vocabulary: Vocabulary,
    limit: int,
    overlap: int,
) -> list[tuple[int, dict[str, Any]]]:
    batch = vocabulary.read(
        [questions[index] for index in chosen],
        [rows[index]["context"] for index in chosen],
        truncation="only_second",
        max_length=limit,
        stride=overlap,
        padding=False,
        return_attention_mask=True,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    owners, mapping = batch.pop("overflow_to_sample_mapping"), batch.pop("offset_mapping")
    windows = []
    for place, owner in enumerate(owners):
        window: dict[str, Any] = {name: list(values[place]) for name, values in batch.items()}
        context = rows[chosen[owner]]["context"]
        offsets = [
            _visible(context, int(span[0]), int(span[1])) if which == 1 else None
            for span, which in zip(mapping[place], batch.sequence_ids(place), strict=True)
        ]
        window["offsets"] = offsets if context.isascii() else _with_marks(offsets, context)
        windows.append((chosen[owner], window))
    return windows


def _with_marks(offsets: Offsets, context: str) -> list[tuple[int, int] | None]:
    """Every token with the marks behind it that have no token of their own: an accent belongs to its letter."""
    starts = [len(context) if span is None else span[0] for span in offsets]
    found: list[tuple[int, int] | None] = []
    for span, after in zip(offsets, [*starts[1:], len(context)], strict=True):
        if span is not None:
            stop = span[1]
            while stop < after and category(context[stop]).startswith("M"):
                stop += 1
            span = span[0], stop
        found.append(span)
    return found


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


def _labels(gold: Gold | None, context: str, windows: Sequence[Offsets]) -> list[tuple[int, int] | None]:
    """For every window the first and last token of the answer: `NO_SPAN` for none, `IGNORED_SPAN` where it is lost."""
    if gold is None:
        return [None] * len(windows)
    if not gold:
        return [NO_SPAN] * len(windows)
    right = [
        span
        for text, start in gold
        if start is not None
        and context[start : start + len(text)] == text
        and (span := _visible(context, start, start + len(text))) is not None
    ]
    found = [_held(right, offsets) for offsets in windows]
    if not any(found):
        found = [_held(_with_tokens(right, windows), offsets) for offsets in windows]
    if not any(found):
        return [IGNORED_SPAN] * len(windows)
    return [NO_SPAN if span is None else span for span in found]


def _held(spans: Sequence[tuple[int, int]], offsets: Offsets) -> tuple[int, int] | None:
    """First and last token of the first of these spans of characters that a window holds whole."""
    for start, stop in spans:
        covering = [
            (place, span) for place, span in enumerate(offsets) if span is not None and span[0] < stop > start < span[1]
        ]
        if covering and covering[0][1][0] <= start and covering[-1][1][1] >= stop:
            return covering[0][0], covering[-1][0]
    return None


def _with_tokens(spans: Sequence[tuple[int, int]], windows: Sequence[Offsets]) -> list[tuple[int, int]]:
    """The spans without the characters at their ends that no token of any window stands for."""
    there = {place for offsets in windows for span in offsets if span is not None for place in range(*span)}
    inside = [[place for place in range(start, stop) if place in there] for start, stop in spans]
    return [(places[0], places[-1] + 1) for places in inside if places]
