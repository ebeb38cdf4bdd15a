"""Starting points: the ranking, the heads that try it, and what was lost by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

import adapterkit as ak
from adapterkit.cli import app
from adapterkit.errors import DataError
from adapterkit.evaluation.probing.asked import Looking
from adapterkit.evaluation.probing.side_by_side import look_into
from adapterkit.evaluation.probing.subjects import subjects_of
from adapterkit.metrics.representations import linear_probe, logme
from adapterkit.records import TransferRecord
from adapterkit.report.judged import record_page
from tests.training.worlds import recipe, rows_of, train, write_rows

KIND = "text-classification"


def rows() -> list[dict[str, Any]]:
    """Rows whose label no single word tells."""
    return [{"text": row["text"], "label": str(number % 3)} for number, row in enumerate(rows_of(KIND, 60))]


@pytest.fixture(scope="module")
def run(tiny_backbones: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transfer")
    head = {"kind": "linear", "pooling": "mean"}
    made = recipe(folder, tiny_backbones["bert"], head=head, output=str(folder / "things"))
    return Path(train(made, backbone=tiny_backbones["bert"]).artifact)


@pytest.fixture(scope="module")
def found(run: Path, tiny_backbones: Any) -> TransferRecord:
    return ak.transfer(run, {"things": rows_of(KIND, 60), "thirds": rows()}, backbone=tiny_backbones["bert"])


def test_every_layer_is_ranked_by_a_probe_with_the_evidence_beside_it(run: Path, tiny_backbones: Any) -> None:
    record = ak.nearest(run, rows(), backbone=tiny_backbones["bert"])
    looked = look_into(subjects_of(run, tiny_backbones["bert"]), rows(), Looking())
    expected = {
        (subject.name, layer): (
            (linear_probe(seen.states[:, layer], looked.drawn.labels).argmax(1) == looked.drawn.labels).mean(),
            logme(seen.states[:, layer], looked.drawn.labels),
        )
        for subject, seen in zip(looked.subjects, looked.seen, strict=True)
        for layer in range(4)
    }
    starts = record.found.starts
    assert [start.probe for start in starts] == sorted((probe for probe, _ in expected.values()), reverse=True)
    for start in starts:
        assert (start.probe, start.logme) == pytest.approx(expected[start.representation, start.layer])
        assert start.accuracy is None
    assert record.findings[0].startswith(f"Start from {starts[0].representation}, layer {starts[0].layer}: ")


def test_heads_are_tried_on_rows_that_they_have_not_seen(found: TransferRecord, tiny_backbones: Any) -> None:
    """Against scikit-learn's head on the same states, and the rows drawn once more."""
    looked = look_into(subjects_of(tiny_backbones["bert"]), rows(), Looking())
    chosen = np.random.default_rng(0).permutation(60)[:18]
    fitted = np.setdiff1d(np.arange(60), chosen)
    for layer in (0, 3):
        states_NW = looked.seen[0].states[:, layer].astype(float)
        scaled_NW = (states_NW - states_NW[fitted].mean(0)) / states_NW[fitted].std()
        head = LogisticRegression(max_iter=200).fit(scaled_NW[fitted], looked.drawn.labels[fitted])
        expected = head.score(scaled_NW[chosen], looked.drawn.labels[chosen])
        bare = next(s for s in found.sets["thirds"].starts if s.artifact is None and s.layer == layer)
        assert bare.accuracy is not None
        assert bare.accuracy.value == pytest.approx(expected)


def test_what_the_ranking_lost_leaves_a_sets_own_adapter_out(found: TransferRecord) -> None:
    for name, starts in found.sets.items():
        own = {start.representation for start in starts.starts if start.own}
        assert own == ({"things"} if name == "things" else set())
        shares = [start.accuracy.value for start in starts.starts if start.accuracy is not None]
        assert len(shares) == 8
        for ranking in ("probe", "logme"):
            values = [getattr(start, ranking) for start in starts.starts]
            if len(set(shares)) > 1 and len(set(values)) > 1:
                assert starts.rank_correlation[ranking] == pytest.approx(spearmanr(values, shares).statistic)
            else:
                assert starts.rank_correlation[ranking] is None
            foreign = [start for start in starts.starts if not start.own]
            ranked = [
                start.accuracy.value for start in sorted(foreign, key=lambda s: getattr(s, ranking), reverse=True)
            ]
            assert starts.regret[ranking] == {1: max(ranked) - ranked[0], 3: max(ranked) - max(ranked[:3])}
    assert "each left out once" in found.findings[-1]


def test_a_page_shades_what_a_head_is_right_in_on_every_representation(found: TransferRecord) -> None:
    page = record_page(found)
    assert page.count('style="--share:') == len(found.sets) * len(
        {start.representation for one in found.sets.values() for start in one.starts}
    )
    for one in found.sets.values():
        best = max(start.accuracy.value for start in one.starts if start.accuracy and start.accuracy.value is not None)
        assert f">{best:.1%}<" in page


def test_sets_that_cannot_be_learned_are_refused(run: Path, tiny_backbones: Any) -> None:
    with pytest.raises(DataError, match="no rows are named"):
        ak.transfer(run, {}, backbone=tiny_backbones["bert"])
    alone = [{"text": f"the card {number}", "label": "a" if number else "b"} for number in range(5)]
    seed = next(seed for seed in range(20) if 0 in np.random.default_rng(seed).permutation(5)[:2])
    with pytest.raises(DataError, match="found 1, expected 2"):  # the only one of its class is drawn for the test
        ak.transfer(tiny_backbones["bert"], {"alone": alone}, seed=seed)


def test_the_commands_print_tables_and_records(run: Path, tmp_path: Path, tiny_folders: Any) -> None:
    file, backbone = write_rows(tmp_path / "rows.jsonl", rows()), str(tiny_folders["bert"])
    shown = CliRunner().invoke(app, ["nearest", str(run), "--data", file, "--backbone", backbone])
    assert shown.exit_code == 0
    assert "Start from" in shown.stdout
    words = ["transfer", str(run), "--data", f"thirds={file}", "--backbone", backbone, "--json"]
    assert CliRunner().invoke(app, [*words, "--report", str(tmp_path / "nowhere" / "page.html")]).exit_code == 1
    done = CliRunner().invoke(app, [*words, "--report", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    assert TransferRecord.model_validate(json.loads(done.stdout)).sets.keys() == {"thirds"}
    assert "--share:" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert CliRunner().invoke(app, [*words[:2], "--data", file, "--backbone", backbone]).exit_code == 1
