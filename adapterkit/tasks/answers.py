"""Answer spans: gold ones read from rows, best ones found in logits, both compared as SQuAD does."""

# Axes: B windows, T tokens, A answer lengths, n candidates.

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapterkit.tasks.values import Feature

NULL = -1e30
"""A score below every real one, and still a JSON number."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Span(NamedTuple):
    """The best spans of one window, best first: first and last token (n,), both inclusive; the sum of their logits
    (n,), `NULL` where the window has fewer spans; and the same sum at the token that stands for no answer."""

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    score: NDArray[np.float32]
    null: float


def gold_answers(value: Any) -> list[tuple[str, int | None]] | None:
    """(text, first character) of every answer, [] for none; None where the value has neither of the known forms.

    Known: {"text": [...], "answer_start": [...]} and [{"text": ..., "answer_start": ...}, ...].
    """
    if isinstance(value, Mapping):
        texts, starts = value.get("text"), value.get("answer_start")
        if isinstance(texts, str):
            texts, starts = [texts], [starts]
        if not isinstance(texts, Sequence):
            return None
        starts = [None] * len(texts) if starts is None else starts
        if not isinstance(starts, Sequence) or len(starts) != len(texts):
            return None
        pairs = list(zip(texts, starts, strict=True))
    elif isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
        pairs = [(item.get("text"), item.get("answer_start")) for item in value]
    else:
        return None
    for text, start in pairs:
        if not isinstance(text, str) or not text or isinstance(start, bool):
            return None
        if start is not None and (not isinstance(start, int) or start < 0):
            return None
    return pairs


def normalized(text: str) -> str:
    """Lower case, without punctuation, articles and extra white space (SQuAD 1.1's official evaluation)."""
    text = _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION))
    return " ".join(text.split())


def exact_match(predicted: str, gold: str) -> float:
    """1 where the normalised texts are equal, else 0."""
    return float(normalized(predicted) == normalized(gold))


def f1(predicted: str, gold: str) -> float:
    """Overlap of normalised words; where one side has none, 1 if both have none (SQuAD 2.0), else 0."""
    predicted_words, gold_words = normalized(predicted).split(), normalized(gold).split()
    if not predicted_words or not gold_words:
        return float(predicted_words == gold_words)
    shared = sum((Counter(predicted_words) & Counter(gold_words)).values())
    return 2 * shared / (len(predicted_words) + len(gold_words))


def token_mask(features: Sequence[Feature], tokens: int) -> Tensor:
    """(B, T) bool: the tokens of the context, which alone may be answers."""
    mask_BT = torch.zeros(len(features), tokens, dtype=torch.bool)
    for place, feature in enumerate(features):
        there = [offsets is not None for offsets in feature.extras["offsets"]]
        mask_BT[place, : len(there)] = torch.tensor(there)
    return mask_BT


def best_spans(logits_BT2: Tensor, mask_BT: Tensor, null_B: Tensor, longest: int, count: int) -> list[Span]:
    """The `count` spans of at most `longest` tokens with the highest start + end logit, for every window.

    score[b, t, a] = start[b, t] + end[b, t + a], for 0 ≤ a < longest, both ends in the context.
    """
    tokens = logits_BT2.shape[1]
    longest = min(longest, tokens)
    null_score_B = logits_BT2.gather(1, null_B[:, None, None].expand(-1, 1, 2)).sum(dim=(1, 2))
    start_BT, end_BT = logits_BT2.masked_fill(~mask_BT[..., None], NULL).unbind(dim=-1)
    end_BTA = torch.nn.functional.pad(end_BT, (0, longest - 1), value=NULL).unfold(1, longest, 1)
    score_BS = (start_BT[..., None] + end_BTA).flatten(1)
    best = score_BS.topk(min(count, score_BS.shape[1]), dim=1)
    first_Bn = (best.indices // longest).cpu().numpy()
    last_Bn = first_Bn + (best.indices % longest).cpu().numpy()
    score_Bn = best.values.clamp(min=NULL).cpu().numpy()
    nulls = null_score_B.tolist()
    return [Span(first_Bn[row], last_Bn[row], score_Bn[row], nulls[row]) for row in range(len(nulls))]


def best_threshold(gaps: Sequence[float], gains: Sequence[float], empties: Sequence[float]) -> float:
    """The threshold on null - span score with the highest mean F1; the smallest such in size where several tie.
    `gaps`: no-answer score minus the best span's, per row. `gains`: F1 of the best span. `empties`: 1 where the right
    answer is none."""
    gap_N, gain_N, empty_N = (np.asarray(values, dtype=np.float64) for values in (gaps, gains, empties))
    if not len(gap_N):
        return 0.0
    order = np.argsort(gap_N, kind="stable")
    gap_N, gain_N, empty_N = gap_N[order], gain_N[order], empty_N[order]
    # Cut c: the first c rows keep their span, the others give no answer.
    total = np.concatenate([[0.0], np.cumsum(gain_N)]) + empty_N.sum() - np.concatenate([[0.0], np.cumsum(empty_N)])
    edges = np.concatenate([[gap_N[0] - 1], (gap_N[1:] + gap_N[:-1]) / 2, [gap_N[-1] + 1]])
    apart = np.concatenate([[True], gap_N[1:] > gap_N[:-1], [True]])
    best = apart & (total >= total[apart].max() - 1e-9)
    return float(min(edges[best], key=abs))
