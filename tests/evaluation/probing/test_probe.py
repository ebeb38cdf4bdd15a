"""Representations side by side: what is found, said, and refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import KNeighborsRegressor
from typer.testing import CliRunner

import adapterkit as ak
from adapterkit.cli import app, console
from adapterkit.errors import ArtifactError, ContractError, DataError, HeadError
from adapterkit.evaluation.probing.asked import Looking
from adapterkit.evaluation.probing.measuring import Measured
from adapterkit.evaluation.probing.side_by_side import look_into
from adapterkit.evaluation.probing.subjects import subjects_of
from adapterkit.evaluation.probing.verdict import adapter_sentence, bare_sentence, gains, standing
from adapterkit.metrics.representations import linear_fit
from adapterkit.records import ProbeRecord, read_record
from adapterkit.report.judged import section_of
from tests.training.worlds import recipe, rows_of, train, write_rows

KIND = "text-classification"


@pytest.fixture(scope="module")
def run(tiny_backbones: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An adapter that tells lost things from found ones."""
    folder, backbone = tmp_path_factory.mktemp("probe"), tiny_backbones["bert"]
    head = {"kind": "linear", "pooling": "mean"}
    return train(recipe(folder, backbone, head=head), backbone=backbone).artifact


@pytest.fixture(scope="module")
def found(run: Path, tiny_backbones: Any) -> ProbeRecord:
    return ak.probe(run, rows_of(KIND, 60), backbone=tiny_backbones["bert"])


def test_a_run_stands_beside_its_bare_backbone_layer_by_layer(found: ProbeRecord, run: Path) -> None:
    bare, adapted = found.representations
    assert [layer.layer for layer in bare.layers] == [layer.layer for layer in adapted.layers] == [0, 1, 2, 3]
    assert (bare.artifact, adapted.name) == (None, run.name)
    assert (found.items, found.kind, found.labels, found.chance) == (60, KIND, {"bad": 30, "good": 30}, 0.5)
    for one, other in ((bare, adapted), (adapted, bare)):
        # No adapter stands below the first layer.
        assert one.layers[0].similarity[other.name] == pytest.approx(1)
        assert one.layers[3].similarity[other.name] == pytest.approx(other.layers[3].similarity[one.name])
    assert set(adapted.gains) == {0, 1, 2, 3}
    assert adapted.gains[0].value == 0
    assert len(found.findings) == 2


def test_every_measure_has_a_figure_or_a_reason(found: ProbeRecord) -> None:
    for layer in [layer for one in found.representations for layer in one.layers]:
        assert layer.accuracy is not None
        assert len(layer.figures) + len(layer.refused) == 14
        assert layer.refused == {}
        assert all(np.isfinite(value) for value in layer.figures.values())


def test_the_same_command_gives_the_same_record_kept_or_not(found: ProbeRecord, run: Path, tiny_backbones: Any) -> None:
    for cache in (True, False):
        assert ak.probe(run, rows_of(KIND, 60), backbone=tiny_backbones["bert"], cache=cache) == found


def test_a_record_is_read_back_without_torch(found: ProbeRecord, tmp_path: Path) -> None:
    file = tmp_path / "probe.json"
    file.write_text(json.dumps(found.to_dict()), encoding="utf-8")
    assert read_record(ProbeRecord, file) == found


def test_a_table_has_every_layer_and_ends_with_what_was_found(found: ProbeRecord, capsys: Any) -> None:
    console.print_section(section_of(found, {}))
    said = capsys.readouterr().out
    assert said.count("\n0 ") == said.count("\n3 ") == 2
    assert said.rstrip().endswith(found.findings[-1])


def test_words_and_choices_are_probed_too(tiny_backbones: Any) -> None:
    words = ak.probe(tiny_backbones["distilbert"], rows_of("token-classification", 30))
    assert words.labels == {"B-place": 30, "O": 30}
    assert words.representations[0].pooling == ""
    assert words.representations[0].layers[-1].accuracy is not None
    choices = ak.probe(tiny_backbones["roberta"], rows_of("multiple-choice", 30))
    assert choices.labels == {"wrong": 30, "right": 30}
    assert choices.chance == 0.5
    assert "knn_accuracy" not in choices.representations[0].layers[0].figures


def test_two_backbones_of_other_widths_are_compared_on_the_same_items(tiny_backbones: Any) -> None:
    found = ak.probe([tiny_backbones["bert"], tiny_backbones["gpt2"]], rows_of(KIND, 30))
    one, other = found.representations
    assert one.layers[1].similarity[other.name] is not None
    assert one.fingerprint != other.fingerprint


def test_rows_are_drawn_by_seed_and_it_is_said(tiny_backbones: Any) -> None:
    found = [ak.probe(tiny_backbones["bert"], rows_of(KIND, 60), rows=20, seed=seed) for seed in (0, 1)]
    assert found[0].notes == ("20 of 60 rows, drawn with seed 0",)
    assert found[0].data.digest != found[1].data.digest


def test_rows_that_an_adapter_was_trained_on_are_named(run: Path, tiny_backbones: Any) -> None:
    trained = str(run.parent / f"{KIND}.jsonl")
    found = ak.probe(run, trained, backbone=tiny_backbones["bert"], rows=10)
    assert found.notes[-1] == f"{run.name} was trained on {trained}: name other rows to see what it is worth"


def test_numbers_are_looked_for_by_the_variance_that_is_explained(tiny_backbones: Any) -> None:
    chance = np.random.default_rng(0)
    rows = [
        {"text": row["text"], "label": [float(v), 100 * float(v)]}
        for row, v in zip(rows_of(KIND, 40), chance.normal(size=40), strict=True)
    ]
    found = ak.probe(tiny_backbones["bert"], rows)
    looked = look_into(subjects_of(tiny_backbones["bert"]), rows, Looking())
    targets = np.array([row["label"] for row in rows])
    for layer in found.representations[0].layers[1:]:
        states = looked.seen[0].states[:, layer.layer].astype(float)
        near = KNeighborsRegressor(6).fit(states, targets).kneighbors(states, return_distance=False)[:, 1:]
        assert layer.figures["knn_accuracy"] == pytest.approx(r2_score(targets, targets[near].mean(1)))
        assert layer.accuracy is not None
        # The second number says the same as the first, a hundred times as large.
        assert layer.figures["explained: number 1"] == pytest.approx(layer.accuracy.value)
        assert layer.figures["explained: number 2"] == pytest.approx(layer.accuracy.value)
        assert layer.refused["h_score"].startswith("the rows have numbers")
    assert (found.labels, found.chance) == ({}, 0.0)
    ranked = ak.nearest(tiny_backbones["bert"], rows)
    assert "of the variance" in ranked.findings[0]
    with pytest.raises(DataError, match="a class each"):
        ak.transfer(tiny_backbones["bert"], {"numbers": rows})


def test_a_linear_fit_is_ridge_regression_on_what_it_has_not_seen() -> None:
    chance = np.random.default_rng(1)
    states, noise = chance.normal(size=(60, 5)), chance.normal(size=(60, 2))
    targets = states @ chance.normal(size=(5, 2)) + 0.1 * noise
    expected = np.zeros((60, 2))
    scaled = (states - states.mean(0)) / (states - states.mean(0)).std()
    for fitted, tested in GroupKFold(5, shuffle=True, random_state=0).split(scaled, groups=np.arange(60)):
        expected[tested] = Ridge(alpha=0.1).fit(scaled[fitted], targets[fitted]).predict(scaled[tested])
    assert linear_fit(states, targets) == pytest.approx(expected)


def test_each_of_several_labels_is_looked_for(tiny_backbones: Any) -> None:
    rows = [
        {"text": row["text"], "label": [row["label"], *(["odd"] if n % 2 else [])]}
        for n, row in enumerate(rows_of(KIND, 40))
    ]
    found = ak.probe(tiny_backbones["bert"], rows)
    layer = found.representations[0].layers[-1]
    assert found.labels == {"bad": 20, "good": 20, "odd": 20}
    assert layer.figures.keys() >= {"explained: bad", "explained: good", "explained: odd", "logme"}
    # Good is what is not bad.
    assert layer.figures["explained: bad"] == pytest.approx(layer.figures["explained: good"])
    assert "explains" in found.findings[0] or "beyond chance" in found.findings[0]


# -- what cannot be looked at


def text_rows(labels: list[Any]) -> list[dict[str, Any]]:
    return [{"text": f"the card {number}", "label": label} for number, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (text_rows(["one"] * 10), "one"),
        (text_rows(["one", "two"]), "items: found 2, expected 4 or more"),
        (text_rows([[1.5], [1.5], [1.5], [1.5]]), "numbers: all rows have the same"),
        (text_rows([1e-300, 0.0, 1e-300, 0.0]), "numbers: all rows have the same"),
        (rows_of("question-answering", 10), "a span has no class, so attribute says"),
        (rows_of("causal-lm", 10), "so evaluate says what the checkpoint knows of them"),
        ([], "no rows"),
    ],
)
def test_rows_without_classes_are_refused_with_what_was_found(tiny_backbones: Any, rows: Any, said: str) -> None:
    with pytest.raises(DataError) as refused:
        ak.probe(tiny_backbones["bert"], rows)
    assert said in str(refused.value)


def test_texts_that_are_all_the_same_have_reasons_instead_of_figures(tiny_backbones: Any) -> None:
    rows = [{"text": "the card", "label": "yes" if number % 2 else "no"} for number in range(12)]
    (bare,) = ak.probe(tiny_backbones["bert"], rows).representations
    for layer in bare.layers:
        assert (layer.accuracy, layer.figures) == (None, {})
        assert set(layer.refused.values()) == {"values: all items are alike, so that they tell nothing apart"}


def test_arguments_that_cannot_be_honoured_are_refused(run: Path, tiny_backbones: Any, tmp_path: Path) -> None:
    backbone, rows = tiny_backbones["bert"], rows_of(KIND, 20)
    with pytest.raises(DataError, match="nothing is named"):
        ak.probe([], rows)
    with pytest.raises(DataError, match="no rows are named"):
        ak.probe(backbone)
    with pytest.raises(DataError, match="found 0, expected 1 or more"):
        ak.probe(backbone, rows, rows=0)
    with pytest.raises(HeadError, match="pooled by 'attention'"):
        ak.probe(backbone, rows, pooling="attention")
    with pytest.raises(ContractError):
        ak.probe(run, rows, backbone=tiny_backbones["roberta"])
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "adapterkit.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ArtifactError):
        ak.probe(damaged, rows, backbone=backbone)


# -- the verdict

ROWS = 400


def right(share: float) -> Measured:
    """A layer whose probe is right in this share of rows, drawn apart from all others."""
    chance = random.Random(share)
    return Measured(right=np.array([float(chance.random() < share) for _ in range(ROWS)]), items=np.ones(ROWS))


def test_information_stands_at_the_lowest_layer_that_is_as_good_as_the_best() -> None:
    found = standing([0, 1, 2, 3], [right(0.5), right(0.7), right(0.901), right(0.9)], 0.5, 0)
    assert found.stands == 2
    assert found.best in (2, 3)
    assert found.accuracy[1].low < 0.7 < found.accuracy[1].high
    assert "an adapter is worth layer 3" in bare_sentence("b", found, 3, 0.5)
    rising = standing([0, 1, 2], [right(0.5), right(0.7), right(0.9)], 0.5, 0)
    assert "It still rises up to the last layer" in bare_sentence("b", rising, 2, 0.5)


def test_information_stands_nowhere_where_no_layer_beats_chance() -> None:
    found = standing([0, 1], [right(0.5), right(0.501)], 0.5, 0)
    assert found.stands is None
    assert "no layer tells the labels apart" in bare_sentence("b", found, 1, 0.5)
    assert standing([0], [Measured()], 0.5, 0).best is None


def test_an_adapter_is_worth_the_layers_in_which_it_gains_beyond_chance() -> None:
    bare = {layer: right(0.6) for layer in range(4)}
    found = gains([0, 1, 2, 3], [right(0.6), right(0.6), right(0.8), right(0.85)], bare, 0)
    assert found[0].value == found[1].value == 0
    assert found[2].low > 0
    assert "it is worth layers 2 to 3" in adapter_sentence("run", found, "b")
    nothing = gains([0, 1], [right(0.6), right(0.6)], bare, 0)
    assert "the adapter is worth none" in adapter_sentence("run", nothing, "b")
    worse = gains([0, 1], [right(0.6), right(0.3)], bare, 0)
    assert "It is behind at layer 1" in adapter_sentence("run", worse, "b")


def test_the_command_prints_a_record(run: Path, tmp_path: Path, tiny_folders: Any) -> None:
    file = write_rows(tmp_path / "rows.jsonl", rows_of(KIND, 30))
    words = ["probe", str(run), "--data", file, "--backbone", str(tiny_folders["bert"])]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0
    assert ProbeRecord.model_validate_json(done.stdout).items == 30
    assert CliRunner().invoke(app, [*words, "--rows", "0"]).exit_code == 2
