"""What a row says, without its answer, whichever kind it is of."""

from __future__ import annotations

from typing import Any

import pytest

from adapterkit.recipe.columns import COLUMNS, input_text


@pytest.mark.parametrize(
    ("kind", "row", "expected"),
    [
        ("text-classification", "a text", "a text"),
        ("text-classification", {"text": "a", "text_pair": "b", "label": "secret"}, "a\nb"),
        ("token-classification", {"tokens": ["Ada", "lives"], "tags": ["B", "O"]}, "Ada lives"),
        ("question-answering", {"question": "who", "context": "Ada", "answers": ["Ada"]}, "who\nAda"),
        ("masked-lm", {"text": "a [MASK]"}, "a [MASK]"),
        ("text-classification", {"label": "secret", "id": "7"}, ""),
        ("no kind", {"text": "a"}, ""),
    ],
)
def test_a_row_says_its_columns_but_for_the_answer(kind: str, row: Any, expected: str) -> None:
    assert input_text(row, kind) == expected


def test_no_kind_gives_its_answer_away() -> None:
    for kind, columns in COLUMNS.items():
        row = {name: f"{'ANSWER' if column.target else 'asked'} {name}" for name, column in columns.items()}
        assert "ANSWER" not in input_text(row, kind)
