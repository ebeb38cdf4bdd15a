from __future__ import annotations

import pytest
import torch

from adapterkit.errors import BackboneError
from adapterkit.tasks import GeneratingTask
from adapterkit.tasks.continuing import text_before
from adapterkit.tasks.values import IGNORED
from tests.tasks.conftest import ROWS
from tests.tasks.test_protocol import Make, Vocabularies

KIND = "seq2seq-lm"


def test_sources_and_targets_are_cut_apart_and_counted(task_of: Make, vocabulary_of: Vocabularies) -> None:
    vocabulary = vocabulary_of("t5")
    rows = [
        {"source": "walk and run after turning left", "target": "turn left"},
        {"source": "run", "target": "walk and jump"},
    ]
    features, truncation, _ = task_of(KIND, rows, max_tokens=4, max_target_tokens=3).encode(rows, vocabulary)
    end = vocabulary.tokenizer.eos_token_id
    assert [len(feature.inputs["input_ids"]) for feature in features] == [4, 2]
    assert all(feature.inputs["input_ids"][-1] == end and feature.labels[-1] == end for feature in features)
    assert truncation.rows == 2


def test_the_prefix_stands_before_every_source(task_of: Make, vocabulary_of: Vocabularies) -> None:
    vocabulary = vocabulary_of("t5")
    task = task_of(KIND, prefix="run and ")
    feature = task.encode([{"source": "jump"}], vocabulary, "predict").features[0]
    assert vocabulary.tokenizer.decode(feature.inputs["input_ids"], skip_special_tokens=True) == "run and jump"


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_the_decoder_reads_the_target_one_to_the_right(family: str, task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary = task_of(KIND), vocabulary_of(family)
    batch = task.collate(task.encode(ROWS[KIND], vocabulary).features, vocabulary)
    read, labels = batch.inputs["decoder_input_ids"], batch.labels
    assert (read[:, 0] == vocabulary.decoder_start_id).all()
    there = labels[:, :-1] != IGNORED
    assert torch.equal(read[:, 1:][there], labels[:, :-1][there])
    assert (read[:, 1:][~there] == vocabulary.pad_id).all()


def test_a_decoder_alone_is_refused(task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary = task_of(KIND), vocabulary_of("gpt2")
    with pytest.raises(BackboneError, match="encoder-decoder"):
        task.collate(task.encode(ROWS[KIND], vocabulary).features, vocabulary)


def test_targets_of_one_source_are_references_of_one_text(task_of: Make) -> None:
    rows = [
        {"source": "a", "target": "the cat sat on the mat"},
        {"source": "b", "target": "a dog"},
        {"source": "a", "target": "one cat is sitting there"},
    ]
    task = task_of(KIND, rows)
    assert isinstance(task, GeneratingTask)
    assert task.groups(rows) == [[0, 2], [1]]
    found = task.score_texts(rows, ["one cat is sitting there", "a dog"], resamples=0)
    assert found["exact_match"].value == 1.0
    assert set(found) == task.generated_metrics


def test_stops_are_sought_as_the_model_writes_them(task_of: Make, vocabulary_of: Vocabularies) -> None:
    vocabulary = vocabulary_of("t5")
    task = task_of(KIND, spelling={"{": "(", "TURN": "turn"}, stop=["{"])
    assert isinstance(task, GeneratingTask)
    (feature,) = task.encode([{"source": "a TURN"}], vocabulary, "predict").features
    assert task.stops(feature) == ("(",)
    assert task.stops(feature, ["TURN {", "x"]) == ("turn (", "x")
    assert text_before([0, *vocabulary.tokenizer("run and jump")["input_ids"], 0, 0], [], vocabulary.tokenizer) == (
        "run and jump"
    )


def test_teacher_forcing_gives_the_perplexity_of_targets(task_of: Make, vocabulary_of: Vocabularies) -> None:
    task, vocabulary, rows = task_of(KIND), vocabulary_of("t5"), ROWS[KIND]
    features = task.encode(rows, vocabulary, "score").features
    batch = task.collate(features, vocabulary)
    size = len(vocabulary.tokenizer)
    outputs = task.outputs(torch.zeros(*batch.labels.shape, size), batch)
    found = task.score(rows, features, outputs, resamples=10)
    assert found["perplexity"].value == pytest.approx(size, rel=1e-5)
    assert [output.tokens for output in outputs] == [len(feature.labels) for feature in features]
    assert task.predictions(rows, features, outputs)[0]["tokens"] == 3
    assert task.main_metric == "perplexity"
