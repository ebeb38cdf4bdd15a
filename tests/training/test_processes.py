"""Two processes equal one, with the same global batch; so do micro-batches."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from adapterkit.backbone import Backbone
from adapterkit.errors import TrainingError
from adapterkit.training.trunk_cache import entries as kept_states
from tests.training.ranks import as_rank, by_ranks, free_port
from tests.training.worlds import events, losses, recipe, rows_of, train, write_rows

# Python 3.12 warns of forks beside threads; nothing here waits for a lock of another thread.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def still_folder(tiny_folders: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BERT without dropout: two processes would draw other masks than one."""
    folder = tmp_path_factory.mktemp("still") / "bert"
    shutil.copytree(tiny_folders["bert"], folder)
    config = json.loads((folder / "config.json").read_text())
    config.update(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def plan_of(folder: Path, backbone: Path) -> dict[str, Any]:
    """29 training rows in steps of 7, so that the last of an epoch has a single row; 11 of validation, 12 of test."""
    rows = rows_of("text-classification", 52)
    data = {
        "train": write_rows(folder / "29.jsonl", rows[:29]),
        "validation": write_rows(folder / "11.jsonl", rows[29:40]),
    }
    training = {"epochs": 2, "batch_size": 7, "accumulate": 2, "evaluate_every": 2}
    return recipe(folder, backbone, data=data, training=training)


@pytest.mark.parametrize(
    "method", [{"kind": "lora", "rank": 4, "top": 1}, {"kind": "none"}], ids=lambda method: method["kind"]
)
def test_two_processes_over_kept_states_train_as_one_that_keeps_none(
    still_folder: Path, tmp_path: Path, method: dict[str, Any]
) -> None:
    plan = {**plan_of(tmp_path, still_folder), "method": method, "head": {"kind": "linear"}}
    plan["training"]["cache"] = "off"
    one = train(plan, backbone=Backbone.load(str(still_folder), dtype="float32", device="cpu"))
    kept = {**plan["training"], "cache": str(tmp_path / "cache")}
    plans = [{**plan, "training": kept, "output": str(tmp_path / name)} for name in ("filling", "reading")]
    by_ranks(2, *plans)
    (entry,) = kept_states(tmp_path / "cache")
    assert entry.rows == 52
    # Each process has written its share, and the second run nothing.
    assert len([*(tmp_path / "cache").rglob("*.rows")]) == 2
    for name in ("filling", "reading"):
        two = tmp_path / name
        assert [event["processes"] for event in events(two, "begin")] == [2]
        assert losses(two) == pytest.approx(losses(one.artifact), abs=1e-5)
        for ours, theirs in zip(events(two, "score"), events(one.artifact, "score"), strict=True):
            assert ours["metrics"]["accuracy"] == theirs["metrics"]["accuracy"]
    assert losses(tmp_path / "filling") == losses(tmp_path / "reading")


def told(rank: int, port: int, plans: Sequence[dict[str, Any]], said: Any) -> None:
    """As `as_rank`, each with a plan of its own; what stops it is sent back."""
    try:
        as_rank(rank, len(plans), port)
        train(plans[rank])
        said.put((rank, None, ("it trained",)))
    except TrainingError as error:
        said.put((rank, error.shared, error.problems))
    except BaseException as error:
        said.put((rank, None, (repr(error),)))
        raise


def test_processes_that_do_not_train_the_same_say_so_before_the_first_step(still_folder: Path, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, still_folder)
    rows = rows_of("text-classification", 29)
    other = write_rows(tmp_path / "other.jsonl", rows[::-1])
    plans = [plan, {**plan, "data": {**plan["data"], "train": other}, "method": {"kind": "lora", "rank": 3}}]
    fork, port = multiprocessing.get_context("fork"), free_port()
    said = fork.Queue()
    children = [fork.Process(target=told, args=(rank, port, plans, said)) for rank in range(2)]
    for child in children:
        child.start()
    (first, second) = sorted(said.get(timeout=120) for _ in children)
    for child in children:
        child.join(timeout=60)
    assert (first[:2], second[:2]) == ((0, False), (1, True))
    assert first[2] == second[2]
    named = {problem.partition(":")[0]: problem for problem in first[2]}
    assert set(named) >= {"method.rank", "rows.train", "data.train"}
    assert named["method.rank"] == "method.rank: 4 on process 0; 3 on process 1"
    assert (
        events(tmp_path / "out", "step") == [] if (tmp_path / "out" / "training" / "journal.jsonl").exists() else True
    )


def test_micro_batches_add_up_to_the_same_step(still_folder: Path, tmp_path: Path) -> None:
    backbone = Backbone.load(str(still_folder), dtype="float32", device="cpu")
    plan = plan_of(tmp_path, still_folder)
    runs = [
        train(plan, backbone=backbone, overrides=[f"training.accumulate={parts}", f"output={tmp_path / str(parts)}"])
        for parts in (1, 3, 100)
    ]
    whole, *others = (losses(run.artifact) for run in runs)
    for cut in others:
        assert cut == pytest.approx(whole, rel=1e-5)
