"""States of all layers, against transformers' own, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapterkit.evaluation.probing.asked import Looking, ask, draw, items_of
from adapterkit.evaluation.probing.states import LayerStates, see, window
from adapterkit.evaluation.probing.subjects import Subject, subjects_of
from adapterkit.heads.pooling import pool
from adapterkit.recipe.kinds import FACTS
from adapterkit.tasks.protocol import Vocabulary
from tests.tiny import FAMILIES
from tests.training.worlds import METHODS, recipe, rows_of, train

# Sums over a batch are in another order than over a row.
ROUNDING = 1e-5


def seen(subject: Subject, kind: str, cache: Path | None = None, count: int = 24) -> tuple[Any, Any, LayerStates]:
    asked = ask(rows_of(kind, count), Looking(rows=100))
    frozen = subject.backbone
    start = getattr(frozen.config, "decoder_start_token_id", None)
    vocabulary = Vocabulary.of(frozen.tokenizer, frozen.max_tokens, start)
    features, items = items_of(asked, vocabulary)
    drawn = draw(asked, [items], 100, 0)
    found = see(
        subject,
        asked.task,
        vocabulary,
        features,
        items,
        drawn,
        pooling="mean" if FACTS[kind].pooled else "",
        seed=0,
        cache=cache,
        tell=lambda count: None,
    )
    return [features[items[key].feature] for key in drawn.keys], drawn, found


def hidden(trunk: Any, ids: list[int]) -> Any:
    with torch.no_grad():
        given = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        return trunk(**given, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_the_states_that_transformers_gives_row_by_row(tiny_backbones: Any, family: str) -> None:
    backbone = tiny_backbones[family]
    features, _, found = seen(Subject("bare", backbone), "text-classification")
    trunk = backbone.trunk.encoder if backbone.is_encoder_decoder else backbone.trunk
    assert found.states.shape == (24, backbone.config.num_hidden_layers + 1, backbone.hidden_size)
    for number in (0, 4, 23):
        ids = features[number].inputs["input_ids"]
        expected = torch.stack([pool(layer, torch.ones(1, len(ids)), "mean")[0] for layer in hidden(trunk, ids)])
        assert found.states[number] == pytest.approx(expected.numpy(), abs=ROUNDING)


def test_words_are_looked_at_at_their_first_token_and_choices_one_by_one(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["distilbert"]
    features, drawn, found = seen(Subject("bare", backbone), "token-classification")
    for number in (0, len(drawn.keys) - 1):
        row, word = drawn.keys[number]
        feature = features[number]
        at = feature.extras["at"][feature.extras["words"].index(word)]
        expected = [layer[0, at].numpy() for layer in hidden(backbone.trunk, feature.inputs["input_ids"])]
        assert found.states[number] == pytest.approx(np.stack(expected), abs=ROUNDING)
        tags = rows_of("token-classification", 24)[row]["tags"]
        assert drawn.names[drawn.labels[number]] == tags[word]

    backbone = tiny_backbones["roberta"]
    features, drawn, found = seen(Subject("bare", backbone), "multiple-choice")
    assert drawn.is_choice
    for number in (0, 1, 7):
        row, choice = drawn.keys[number]
        ids = features[number].inputs["input_ids"][choice]
        expected = [layer[0].mean(0).numpy() for layer in hidden(backbone.trunk, ids)]
        assert found.states[number] == pytest.approx(np.stack(expected), abs=ROUNDING)
        assert drawn.labels[number] == (rows_of("multiple-choice", 24)[row]["answer"] == choice)


@pytest.mark.parametrize("method", ["lora", "bottleneck"])
def test_an_adapters_states_are_those_that_its_head_reads(tiny_backbones: Any, tmp_path: Path, method: str) -> None:
    backbone = tiny_backbones["bert"]
    head = {"kind": "linear", "pooling": "mean"}
    result = train(recipe(tmp_path, backbone, method=METHODS[method], head=head), backbone=backbone)
    bare, run = subjects_of([result.artifact], backbone)
    features, _, of_bare = seen(bare, "text-classification")
    _, _, of_run = seen(run, "text-classification")
    assert run.artifact is not None
    assert not np.allclose(of_run.states[:, -1], of_bare.states[:, -1], atol=1e-3)
    with run.artifact.adapted(backbone) as adapted:
        linear = adapted.module.adapterkit_head["output"]
        outputs = adapted.outputs(features)
        with torch.no_grad():
            answers = linear(torch.from_numpy(of_run.states[:, -1])).softmax(-1).numpy()
    assert answers == pytest.approx(np.stack(outputs), abs=1e-4)


def test_what_is_kept_is_read_and_gives_the_same_bytes(tiny_backbones: Any, tmp_path: Path) -> None:
    subject = Subject("bare", tiny_backbones["bert"])
    _, drawn, first = seen(subject, "token-classification", tmp_path)
    _, _, again = seen(subject, "token-classification", tmp_path)
    _, _, more = seen(subject, "token-classification", tmp_path, count=30)
    # Ten rows repeat, and what is read twice is computed once, so that it has the same bits.
    assert (first.computed, again.computed) == (len({(row % 10, word) for row, word in drawn.keys}), 0)
    assert more.computed < first.computed
    assert np.array_equal(first.states, again.states)


def test_another_backbone_and_a_damaged_file_are_computed(tiny_backbones: Any, tmp_path: Path) -> None:
    subject = Subject("bare", tiny_backbones["bert"])
    seen(subject, "text-classification", tmp_path)
    (file,) = tmp_path.glob("*/*.rows")
    assert seen(Subject("bare", tiny_backbones["bert-plain"]), "text-classification", tmp_path)[2].computed == 24
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert seen(subject, "text-classification", tmp_path)[2].computed == 1


def test_what_does_not_fit_into_memory_is_drawn_and_said() -> None:
    all_of_it = window(7, 384, 5000, 0)
    assert (all_of_it.layers, all_of_it.widths, all_of_it.note) == (tuple(range(7)), None, "")
    drawn = window(33, 4096, 5000, 0)
    assert len(drawn.widths or ()) == 1024
    assert (drawn.layers[0], drawn.layers[-1]) == (0, 32)
    assert 5000 * 1024 * 4 * len(drawn.layers) <= 1 << 27
    assert drawn.note == "6 of 33 layers and 1,024 of 4,096 dimensions, so that the states fit into memory"
    assert drawn == window(33, 4096, 5000, 0)
    assert drawn.widths != window(33, 4096, 5000, 1).widths
