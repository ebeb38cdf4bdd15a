"""Long texts: the tokens that they would have at once, in a small part of the memory."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterkit.recipe import TaskSettings
from adapterkit.tasks import TASKS, Vocabulary, long_texts
from adapterkit.tasks.encoding import bare_ids, encode_texts
from tests.tiny import FAMILIES
from tests.tiny_tokenizers import tokenizer_of

WORDS = (
    *("the", "quick", "brown", "fox", ",", "jumps", "over", "12", "lazy", "dogs", "near", "London", ";", "and"),
    *("", "\n\n", "then", "(nothing)", "ééé", "😀", "[UNK]", "</s>"),
)
TEXT = st.lists(st.sampled_from(WORDS) | st.text(max_size=6), min_size=1, max_size=120).map(" ".join)

tokenizer = cache(tokenizer_of)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_texts, "CHARACTERS_AT_ONCE", 200)
    monkeypatch.setattr(long_texts, "OVERLAP_CHARACTERS", 100)
    monkeypatch.setattr("adapterkit.tasks.encoding.CHARACTERS_AT_ONCE", 200)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=25)
@given(text=TEXT)
def test_a_text_in_pieces_has_the_tokens_that_it_has_at_once(family: str, text: str) -> None:
    whole = tokenizer(family)(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_texts, "CHARACTERS_AT_ONCE", 200)
        patch.setattr(long_texts, "OVERLAP_CHARACTERS", 100)
        assert long_texts.ids_in_pieces(Vocabulary.of(tokenizer(family)), text) == whole


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_without_any_space_is_joined_too(family: str) -> None:
    text = "".join(chr(97 + place * place % 26) for place in range(3_000))
    whole = tokenizer(family)(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_texts, "CHARACTERS_AT_ONCE", 500)
        patch.setattr(long_texts, "OVERLAP_CHARACTERS", 100)
        assert long_texts.ids_in_pieces(Vocabulary.of(tokenizer(family)), text) == whole


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_what_is_cut_is_cut_where_it_would_be_at_once(family: str) -> None:
    vocabulary = Vocabulary.of(tokenizer(family), 64)
    long, short = " ".join(WORDS * 900), "the fox"
    assert len(long) > 2**16
    texts, pairs = [long, short, long, short], [None, None, short, long]
    encoded = encode_texts(vocabulary, texts, pairs, 64)
    for (tokens, lost), text, pair in zip(encoded, texts, pairs, strict=True):
        given_pair = () if pair is None else (pair,)
        expected = vocabulary.tokenizer(text, *given_pair, truncation=True, max_length=64, verbose=False)
        assert tokens == {name: list(values) for name, values in expected.items()}
        whole = len(vocabulary.tokenizer(text, *given_pair, truncation=False, verbose=False)["input_ids"])
        assert abs(lost - (whole - len(tokens["input_ids"]))) <= 0.01 * whole


def test_rows_in_groups_are_the_rows_at_once(small_pieces: None) -> None:
    vocabulary = Vocabulary.of(tokenizer("bert"), 64)
    texts = [" ".join(WORDS[: place % 15]) for place in range(40)]
    expected = [tokenizer("bert")(text, add_special_tokens=False, verbose=False)["input_ids"] for text in texts]
    assert bare_ids(vocabulary, texts) == expected
    groups = list(long_texts.in_groups(range(40), list(map(len, texts))))
    assert [index for group in groups for index in group] == list(range(40))
    assert len(groups) > 5
    assert all(sum(len(texts[index]) for index in group) <= 200 for group in groups)


class Watched:
    """A tokenizer that remembers the most characters that one call was handed."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.most = inner, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __call__(self, text: Any, pair: Any = None, **settings: Any) -> Any:
        texts = [text] if isinstance(text, str) else [*text, *(pair or [])]
        self.most = max(self.most, sum(map(len, texts)))
        return self._inner(text, pair, **settings)


@pytest.mark.parametrize("kind", ["text-classification", "token-classification", "causal-lm", "question-answering"])
def test_no_call_of_the_tokenizer_holds_all_rows(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_texts, "CHARACTERS_AT_ONCE", 2_000)
    monkeypatch.setattr("adapterkit.tasks.encoding.CHARACTERS_AT_ONCE", 2_000)
    watched = Watched(tokenizer("gpt2" if kind == "causal-lm" else "bert"))
    text = "the quick brown fox near London"
    row = {
        "text": text,
        "label": "x",
        "tokens": text.split(),
        "tags": ["O"] * 5 + ["B-LOC"],
        "context": text,
        "question": "where?",
        "answers": {"text": ["London"], "answer_start": [25]},
    }
    rows = [{**row, "label": str(place % 2)} for place in range(400)]
    task = TASKS[kind].prepare(TaskSettings(kind=kind), rows)
    assert len(task.encode(rows, Vocabulary.of(watched, 64)).features) >= 400
    assert watched.most <= 5_000
