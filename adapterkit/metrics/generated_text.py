"""Generated text against references: chrF, BLEU, ROUGE-L and exact match, with intervals."""

# Axes: N groups of rows, S statistics.

import itertools
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from adapterkit.metrics.resampling import Metric, Numbers, bootstrap, of_sums, ratio, ratio_of
from adapterkit.metrics.scripts import bleu_tokens, words

DIRECTIONS = {"chrf": True, "bleu": True, "rouge_l": True, "exact_match": True}
"""Metric -> whether higher is better. chrF and BLEU are in [0, 100], as sacrebleu gives them; the others in [0, 1]."""


def score_generated(
    texts: Sequence[str], references: Sequence[Sequence[str]], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Metric]:
    """Score one text per group against all references of the group.

    chrF and BLEU are sacrebleu's corpus scores (chrF2; BLEU's tokens by the references' script, see `bleu_tokens`),
    from its own sufficient statistics; ROUGE-L is the best F-measure over the references (rouge-score without stemmer,
    over `scripts.words`); exact match is against any of them. `Metric.how` names tokens that are not English's.
    """
    from sacrebleu.metrics import BLEU, CHRF

    tokens = bleu_tokens(reference for group in references for reference in group)
    bleu_NS, chrf_NS = _statistics(BLEU(tokenize=tokens), texts, references), _statistics(CHRF(), texts, references)
    pairs = list(zip(texts, references, strict=True))
    formulas = {
        "chrf": of_sums(chrf_NS, _chrf),
        "bleu": of_sums(bleu_NS, _bleu),
        "rouge_l": ratio_of([_rouge_l(text, group) for text, group in pairs]),
        "exact_match": ratio_of([text.strip() in map(str.strip, group) for text, group in pairs]),
    }
    found = bootstrap(len(texts), formulas, DIRECTIONS, resamples=resamples, seed=seed)
    if tokens != "13a":
        found["bleu"] = replace(found["bleu"], how=f"sacrebleu's {tokens} tokens")
        found["rouge_l"] = replace(found["rouge_l"], how="each letter a word where a script writes no spaces")
    return found


def _statistics(metric: Any, texts: Sequence[str], references: Sequence[Sequence[str]]) -> Numbers:
    """(N, S): sacrebleu's sufficient statistics of every text. Missing references are None, which it leaves out."""
    columns = list(itertools.zip_longest(*references))
    logger = logging.getLogger("sacrebleu")
    before = logger.level
    # It advises to score detokenised text whenever texts end in " .", which E2E and SCAN rightly do.
    logger.setLevel(logging.ERROR)
    try:
        found = metric._extract_corpus_statistics(list(texts), [list(column) for column in columns])
    finally:
        logger.setLevel(before)
    return np.asarray(found, dtype=np.float64)


def _bleu(sums_S: Numbers) -> Any:
    """100 · brevity penalty · geometric mean of the 1- to 4-gram precisions, zero counts smoothed exponentially.

    Papineni et al. 2002 with sacrebleu's default smoothing (NIST's: the k-th zero counts as 1 / 2^k).
    """
    length, reference = sums_S[..., 0], sums_S[..., 1]
    right, total = sums_S[..., 2:6], sums_S[..., 6:10]
    zero = (right == 0) & (total > 0)
    smoothed = np.where(zero, 0.5 ** np.cumsum(zero, axis=-1), right)
    logs = np.log(np.maximum(ratio(smoothed, total), 1e-300)).mean(axis=-1)
    penalty = np.where(length < reference, np.exp(1 - ratio(reference, np.maximum(length, 1e-9))), 1.0)
    # An order without any n-gram (texts shorter than four words) makes the score 0, as does no match at all.
    there = (total > 0).all(axis=-1) & (right.sum(axis=-1) > 0)
    return np.where(there, 100 * penalty * np.exp(logs), 0.0)


def _chrf(sums_S: Numbers) -> Any:
    """chrF2 over character 1- to 6-grams (Popović 2015): mean precision and recall over orders, then F with β = 2.

    The statistics are, per order: n-grams of the text, n-grams of the reference, shared ones.
    """
    text, reference, shared = (sums_S[..., column::3] for column in range(3))
    there = (text > 0) & (reference > 0)
    orders = there.sum(axis=-1)
    precision = ratio(np.where(there, ratio(shared, text), 0.0).sum(axis=-1), orders)
    recall = ratio(np.where(there, ratio(shared, reference), 0.0).sum(axis=-1), orders)
    return 100 * ratio(5 * precision * recall, 4 * precision + recall)


def _rouge_l(text: str, references: Sequence[str]) -> float:
    """The best F-measure of the longest common subsequence of words (Lin 2004)."""
    scorer = _rouge_scorer()
    return max(float(scorer.score(reference, text)["rougeL"].fmeasure) for reference in references)


@cache
def _rouge_scorer() -> Any:
    from rouge_score import rouge_scorer  # imports nltk, which no other task needs

    return rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Words())


class _Words:
    """`scripts.words` as rouge-score asks for it."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)
