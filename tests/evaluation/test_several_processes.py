"""Several processes evaluate as one: each answers its share, and every row counts once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterkit.evaluation import record_evaluation
from tests.training.ranks import together
from tests.training.worlds import recipe, train

# Python 3.12 warns of forks beside threads; nothing here waits for a lock of another thread.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.mark.parametrize(("kind", "family"), [("text-classification", "bert"), ("causal-lm", "gpt2")])
def test_three_processes_find_what_one_finds(tiny_folders: Any, tmp_path: Path, kind: str, family: str) -> None:
    plan = recipe(tmp_path, tiny_folders[family], kind, training={"epochs": 1, "max_steps": 2})
    artifact = train(plan).artifact
    test = tmp_path / f"{kind}-test.jsonl"
    one = record_evaluation(artifact, test).to_dict()

    def act() -> None:
        from adapterkit.training.environment import launched_processes

        accelerator = launched_processes()
        assert accelerator is not None
        found = record_evaluation(artifact, test, report=tmp_path / "page.html", accelerator=accelerator)
        (tmp_path / f"{accelerator.process_index}.json").write_text(json.dumps(found.to_dict()))

    together(3, act)
    for rank in range(3):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        for metric, values in one["metrics"].items():
            # Rows have other neighbours, by which sums differ in their last bits.
            for name in ("value", "low", "high"):
                assert found["metrics"][metric][name] == pytest.approx(values[name], rel=1e-5), metric
        assert found["labels"] == one["labels"]
    assert (tmp_path / "page.html").is_file()
