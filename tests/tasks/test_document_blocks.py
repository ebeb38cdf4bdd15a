from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adapterkit.tasks.causal_lm import fill_blocks
from adapterkit.tasks.values import IGNORED, Feature
from tests.tasks.test_protocol import Make, Vocabularies


def document(row: int, tokens: int) -> Feature:
    ids = [100 * row + place for place in range(tokens)]
    inputs = {"input_ids": ids, "attention_mask": [1] * tokens}
    return Feature(row, row, inputs, [IGNORED, *ids[1:]], tokens, {"characters": tokens})


def test_a_document_goes_into_the_fullest_block_that_has_room() -> None:
    found = fill_blocks([document(row, tokens) for row, tokens in enumerate([6, 4, 3, 5, 1])], 10)
    assert [block.extras["rows"] for block in found] == [[0, 1], [2, 3, 4]]
    first = found[0]
    assert first.inputs["position_ids"] == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]
    assert first.inputs["input_ids"] == [0, 1, 2, 3, 4, 5, 100, 101, 102, 103]
    assert first.labels == [IGNORED, 1, 2, 3, 4, 5, IGNORED, 101, 102, 103]
    assert (first.row, first.index, first.length_tokens) == (0, 0, 10)
    assert found[1].extras["characters"] == 9


@given(st.lists(st.integers(1, 20), max_size=200))
def test_every_document_stands_in_one_block_that_is_not_too_long(lengths: list[int]) -> None:
    documents = [document(row, tokens) for row, tokens in enumerate(lengths)]
    blocks = fill_blocks(documents, 20)
    assert sorted(row for block in blocks for row in block.extras["rows"]) == list(range(len(lengths)))
    assert all(block.length_tokens <= 20 for block in blocks)
    for block in blocks:
        assert block.inputs["position_ids"].count(0) == len(block.extras["rows"])
        assert block.labels.count(IGNORED) == len(block.extras["rows"])


def test_blocks_are_shared_in_training_only_and_only_where_the_recipe_says(
    task_of: Make, vocabulary_of: Vocabularies
) -> None:
    rows = [{"text": "my card was lost"}, {"text": "a fox"}, {"text": "the dog"}]
    task, vocabulary = task_of("causal-lm", rows, pack_documents=True), vocabulary_of("gpt2")
    assert [len(task.encode(rows, vocabulary, purpose).features) for purpose in ("train", "score", "predict")] == [
        1,
        3,
        3,
    ]
    assert len(task_of("causal-lm", rows).encode(rows, vocabulary, "train").features) == 3
