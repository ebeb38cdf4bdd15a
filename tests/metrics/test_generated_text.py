"""sacrebleu, and arithmetic by hand, are the second opinions."""

from __future__ import annotations

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterkit.metrics import score_generated

WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", ".", "dog"]), min_size=0, max_size=9).map(
    " ".join
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(WORDS, st.lists(WORDS.filter(bool), min_size=1, max_size=3)), min_size=1, max_size=6))
def test_bleu_and_chrf_are_sacrebleu_s(pairs: list[tuple[str, list[str]]]) -> None:
    texts, references = [text for text, _ in pairs], [group for _, group in pairs]
    found = score_generated(texts, references, resamples=0)
    most = max(map(len, references))
    columns = [[group[place] if place < len(group) else None for group in references] for place in range(most)]
    assert found["bleu"].value == pytest.approx(sacrebleu.corpus_bleu(texts, columns, force=True).score, abs=1e-9)
    assert found["chrf"].value == pytest.approx(sacrebleu.corpus_chrf(texts, columns).score, abs=1e-9)


def test_rouge_and_exact_match_take_the_best_reference() -> None:
    found = score_generated(["the cat sat", "a dog"], [["no", "the cat sat"], ["a big dog"]], resamples=0)
    # The second text: precision 2/2, recall 2/3, F 0.8.
    assert found["rouge_l"].value == pytest.approx((1 + 0.8) / 2)
    assert found["exact_match"].value == 0.5


def test_the_right_texts_score_full_marks_with_a_narrow_interval() -> None:
    texts = ["the cat sat on the mat", "a dog sat on a cat today"]
    found = score_generated(texts, [[text] for text in texts], resamples=100)
    assert {name: round(metric.value, 6) for name, metric in found.items()} == {
        "chrf": 100, "bleu": 100, "rouge_l": 1, "exact_match": 1,
    }  # fmt: skip
    assert found["bleu"].low == pytest.approx(100)


def test_scoring_says_nothing(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    # sacrebleu warns of texts that end in " .".
    score_generated(["the cat sat ."] * 200, [["the cat sat ."]] * 200, resamples=10)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
