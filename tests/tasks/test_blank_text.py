"""Blank text is no text, in every kind, in every format and to predict: a table cannot tell the two apart."""

from __future__ import annotations

from typing import Any

import pytest

from adapterkit.recipe import KINDS
from adapterkit.recipe.columns import COLUMNS
from tests.tasks.conftest import FAMILY, ROWS
from tests.tasks.test_protocol import Make, Vocabularies

EXTRA: dict[str, dict[str, Any]] = {
    "text-classification": {"text_pair": "the bank"},
    "multiple-choice": {"context": "At sea."},
    "token-classification": {"tokens": None, "text": "Ada lived in London"},
}
PLACES = [
    (kind, name)
    for kind in KINDS
    for name in COLUMNS[kind]  # type: ignore[index]
    if isinstance({**ROWS[kind][0], **EXTRA.get(kind, {})}.get(name), str)
]


def test_every_kind_has_a_text() -> None:
    assert {kind for kind, _ in PLACES} == set(KINDS)
    assert ("text-classification", "text_pair") in PLACES


@pytest.mark.parametrize("purpose", ["train", "score", "predict"])
@pytest.mark.parametrize(("kind", "name"), PLACES)
def test_blank_is_as_missing(kind: str, name: str, purpose: Any, task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary = task_of(kind), vocabulary_of(FAMILY[kind])
    whole = {**ROWS[kind][0], **EXTRA.get(kind, {})}
    missing = {**whole, name: None}
    reason = task.problem_of(missing, purpose)
    inputs = None if reason else [f.inputs for f in task.encode([missing], vocabulary, purpose).features]
    for blank in ("", " ", "\t\n", float("nan")):
        row = {**whole, name: blank}
        assert task.problem_of(row, purpose) == reason
        if reason is None:
            assert [feature.inputs for feature in task.encode([row], vocabulary, purpose).features] == inputs
