from __future__ import annotations

import pytest
import torch

from adapterkit.errors import BackboneError
from adapterkit.tasks import Feature
from adapterkit.tasks.values import IGNORED
from tests.tasks.conftest import ROWS
from tests.tasks.test_protocol import Make, Vocabularies

KIND = "masked-lm"
LONG = [{"text": "the quick brown fox jumps over the lazy dog " * 40}, {"text": "my card was lost"}]


def test_blocks_hold_every_token_once_and_mix_no_texts(task_of: Make, vocabulary_of: Vocabularies) -> None:
    vocabulary = vocabulary_of("bert")
    features, truncation, _ = task_of(KIND, LONG, block_tokens=20).encode(LONG, vocabulary)
    assert truncation.rows == 0
    assert all(feature.length_tokens <= 20 for feature in features)
    for index, row in enumerate(LONG):
        tokens = [token for feature in features if feature.row == index for token in feature.inputs["input_ids"][1:-1]]
        assert tokens == vocabulary.tokenizer(row["text"], add_special_tokens=False)["input_ids"]


def test_a_mask_depends_on_seed_epoch_and_feature_alone(task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary = task_of(KIND, LONG, block_tokens=20), vocabulary_of("bert")
    features = task.encode(LONG, vocabulary).features

    def masks(chosen: list[Feature], seed: int | None, epoch: int = 0) -> list[tuple[list[int], list[int]]]:
        batch = task.collate(chosen, vocabulary, seed=seed, epoch=epoch)
        lengths = [feature.length_tokens for feature in chosen]
        ids, labels = batch.inputs["input_ids"].tolist(), batch.labels.tolist()
        return [(i[:n], k[:n]) for i, k, n in zip(ids, labels, lengths, strict=True)]

    whole = masks(features, 1)
    assert masks(features[3:4], 1)[0] == whole[3]
    assert masks(features[::-1], 1) == whole[::-1]
    assert masks(features, 2) != whole != masks(features, 1, epoch=1)
    assert masks(features, None) == masks(features, None, epoch=5)


def test_the_shares_are_15_percent_and_80_10_10(task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary = task_of(KIND, LONG, block_tokens=128), vocabulary_of("bert")
    features = task.encode(LONG[:1], vocabulary).features
    mask = vocabulary.tokenizer.mask_token_id
    hidden = total = masked = kept = 0
    for epoch in range(60):
        batch = task.collate(features, vocabulary, seed=0, epoch=epoch)
        chosen = batch.labels != IGNORED
        original = torch.tensor([f.inputs["input_ids"] for f in features[:1]])
        assert torch.equal(batch.labels[:1][chosen[:1]], original[chosen[:1]])
        hidden += int(chosen.sum())
        total += sum(feature.length_tokens - 2 for feature in features)
        masked += int((batch.inputs["input_ids"][chosen] == mask).sum())
        kept += int((batch.inputs["input_ids"][chosen] == batch.labels[chosen]).sum())
        specials = torch.isin(batch.labels, torch.tensor(vocabulary.tokenizer.all_special_ids))
        assert not specials.any()
    assert hidden / total == pytest.approx(0.15, abs=0.005)
    assert masked / hidden == pytest.approx(0.8, abs=0.03)
    assert kept / hidden == pytest.approx(0.1, abs=0.03)


def test_every_block_hides_a_token(task_of: Make, vocabulary_of: Vocabularies) -> None:
    rows = [{"text": "fox"}, {"text": "dog"}]
    task, vocabulary = task_of(KIND, rows), vocabulary_of("bert")
    batch = task.collate(task.encode(rows, vocabulary).features, vocabulary, seed=0)
    assert (batch.labels != IGNORED).sum(dim=1).tolist() == [1, 1]


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_masks_are_filled(family: str, task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary = task_of(KIND), vocabulary_of(family)
    rows = [{"text": "my [MASK] was [MASK]"}, {"text": "the fox"}]
    features = task.encode(rows, vocabulary, "predict").features
    batch = task.collate(features, vocabulary)
    logits = torch.zeros(*batch.inputs["input_ids"].shape, len(vocabulary.tokenizer))
    (first, second) = (batch.inputs["input_ids"][0] == vocabulary.tokenizer.mask_token_id).nonzero()[:, 0].tolist()
    card, lost = (vocabulary.tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in (" fox", " dog"))
    logits[0, first, card] = logits[0, second, lost] = 20.0
    answers = task.predictions(rows, features, task.outputs(logits, batch))
    words = [vocabulary.tokenizer.decode([token]).strip() for token in (card, lost)]
    assert [mask[0]["token"] for mask in answers[0]["masks"]] == words
    assert answers[0]["masks"][0][0]["probability"] > 0.99
    assert len(answers[0]["masks"][0]) == 5
    assert all(word in answers[0]["text"] for word in words)
    assert answers[1]["masks"] == []


def test_perplexity_and_accuracy_are_those_of_the_hidden_tokens(task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary, rows = task_of(KIND), vocabulary_of("bert"), ROWS[KIND]
    features = task.encode(rows, vocabulary, "score").features
    batch = task.collate(features, vocabulary)
    size = len(vocabulary.tokenizer)
    found = task.score(rows, features, task.outputs(torch.zeros(*batch.labels.shape, size), batch), resamples=0)
    # Every token equally likely: the perplexity is the size of the vocabulary.
    assert found["perplexity"].value == pytest.approx(size, rel=1e-5)
    sure = torch.nn.functional.one_hot(batch.labels.clamp(min=0), size).float() * 50
    found = task.score(rows, features, task.outputs(sure, batch), resamples=0)
    assert found["perplexity"].value == pytest.approx(1.0)
    assert found["token_accuracy"].value == 1.0


def test_a_tokenizer_without_a_mask_is_refused(task_of: Make, vocabulary_of: Vocabularies) -> None:
    with pytest.raises(BackboneError, match="mask token"):
        task_of(KIND).encode(ROWS[KIND], vocabulary_of("gpt2"))
