"""sacrebleu, and arithmetic by hand, are the second opinions."""

from __future__ import annotations

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from adapterkit.metrics import score_generated
from adapterkit.metrics.scripts import bleu_tokens

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


@pytest.mark.parametrize(
    ("text", "reference", "tokens"),
    [
        ("кошка сидит на коврике", "кошка лежит на коврике", "13a"),
        ("القطة تجلس على السجادة", "القطة تنام على السجادة", "13a"),
        ("猫坐在垫子上", "猫躺在垫子上", "zh"),
        ("แมวนั่งบนเสื่อ", "แมวนอนบนเสื่อ", "char"),
        ("ねこがマットに座る", "ねこがマットに寝る", "char"),
        ("the cat sits on the mat", "the cat lies on the mat", "13a"),
    ],
)
def test_texts_of_every_script_are_scored(text: str, reference: str, tokens: str) -> None:
    right = score_generated([reference], [[reference]], resamples=0)
    assert (right["rouge_l"].value, right["exact_match"].value) == (1.0, 1.0)
    found = score_generated([text], [[reference]], resamples=0)
    assert found["bleu"].value == pytest.approx(
        BLEU(tokenize=tokens, force=True).corpus_score([text], [[reference]]).score
    )
    assert 0.5 < found["rouge_l"].value < 1
    assert (found["bleu"].how, bool(found["rouge_l"].how)) == (
        ("", False) if tokens == "13a" else (f"sacrebleu's {tokens} tokens", True)
    )


def test_rouge_counts_what_hands_count_in_scripts_with_and_without_spaces() -> None:
    russian, chinese, thai, arabic, hindi = (
        score_generated([text], [[reference]], resamples=0)["rouge_l"].value
        for text, reference in (
            ("Кошка, сидит.", "кошка лежит тут"),  # 1 of 2 words, 1 of 3
            ("我爱北京", "我在北京市"),  # 3 of 4 letters, 3 of 5
            ("กาดำ", "กาขาว"),  # ก า of ก า ด ำ and of ก า ข า ว
            ("قُرْآن كريم", "قُرْآن مجيد"),  # points belong to their letters: 1 of 2 words
            ("हिन्दी भाषा", "हिन्दी लिपि"),  # so do vowel signs
        )
    )
    assert russian == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
    assert chinese == pytest.approx(2 * (3 / 4) * (3 / 5) / (3 / 4 + 3 / 5))
    assert thai == pytest.approx(2 * (2 / 4) * (2 / 5) / (2 / 4 + 2 / 5))
    assert (arabic, hindi) == (0.5, 0.5)


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=40), st.text(alphabet="aB_c -'1.", max_size=12))
def test_of_ascii_texts_rouge_is_rouge_score_s(text: str, reference: str) -> None:
    theirs = RougeScorer(["rougeL"]).score(reference, text)["rougeL"].fmeasure
    assert score_generated([text], [[reference]], resamples=0)["rouge_l"].value == pytest.approx(theirs)


def test_bleu_s_tokens_are_those_of_most_letters() -> None:
    assert bleu_tokens(["The 猫 sat on a mat", "Tom 说 yes"]) == "13a"
    assert bleu_tokens(["猫坐在垫子上 の", "OK 好的，我知道了"]) == "zh"
    assert bleu_tokens(["", "123 ."]) == "13a"
