"""Two ways in for those who have a loop: a Module to optimise, and transformers' Trainer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import EarlyStoppingCallback, TrainerCallback, TrainingArguments

import adapterkit as ak
from adapterkit.artifact import open_artifact
from adapterkit.errors import RecipeError, TrainingError
from tests.training.worlds import losses, rows_of, train

KIND = "text-classification"
ROWS = rows_of(KIND, 24)
LABELS = sorted({row["label"] for row in ROWS})


@pytest.fixture(scope="module")
def folder(tiny_folders: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BERT without dropout, so that two loops that draw otherwise can be compared."""
    copy = tmp_path_factory.mktemp("backbone") / "calm"
    shutil.copytree(tiny_folders["bert"], copy)
    config = json.loads((copy / "config.json").read_text())
    calm = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (copy / "config.json").write_text(json.dumps({**config, **calm}))
    return copy


@pytest.fixture(scope="module")
def backbone(folder: Path) -> ak.Backbone:
    return ak.Backbone.load(str(folder), dtype="float32", device="cpu")


def arguments(output: Path, **settings: Any) -> TrainingArguments:
    plain = {
        "num_train_epochs": 5, "per_device_train_batch_size": len(ROWS), "learning_rate": 1e-3, "weight_decay": 0.01,
        "report_to": "none", "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True, "use_cpu": True,
    }  # fmt: skip
    return TrainingArguments(output_dir=str(output), **{**plain, **settings})


def test_trainer_learns_what_our_own_loop_learns(backbone: ak.Backbone, folder: Path, tmp_path: Path) -> None:
    """One batch holds all rows, so that their order plays no part; both fall linearly from the same rate."""
    recipe = {
        "task": {"kind": KIND},
        "backbone": {"name": str(folder), "device": "cpu"},
        "data": {"validation": None},
        "training": {
            "epochs": 5, "batch_size": len(ROWS), "learning_rate": 1e-3, "warmup": 0, "precision": "fp32",
            "trackers": [], "cache": "off",
        },
        "output": str(tmp_path / "ours"),
    }  # fmt: skip
    ours = losses(train(recipe, data={"train": ROWS}, backbone=backbone).artifact)
    trainer = ak.AdapterTrainer(ak.build(backbone, KIND, rows=ROWS), arguments(tmp_path / "theirs"), train_rows=ROWS)
    trainer.train()
    theirs = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert len(ours) == len(theirs) == 5
    assert theirs == pytest.approx(ours, abs=2e-4)  # Trainer's log rounds to four digits
    assert ours[-1] < ours[0]


def test_two_parts_of_a_step_are_averaged(backbone: ak.Backbone, tmp_path: Path) -> None:
    whole, halves = (
        ak.AdapterTrainer(
            ak.build(backbone, KIND, rows=ROWS),
            arguments(tmp_path, num_train_epochs=1, per_device_train_batch_size=24 // n, gradient_accumulation_steps=n),
            train_rows=ROWS,
        )
        for n in (1, 2)
    )
    whole.train()
    halves.train()
    for one, other in zip(whole.adapted.state().values(), halves.adapted.state().values(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_checkpoints_hold_the_adapter_alone_and_training_goes_on_from_them(
    backbone: ak.Backbone, tmp_path: Path
) -> None:
    seen: list[int] = []

    class Counting(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            seen.append(state.global_step)

    def trainer(**settings: Any) -> Any:
        return ak.AdapterTrainer(
            ak.build(backbone, KIND, rows=ROWS),
            arguments(tmp_path, save_strategy="steps", save_steps=2, **settings),
            train_rows=ROWS,
            callbacks=[Counting()],
        )

    whole = trainer()
    whole.train()
    size = (tmp_path / "checkpoint-2" / "adapter.safetensors").stat().st_size
    assert size < sum(p.numel() * 4 for p in backbone.trunk.parameters()) / 4
    assert not (tmp_path / "checkpoint-2" / "model.safetensors").exists()
    again = trainer()
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert seen == [1, 2, 3, 4, 5, 3, 4, 5]
    for one, other in zip(whole.adapted.state().values(), again.adapted.state().values(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_best_state_is_loaded_and_the_artifact_has_its_scores(backbone: ak.Backbone, tmp_path: Path) -> None:
    trainer = ak.AdapterTrainer(
        ak.build(backbone, KIND, rows=ROWS),
        arguments(
            tmp_path / "work", eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True,
            metric_for_best_model="accuracy", num_train_epochs=3,
        ),
        train_rows=ROWS,
        eval_rows=rows_of(KIND, 40)[24:],
        callbacks=[EarlyStoppingCallback(early_stopping_patience=9)],
    )  # fmt: skip
    trainer.train()
    history = [line["eval_accuracy"] for line in trainer.state.log_history if "eval_accuracy" in line]
    assert trainer.evaluate()["eval_accuracy"] == max(history)
    artifact = trainer.save_artifact(tmp_path / "out")
    manifest = open_artifact(artifact).manifest
    assert manifest.metrics["validation"]["accuracy"].value == max(history)
    assert manifest.data.rows == {"train": len(ROWS)}
    assert ak.verify(artifact, backbone)


def test_a_loop_of_ones_own_trains_a_module_and_saves_it(backbone: ak.Backbone, tmp_path: Path) -> None:
    adapted = ak.build(backbone, {"kind": KIND, "labels": LABELS}, {"kind": "lora", "rank": 2}, {"kind": "linear"})
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    assert {id(p) for p in trained} == {
        id(p) for p in (*adapted.method_parameters().values(), *adapted.head_parameters().values())
    }
    optimizer = torch.optim.AdamW(trained, lr=2e-3)
    features = adapted.task.encode(ROWS, adapted.vocabulary).features
    batch = adapted.task.collate(features, adapted.vocabulary)
    found = []
    for _ in range(4):
        loss = adapted.task.loss(adapted(batch.inputs), batch).mean
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(loss.detach()))
    assert found[-1] < found[0]
    answers = adapted.predict(ROWS)
    artifact = ak.save(adapted, tmp_path / "own", metrics={"test": {"accuracy": 0.75}})
    assert ak.verify(artifact, backbone)
    assert open_artifact(artifact).manifest.metrics["test"]["accuracy"].value == 0.75
    assert [row["label"] for row in ak.load(artifact, backbone).predict(ROWS)] == [row["label"] for row in answers]


def test_what_cannot_be_built_or_saved_says_why(backbone: ak.Backbone, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nobody says what the labels"):
        ak.build(backbone, KIND)
    with pytest.raises(RecipeError, match="method or head is not valid"):
        ak.build(backbone, KIND, {"kind": "lora", "rank": 0}, rows=ROWS)
    with pytest.raises(RecipeError, match="metrics name no split"):
        ak.save(ak.build(backbone, KIND, rows=ROWS), tmp_path / "x", metrics={"accuracy": 0.5})  # type: ignore[dict-item]
    assert not (tmp_path / "x").exists()


def test_a_function_makes_a_new_adapter_for_every_training(backbone: ak.Backbone, tmp_path: Path) -> None:
    made: list[Any] = []

    def make(trial: Any) -> Any:
        made.append(ak.build(backbone, KIND, rows=ROWS))
        return made[-1]

    trainer = ak.AdapterTrainer(make, arguments(tmp_path, num_train_epochs=1), train_rows=ROWS)
    trainer.train()
    assert trainer.adapted is made[-1]
    fresh = ak.build(backbone, KIND, rows=ROWS).state()
    assert not all(torch.equal(one, fresh[name]) for name, one in trainer.adapted.state().items())


@pytest.mark.filterwarnings("ignore::DeprecationWarning:optuna.*")
def test_optuna_searches_a_rate_and_a_rank(backbone: ak.Backbone, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna", reason="the search of another package")
    ranks: list[int] = []

    def fresh(trial: Any) -> Any:
        ranks.append(2 if trial is None else trial.suggest_categorical("rank", [2, 4]))
        return ak.build(backbone, {"kind": KIND}, {"kind": "lora", "rank": ranks[-1]}, rows=ROWS)

    trainer = ak.AdapterTrainer(
        fresh,
        arguments(tmp_path, num_train_epochs=2, eval_strategy="epoch", save_strategy="no"),
        train_rows=ROWS,
        eval_rows=ROWS,
    )
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-7, 1e-2, log=True)},
        compute_objective=lambda scores: scores["eval_accuracy"],
        direction="maximize",
        n_trials=3,
        backend="optuna",
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    assert set(best.hyperparameters) == {"learning_rate", "rank"}
    assert {2, 4} <= set(ranks)
    trials = best.run_summary.trials if best.run_summary is not None else []
    assert all(trial.value <= best.objective for trial in trials)
    with pytest.raises(TrainingError, match="a search keeps no adapter"):
        trainer.save_artifact(tmp_path / "none")
    trainer.args.learning_rate = best.hyperparameters["learning_rate"]
    trainer.train()
    assert trainer.save_artifact(tmp_path / "best").is_dir()
