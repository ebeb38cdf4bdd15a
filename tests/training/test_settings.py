"""Every option of the training block that is accepted acts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapterkit.artifact import open_artifact
from adapterkit.errors import RecipeError
from adapterkit.training.standing import Progress
from tests.training.worlds import entries, events, losses, recipe, train

Trained = Any


@pytest.fixture
def run(tiny_backbones: Any, tmp_path: Path) -> Any:
    """`run(name, **training)`: a run of 8 steps in 2 epochs, unless the settings say otherwise."""

    def run(name: str = "out", *, data: dict[str, Any] | None = None, **training: Any) -> Any:
        backbone = tiny_backbones["bert"]
        plan = recipe(tmp_path, backbone, data=data or {}, training=training, output=str(tmp_path / name))
        if "batch_tokens" in training:
            del plan["training"]["batch_size"]
        return train(plan, backbone=backbone)

    return run


def validations(artifact: Path) -> list[int]:
    return [event["step"] for event in events(artifact, "validation")]


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        ({"evaluate_every": "epoch"}, [4, 8]),
        ({"evaluate_every": 3}, [3, 6, 8]),
        ({"evaluate_every": 100}, [8]),
        ({"epochs": 0.5}, [2]),
        ({"epochs": 1.25, "evaluate_every": 2}, [2, 4, 5]),
        ({"max_steps": 3}, [3]),
    ],
)
def test_validations_come_when_they_are_due_and_at_the_end(
    run: Any, training: dict[str, Any], steps: list[int]
) -> None:
    result = run(**training)
    assert validations(result.artifact) == steps
    assert result.steps == steps[-1]


def test_without_validation_rows_the_last_state_is_kept_and_only_the_test_is_scored(run: Any) -> None:
    result = run(data={"validation": None})
    assert validations(result.artifact) == []
    assert set(result.metrics) == {"test"}
    assert [event["split"] for event in events(result.artifact, "score")] == ["test"]


def test_without_any_rows_to_score_there_are_no_metrics(run: Any) -> None:
    assert run(data={"validation": None, "test": None}).metrics == {}


def test_a_validated_state_is_kept_unless_the_last_is_wanted(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "keeps", lambda progress, score: progress.steps == 2)
    kept, last = (run(str(keep), evaluate_every=2, keep_best=keep).artifact for keep in (True, False))
    assert [event["kept"] for event in events(kept, "validation")] == [True, False, False, False]
    states = [open_artifact(folder).state for folder in (kept, last)]
    assert any(not states[0][name].equal(states[1][name]) for name in states[0])


def test_the_kept_state_is_the_one_that_is_scored_and_saved(run: Any) -> None:
    result = run(learning_rate=0.05, evaluate_every=1, epochs=3)
    scored = events(result.artifact, "validation")
    found = [event["metrics"]["accuracy"] for event in scored]
    kept = [event["metrics"]["accuracy"] for event in scored if event["kept"]]
    assert result.metrics["validation"]["accuracy"].value == kept[-1]
    # A score as high as any before it is kept.
    assert all(event["kept"] for place, event in enumerate(scored) if found[place] >= max(found[: place + 1]))


def test_patience_stops_early(run: Any) -> None:
    result = run(learning_rate=1e-9, evaluate_every=1, patience=2)
    assert result.steps == 3
    assert validations(result.artifact) == [1, 2, 3]


def test_tokens_may_count_instead_of_rows(run: Any) -> None:
    steps = events(run(batch_tokens=60).artifact, "step")
    assert len({step["rows"] for step in steps}) > 1
    assert all(step["tokens"] <= 60 for step in steps)


@pytest.mark.parametrize(
    "training",
    [
        {"label_smoothing": 0.3},
        {"class_weights": {"bad": 1.0, "good": 4.0}},
        {"head_learning_rate": 1e-6},
        {"weight_decay": 10.0},
        {"clip": 0.01},
        {"schedule": "constant"},
        {"schedule": "cosine"},
        {"warmup": 0.0},
        {"warmup": 5},
        {"seed": 3},
        {"batch_size": 6},
    ],
    ids=json.dumps,
)
def test_what_shapes_the_steps_changes_the_losses(run: Any, training: dict[str, Any]) -> None:
    plain = losses(run("plain", epochs=1, warmup=1).artifact)
    assert losses(run("changed", **{"epochs": 1, "warmup": 1, **training}).artifact) != plain


def test_balanced_weights_change_nothing_where_the_classes_are(run: Any) -> None:
    assert losses(run("weighed", class_weights="balanced").artifact) == pytest.approx(losses(run("plain").artifact))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_artifact_has_the_number_format_that_was_asked_for(run: Any, dtype: str) -> None:
    artifact = open_artifact(run(save_dtype=dtype, max_steps=1).artifact)
    assert {str(tensor.dtype) for tensor in artifact.state.values()} == {f"torch.{dtype}"}


@pytest.mark.parametrize("rows", [1, 3])
def test_the_artifact_has_as_many_golden_rows_as_were_asked_for(run: Any, rows: int) -> None:
    assert len(open_artifact(run(golden_rows=rows, max_steps=1).artifact).manifest.golden.rows) == rows


def test_a_stream_trains_for_the_steps_that_it_is_given(run: Any) -> None:
    result = run(data={"streaming": True, "validation": 0.3}, max_steps=20, evaluate_every="epoch")
    assert result.steps == 20
    assert validations(result.artifact) == list(range(2, 21, 2))  # a tenth of the steps stands for an epoch


def test_a_stream_without_a_number_of_steps_is_refused_and_leaves_nothing(run: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="does not say how many rows"):
        run(data={"streaming": True})
    assert entries(tmp_path / "out") == []


def test_a_metric_that_the_task_does_not_have_is_refused_before_anything_trains(
    tiny_backbones: Any, tmp_path: Path
) -> None:
    backbone = tiny_backbones["bert"]
    with pytest.raises(RecipeError, match="accuracy"):
        train(recipe(tmp_path, backbone, task={"metric": "bleu"}), backbone=backbone)
    assert entries(tmp_path / "out") == []


def test_a_lower_loss_metric_can_pick_the_best(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["gpt2"]
    plan = recipe(tmp_path, backbone, "causal-lm", training={"evaluate_every": 1, "learning_rate": 0.05})
    found = events(train(plan, backbone=backbone).artifact, "validation")
    lowest = float("inf")
    for event in found:
        assert event["kept"] or event["metrics"]["perplexity"] > lowest
        lowest = min(lowest, event["metrics"]["perplexity"])


def test_computing_layers_again_changes_no_loss(run: Any) -> None:
    losses = [
        [event["loss"] for event in events(run(str(again), gradient_checkpointing=again).artifact, "step")]
        for again in (False, True)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
