"""Runs that start from an artifact: what it answered stays, labels may be added, everything else is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import adapterkit as ak
from adapterkit.cli import app
from adapterkit.errors import AdapterkitError, ContractError, TrainingError
from adapterkit.training.learner import Learner
from tests.training.worlds import FAMILY, METHODS, bytes_of, recipe, rows_of, train, write_rows

STILL = {"learning_rate": 1e-30, "weight_decay": 0.0, "epochs": 1, "save_dtype": "float32"}
"""Steps that change no weight: 1e-30 is far below the last digit of each."""
ASKED = {
    "text-classification": [{"text": "lost card"}, {"text": "found a boat"}],
    "token-classification": [{"tokens": ["a", "card", "in", "London"]}],
    "question-answering": [{"question": "where is it", "context": "the card is in London"}],
    "multiple-choice": [{"question": "card", "choices": ["lost", "found"]}],
}


def manifest(folder: Path) -> Any:
    return json.loads((folder / "adapterkit.json").read_text())


def logits(folder: Path, backbone: Any, rows: Any) -> torch.Tensor:
    with ak.load(folder, backbone) as adapted, torch.inference_mode():
        features = adapted.task.encode(rows, adapted.vocabulary, "predict").features
        return adapted(adapted.task.collate(features, adapted.vocabulary).inputs)


def with_new_label(tmp_path: Path, label: str = "a new one") -> str:
    """Rows whose labels are "bad", "good" and one that sorts before both."""
    rows = rows_of("text-classification", 40)
    return write_rows(tmp_path / "new.jsonl", [{**row, "label": label} if n % 3 else row for n, row in enumerate(rows)])


@pytest.fixture(scope="module")
def parent(tiny_backbones: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parent")
    artifact: Path = train(recipe(folder, tiny_backbones["bert"]), backbone=tiny_backbones["bert"]).artifact
    return artifact


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        ("text-classification", "bottleneck"),
        ("token-classification", "lora"),
        ("question-answering", "lora"),
        ("multiple-choice", "none"),
    ],
)
def test_a_run_that_moves_nothing_answers_as_what_it_started_from(
    tiny_backbones: Any, tmp_path: Path, kind: str, method: str
) -> None:
    backbone = tiny_backbones[FAMILY[kind]]
    blocks: dict[str, Any] = {"method": METHODS[method], "data": {"test": None, "validation": None}}
    first = train(recipe(tmp_path, backbone, kind, training={"max_steps": 3}, **blocks), backbone=backbone).artifact
    plan = recipe(tmp_path, backbone, kind, **blocks, output=str(tmp_path / "next"))
    plan["training"] |= {**STILL, "start_from": str(first), "max_steps": 2, "seed": 5}
    after = train(plan, backbone=backbone).artifact
    assert torch.equal(logits(after, backbone, ASKED[kind]), logits(first, backbone, ASKED[kind]))


@pytest.mark.parametrize("head", [{"kind": "mlp"}, {"kind": "family"}], ids=str)
def test_new_labels_get_rows_of_their_own_and_old_ones_answer_as_before(
    tiny_backbones: Any, tmp_path: Path, head: dict[str, Any]
) -> None:
    backbone = tiny_backbones["bert"]
    first = train(recipe(tmp_path, backbone, head=head), backbone=backbone).artifact
    plan = recipe(tmp_path, backbone, head=head, output=str(tmp_path / "next"))
    plan["data"] |= {"train": with_new_label(tmp_path)}
    after = train({**plan, "training": {**plan["training"], **STILL, "start_from": str(first)}}, backbone=backbone)
    assert manifest(after.artifact)["task"]["labels"] == ["bad", "good", "a new one"]
    rows = ASKED["text-classification"]
    # The product with a wider matrix may add in another order.
    torch.testing.assert_close(
        logits(after.artifact, backbone, rows)[:, :2], logits(first, backbone, rows), rtol=1e-6, atol=1e-6
    )


def test_labels_that_the_recipe_orders_otherwise_are_found_by_their_names(
    tiny_backbones: Any, tmp_path: Path, parent: Path
) -> None:
    backbone = tiny_backbones["bert"]
    plan = recipe(tmp_path, backbone, task={"labels": ["good", "a new one", "bad"]})
    plan["training"] |= {**STILL, "start_from": {"run": str(parent), "take": ["head", "method"]}}
    after = train(plan, backbone=backbone).artifact
    rows = ASKED["text-classification"]
    torch.testing.assert_close(
        logits(after, backbone, rows)[:, [2, 0]], logits(parent, backbone, rows), rtol=1e-6, atol=1e-6
    )


def test_the_manifest_names_what_a_run_started_from(tiny_backbones: Any, tmp_path: Path, parent: Path) -> None:
    backbone = tiny_backbones["bert"]
    plan = recipe(tmp_path, backbone, training={"start_from": str(parent), "epochs": 1})
    found = manifest(train(plan, backbone=backbone).artifact)
    before = manifest(parent)["sha256"]
    assert (found["version"], found["parent"], found["history"]) == (2, before, [{"version": 1, "sha256": before}])
    assert found["recipe"]["training"]["start_from"] == {"run": str(parent), "take": None, "among": None}


@pytest.mark.parametrize("asked", ["training.start_from={run}", "method.kind=none"])
def test_a_domain_that_has_moved_is_one_command_on_the_recipe_that_an_artifact_keeps(
    asked: str, tmp_path: Path, parent: Path
) -> None:
    words = [f"data.train={with_new_label(tmp_path)}", asked.format(run=parent), f"output={tmp_path / 'moved'}"]
    done = CliRunner().invoke(app, ["train", str(parent), *words, "--quiet"])
    assert done.exit_code == 0, done.output
    was, told = manifest(parent), manifest(tmp_path / "moved")
    assert told["task"]["labels"][-1 if "start_from" in asked else 0] == "a new one"
    assert told["backbone"]["fingerprint"] == was["backbone"]["fingerprint"]
    assert told["method"]["kind"] == ("lora" if "start_from" in asked else "none")


def test_the_method_alone_serves_another_task_and_the_head_alone_another_method(
    tiny_backbones: Any, tmp_path: Path, parent: Path
) -> None:
    backbone = tiny_backbones["bert"]
    tags = recipe(tmp_path, backbone, "token-classification", output=str(tmp_path / "tags"))
    tags["training"] |= {**STILL, "max_steps": 1, "start_from": {"run": str(parent), "take": ["method"]}}
    own = recipe(tmp_path, backbone, method={"kind": "none"}, output=str(tmp_path / "head"))
    own["training"] |= {**STILL, "max_steps": 1, "start_from": str(parent)}
    for plan, taken in ((tags, "lora"), (own, "adapterkit_head")):
        after, before = (
            {name: tensor for name, tensor in ak.artifact.open_artifact(folder).state.items() if taken in name}
            for folder in (train(plan, backbone=backbone).artifact, parent)
        )
        assert after.keys() == before.keys() != set()
        assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_run_that_was_stopped_goes_on_as_if_it_never_was(
    tiny_backbones: Any, tmp_path: Path, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_backbones["bert"]
    plan = recipe(tmp_path, backbone, data={"train": with_new_label(tmp_path)}, training={"start_from": str(parent)})
    whole = train(plan, backbone=backbone, overrides=[f"output={tmp_path / 'whole'}"]).artifact
    take, taken = Learner.step, []

    def step(self: Learner, clip: float | None, factor: float) -> float:
        taken.append(clip)
        if len(taken) == 3:
            signal.raise_signal(signal.SIGINT)
        return take(self, clip, factor)

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(KeyboardInterrupt):
        train(plan, backbone=backbone)
    assert bytes_of(train(plan, backbone=backbone, resume=True).artifact) == bytes_of(whole)


def test_a_run_does_not_go_on_from_another_start(tiny_backbones: Any, tmp_path: Path, parent: Path) -> None:
    backbone = tiny_backbones["bert"]
    first = train(recipe(tmp_path, backbone, output=str(tmp_path / "first")), backbone=backbone).artifact
    plan = recipe(tmp_path, backbone, training={"start_from": str(first)})
    pause = {"pause_after": lambda batches: 4}
    with pytest.raises(ak.training.Paused):
        ak.training.train(plan, backbone=backbone, quiet=True, **pause)
    other = ["training.seed=7", f"output={first}"]
    train(recipe(tmp_path, backbone), backbone=backbone, overrides=other, overwrite=True)
    with pytest.raises(TrainingError, match="belongs to another run") as refused:
        train(plan, backbone=backbone, resume=True)
    assert [problem.partition(":")[0] for problem in refused.value.problems] == ["before"]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["method.rank=2"], ["method.rank: the artifact has 4, this recipe 2"]),
        (["method.kind=bottleneck"], ["method.kind: the artifact has lora, this recipe bottleneck"]),
        (["method.sites=[attention.query]", "head.kind=mlp"], ["method.sites: ", "head.kind: "]),
        (["method.alpha=4", "task.labels=[bad, other]"], ["method.alpha: ", "task.labels: the artifact has 'good'"]),
        (["training.start_from.take=[head]", "head.pooling=last", "method.rank=9"], ["head.pooling: "]),
    ],
    ids=["rank", "kind", "sites and head", "scale and labels", "the head alone"],
)
def test_what_does_not_fit_is_refused_all_at_once(
    tiny_backbones: Any, tmp_path: Path, parent: Path, overrides: list[str], told: list[str]
) -> None:
    rows = [{"text": f"{number}", "label": "bad"} for number in range(20)] + [{"text": "x", "label": "other"}]
    plan = recipe(tmp_path, tiny_backbones["bert"], training={"start_from": {"run": str(parent)}})
    plan["data"] = {"train": write_rows(tmp_path / "rows.jsonl", rows)}
    with pytest.raises(ContractError, match="cannot start from") as refused:
        train(plan, backbone=tiny_backbones["bert"], overrides=overrides)
    assert len(refused.value.problems) == len(told)
    assert all(problem.startswith(start) for problem, start in zip(refused.value.problems, told, strict=True))
    assert not (tmp_path / "out").exists()


def test_another_backbone_is_refused(tiny_backbones: Any, tmp_path: Path, parent: Path) -> None:
    backbone = tiny_backbones["bert-plain"]
    with pytest.raises(ContractError, match="fingerprint: artifact was trained on"):
        train(recipe(tmp_path, backbone, training={"start_from": str(parent)}), backbone=backbone)


def test_what_the_two_do_not_have_is_not_taken(tiny_backbones: Any, tmp_path: Path, parent: Path) -> None:
    backbone = tiny_backbones["bert"]
    blocks: dict[str, Any] = {"method": {"kind": "none"}, "output": str(tmp_path / "head")}
    head = train(recipe(tmp_path, backbone, **blocks), backbone=backbone).artifact
    for plan, told in (
        (recipe(tmp_path, backbone, training={"start_from": str(head)}), "method: the artifact has none"),
        (
            recipe(
                tmp_path,
                backbone,
                method={"kind": "none"},
                training={"start_from": {"run": str(parent), "take": ["method"]}},
            ),
            "method: this recipe has none that could start from another",
        ),
    ):
        with pytest.raises(TrainingError) as refused:
            train(plan, backbone=backbone)
        assert refused.value.problems == (told,)


class TestNearest:
    """Three candidates: of the same task, of another method, and a head alone."""

    @pytest.fixture
    def runs(self, tiny_backbones: Any, tmp_path: Path, parent: Path) -> Path:
        runs = tmp_path / "runs"
        runs.mkdir()
        (runs / "same").symlink_to(parent)
        small = recipe(tmp_path, tiny_backbones["bert"], method={"kind": "lora", "rank": 1}, output=str(runs / "small"))
        train(small, backbone=tiny_backbones["bert"])
        return runs

    def test_it_is_the_one_whose_last_layer_a_probe_likes_best(
        self, tiny_backbones: Any, tmp_path: Path, runs: Path
    ) -> None:
        backbone = tiny_backbones["bert"]
        plan = recipe(tmp_path, backbone, training={"start_from": {"run": "nearest", "among": [str(runs)]}})
        after = train(plan, backbone=backbone).artifact
        ranked = ak.nearest([runs / "same"], plan["data"]["train"], backbone=backbone)
        top = max(start.layer for start in ranked.found.starts)
        best = next(start for start in ranked.found.starts if start.layer == top)
        assert manifest(after)["parent"] == best.artifact
        start = manifest(after)["recipe"]["training"]["start_from"]
        assert start == (best.artifact and {"run": str(runs / "same"), "take": ["method"], "among": None})

    def test_nothing_fits_is_told_with_the_reasons(self, tiny_backbones: Any, tmp_path: Path, runs: Path) -> None:
        plan = recipe(tmp_path, tiny_backbones["bert"], method={"kind": "lora", "rank": 3})
        plan["training"]["start_from"] = {"run": "nearest", "among": [str(runs)]}
        with pytest.raises(TrainingError, match="can be started from") as refused:
            train(plan, backbone=tiny_backbones["bert"])
        assert refused.value.problems == (
            f"{runs / 'same'}: method.rank: the artifact has 4, this recipe 3",
            f"{runs / 'small'}: method.rank: the artifact has 1, this recipe 3",
        )

    def test_where_nobody_looks_it_is_refused(self, tiny_backbones: Any, tmp_path: Path) -> None:
        plan = recipe(tmp_path, tiny_backbones["bert"], training={"start_from": "nearest"})
        with pytest.raises(AdapterkitError, match="nobody has looked"):
            ak.training.train(plan, backbone=tiny_backbones["bert"], quiet=True)
