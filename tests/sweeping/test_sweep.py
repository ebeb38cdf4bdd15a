"""Sweeps from a grid to the best artifact: what they share, what they keep, and how they go on."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any
from unittest.mock import Mock
from xml.etree import ElementTree

import pytest

import adapterkit as ak
from adapterkit.errors import OutputError, RecipeError, SweepError
from adapterkit.sweeping.grid import parse_grid
from adapterkit.sweeping.points import make_points
from adapterkit.sweeping.summary import group_results
from adapterkit.training import reuse as shelves
from adapterkit.training.interrupt import Interrupt
from adapterkit.training.together import in_companies
from tests.training.ranks import command
from tests.training.worlds import bytes_of, events, recipe, rows_of, train, write_rows

# Python 3.12 warns of forks beside threads; nothing here waits for a lock of another thread.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

GRID = {"training.learning_rate": [0.002, 0.02], "seed": [0, 1]}


def swept(plan: Any, grid: Any = None, **arguments: Any) -> Any:
    return ak.sweep(plan, grid or GRID, quiet=True, **arguments)


def lines(folder: Path, name: str = "results.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


@pytest.fixture
def plan(tmp_path: Path, tiny_folders: Mapping[str, Path]) -> dict[str, Any]:
    return recipe(tmp_path, tiny_folders["bert"])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_folders: Mapping[str, Path]) -> tuple[dict[str, Any], Any]:
    """A finished sweep, to look at."""
    plan = recipe(tmp_path_factory.mktemp("sweep"), tiny_folders["bert"])
    return plan, swept(plan)


def test_every_point_is_the_artifact_that_training_it_alone_gives(done: tuple[Any, Any], tmp_path: Path) -> None:
    plan, result = done
    assert len(result.points) == 4
    name = "learning_rate=0.02,seed=1"
    overrides = ["training.learning_rate=0.02", "training.seed=1", f"output={tmp_path / 'alone'}"]
    alone = train(plan, overrides=overrides)
    assert bytes_of(result.folder / "points" / name) == bytes_of(alone.artifact)
    assert result.points[name]["value"] == alone.metrics["validation"]["accuracy"].value
    assert result.points[name]["metrics"]["test"]["mcc"]["value"] == alone.metrics["test"]["mcc"].value


def test_seeds_of_a_setting_are_averaged_and_the_best_setting_gives_the_best_artifact(done: tuple[Any, Any]) -> None:
    _, result = done
    by_setting: dict[float, list[float]] = {}
    for line in lines(result.folder):
        by_setting.setdefault(line["settings"]["training.learning_rate"], []).append(line["value"])
    assert len(result.groups) == len(by_setting) == 2
    for group in result.groups:
        values = by_setting[group.settings["training.learning_rate"]]
        assert group.mean == pytest.approx(mean(values))
        assert group.spread == pytest.approx(stdev(values))
    first = result.groups[0]
    assert first.mean == max(mean(values) for values in by_setting.values())
    assert result.best in first.points
    assert result.points[result.best]["value"] == max(first.values)
    assert bytes_of(result.artifact) == bytes_of(result.folder / "points" / result.best)
    assert ak.verify(result.artifact, ak.Backbone.load(result_backbone(result), dtype="float32"))
    assert set(result.metrics) == {"validation", "test"}
    picture = ElementTree.fromstring(result.picture.read_text(encoding="utf-8"))
    names = [text.text or "" for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert [name for name in names if name.startswith("learning_rate=")] == [group.name for group in result.groups]


def test_what_is_within_noise_of_the_best_is_marked() -> None:
    """Halves of the intervals are 0.03 and 0.04, so that a difference of up to 0.05 may be chance."""

    def line(value: float, half: float, status: str = "done") -> dict[str, Any]:
        interval = {"value": value, "low": value - half, "high": value + half}
        spent = {"status": status, "steps": 1, "seconds": 1.0, "metric": "accuracy", "value": value}
        return {**spent, "metrics": {"validation": {"accuracy": interval}} if status == "done" else {}}

    results = {"a": line(0.90, 0.03), "b": line(0.86, 0.04), "c": line(0.84, 0.04), "d": line(0.95, 0.1, "halved")}
    points: Any = [Mock(group=name, settings={}) for name in results]
    for point, name in zip(points, results, strict=True):
        point.name = name
    groups = group_results(points, results, higher_is_better=True)
    assert [(group.name, group.mark) for group in groups] == [
        ("a", "best"), ("b", "within noise"), ("c", ""), ("d", "halved"),
    ]  # fmt: skip
    assert (groups[0].low, groups[0].high) == (pytest.approx(0.87), pytest.approx(0.93))


def result_backbone(result: Any) -> str:
    name: str = json.loads((result.artifact / "adapterkit.json").read_text())["backbone"]["name"]
    return name


def test_the_backbone_is_loaded_once_and_rows_are_encoded_once_for_each_seed(
    plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("load_backbone", "read_recipe_rows", "encode_splits"):
        real = getattr(shelves, name)
        monkeypatch.setattr(
            shelves, name, lambda *given, real=real, name=name, **more: (calls.append(name), real(*given, **more))[1]
        )
    swept(plan, {"method.rank": [1, 2], "seed": [0, 1]}, overrides=["training.max_steps=1"])
    assert calls.count("load_backbone") == 1
    assert calls.count("encode_splits") == 2  # validation rows are drawn by the seed
    assert calls.count("read_recipe_rows") == 3  # and the check before has read those of the first seed


def test_states_are_kept_for_all_points_where_one_alone_would_not_pay(
    tmp_path: Path,
    tiny_folders: Mapping[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One epoch of 3 layers, the last one adapted: 4 passes a token without, 2 with and 2 to compute what is kept."""
    monkeypatch.setenv("ADAPTERKIT_CACHE", str(tmp_path / "cache"))
    plan = recipe(tmp_path, tiny_folders["bert"], method={"kind": "lora", "top": 1}, training={"epochs": 1})
    alone = train(plan, overrides=[f"output={tmp_path / 'alone'}"])
    (begun,) = events(alone.artifact, "begin")
    assert begun["trunk_cache"] == "not used, over 1 epochs it would not pay: 2 of 3 layers are below"
    result = ak.sweep(plan, GRID)
    decisions = [point["trunk_cache"] for point in result.points.values()]
    assert all("texts below layer 2 of 3" in decision for decision in decisions)
    assert [" 0 of them new" in decision for decision in decisions] == [False, True, True, True]
    assert capsys.readouterr().err.count("trunk cache: ") == 1


def test_points_trained_together_are_compared_as_ever_and_say_so(
    done: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, apart = done
    monkeypatch.setattr("adapterkit.training.together.driving.LEAST_GAIN", 0.0)
    result = ak.sweep(plan, GRID, together=3, overrides=[f"output={tmp_path / 'together'}"])
    said = capsys.readouterr().err
    assert "together: 3 in one batch, " in said  # and the fourth point is left alone
    assert [line["in_one_batch"] for line in result.points.values()].count(True) == 3
    assert {name: line["settings"] for name, line in result.points.items()} == {
        name: line["settings"] for name, line in apart.points.items()
    }
    assert all(line["steps"] == 8 and line["status"] == "done" for line in result.points.values())
    assert (result.artifact / "adapterkit.json").is_file()


def test_a_stopped_sweep_of_points_together_goes_on(plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapterkit.training.together.driving.LEAST_GAIN", 0.0)
    real, asked = Interrupt.wished, iter(range(1000))

    def wished(interrupt: Interrupt, accelerator: Any) -> bool:
        if next(asked) == 12:  # the fourth step of four points
            signal.raise_signal(signal.SIGINT)
        return real(interrupt, accelerator)

    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "wished", wished)
        with pytest.raises(KeyboardInterrupt):
            swept(plan, together=4)
    checkpoints = list((tmp_path / "out-sweep" / "points").glob("*/training/checkpoint"))
    assert len(checkpoints) == 4
    again = swept(plan, together=4)
    assert all(line["steps"] == 8 and line["status"] == "done" for line in again.points.values())


def test_only_points_that_differ_in_how_they_learn_stand_side_by_side(
    plan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = parse_grid(["method.rank=1,2", "training.learning_rate=0.01,0.02", "seed=0,1"])
    points = make_points(plan, axes, [], tmp_path)
    recipes = [point.recipe for point in points]
    assert in_companies(recipes, 3) == [slice(0, 3), slice(3, 4), slice(4, 7), slice(7, 8)]
    monkeypatch.setattr("adapterkit.training.together.driving.tracker_names", lambda settings: ["tensorboard", "wandb"])
    assert in_companies(recipes, 3) == [
        slice(place, place + 1) for place in range(8)
    ]  # wandb follows one run of a process


def test_less_than_one_point_at_a_time_is_refused(plan: Any) -> None:
    with pytest.raises(SweepError, match="together is 0, expected at least 1"):
        swept(plan, together=0)


def test_a_note_on_the_recipe_is_told_once(
    plan: Any, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    ak.sweep(plan, {"training.head_learning_rate": [0.01, 0.1]}, overrides=["method.kind=none"])
    said = capsys.readouterr().err + caplog.text
    assert said.count("method.kind=none: left out") == 1


def test_a_finished_sweep_trains_nothing_again(done: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    plan, result = done
    monkeypatch.setattr("adapterkit.sweeping.runner.train", lambda *_, **__: pytest.fail("trained again"))
    again = swept(plan)
    assert again.points == result.points
    assert again.best == result.best


def test_a_stopped_sweep_goes_on_and_ends_as_if_it_had_never_stopped(
    done: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, whole = done
    stopping = f"output={tmp_path / 'stopped'}"
    asked = iter([*[False] * 12, True])  # 8 steps a point: in the middle of the second
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "wished", lambda self, accelerator: next(asked))
        with pytest.raises(KeyboardInterrupt):
            swept(plan, overrides=[stopping])
    assert len(lines(tmp_path / "stopped")) == 1
    again = swept(plan, overrides=[stopping])
    assert {name: line["value"] for name, line in again.points.items()} == {
        name: line["value"] for name, line in whole.points.items()
    }
    for name in whole.points:
        assert bytes_of(again.folder / "points" / name) == bytes_of(whole.folder / "points" / name)
    assert all(line["steps"] == 8 for line in again.points.values())


def test_a_sweep_that_was_killed_goes_on(done: tuple[Any, Any], tmp_path: Path) -> None:
    plan, whole = done
    file, folder = tmp_path / "plan.json", tmp_path / "killed"
    file.write_text(json.dumps({**plan, "output": str(folder)}))
    results = folder / "results.jsonl"
    axes = [f"{path}={','.join(map(str, values))}" for path, values in GRID.items()]
    with command(["sweep", str(file), f"output={folder}", "--grid", *axes], tmp_path / "log") as process:
        while process.is_alive() and not (results.is_file() and results.read_bytes().count(b"\n") >= 1):
            time.sleep(0.005)
        process.kill()
    with results.open("ab") as torn:
        torn.write(b'{"point": "learn\xc3')  # as a crash in the middle of a character leaves it
    strange = '[]\n{"point": "learning_rate=0.02,seed=1"}\n{"point": 1, "status": "done"}\n'
    results.write_bytes(strange.encode() + results.read_bytes())  # and what was never written here
    again = swept(plan, overrides=[f"output={folder}"])
    assert again.best == whole.best
    for name in whole.points:
        assert bytes_of(again.folder / "points" / name) == bytes_of(whole.folder / "points" / name)


def test_a_point_that_was_saved_and_not_written_down_is_not_trained_again(
    done: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, whole = done
    folder = tmp_path / "copy"
    shutil.copytree(whole.folder, folder)
    kept = (folder / "results.jsonl").read_text().splitlines(keepends=True)
    (folder / "results.jsonl").write_text("".join(kept[:-1]))
    monkeypatch.setattr("adapterkit.sweeping.runner.train", lambda *_, **__: pytest.fail("trained again"))
    assert swept(plan, overrides=[f"output={folder}"]).points.keys() == whole.points.keys()


def test_another_sweep_in_the_folder_is_refused_naming_what_differs_and_replaced_on_demand(plan: Any) -> None:
    few = ["training.max_steps=1"]
    first = swept(plan, {"method.rank": [1, 2]}, overrides=few)
    with pytest.raises(SweepError) as caught:
        swept(plan, {"method.rank": [1, 3]}, overrides=[*few, "training.batch_size=4"])
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "grid.method.rank",
        "recipe.training.batch_size",
    ]
    second = swept(plan, {"method.rank": [1, 3]}, overrides=few, overwrite=True)
    assert second.folder == first.folder
    assert set(second.points) == {"rank=1", "rank=3"}
    assert sorted(path.name for path in (second.folder / "points").iterdir()) == ["rank=1", "rank=3"]


def test_rows_that_changed_in_between_are_refused(plan: Any, tmp_path: Path) -> None:
    result = swept(plan, {"method.rank": [1, 2]}, overrides=["training.max_steps=1"])
    results = result.folder / "results.jsonl"
    results.write_text(results.read_text().splitlines(keepends=True)[0])
    shutil.rmtree(result.folder / "points" / "rank=2")
    write_rows(tmp_path / "text-classification.jsonl", rows_of("text-classification", 39))
    with pytest.raises(SweepError, match="rows have changed"):
        swept(plan, {"method.rank": [1, 2]}, overrides=["training.max_steps=1"])


def test_a_folder_that_is_no_sweep_is_left_alone(plan: Any, tmp_path: Path) -> None:
    (tmp_path / "out-sweep").mkdir()
    (tmp_path / "out-sweep" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="holds no sweep"):
            swept(plan, overwrite=overwrite)
    assert (tmp_path / "out-sweep" / "thesis.txt").read_text() == "years of work"


def test_points_that_cannot_be_trained_are_all_found_before_any_is(plan: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        swept(plan, {"method.rank": [0, 2], "training.learning_rate": [-1.0, 0.1]})
    assert "3 of 4 points" in caught.value.summary
    assert "method.rank" in caught.value.problems[0]
    assert "rank=0,learning_rate=-1" in caught.value.problems[0]
    assert "training.learning_rate" in caught.value.problems[1]
    with pytest.raises(RecipeError) as caught:
        swept(plan, {"method.sites": ["auto", ["nowhere"], ["layer.output"]], "seed": [0, 1]})
    assert "4 of 6 points" in caught.value.summary
    assert [problem.partition(" [")[0] for problem in caught.value.problems] == [
        "site 'nowhere': not in this backbone",
        "site 'layer.output': not a linear, which LoRA needs",
    ]
    assert not (tmp_path / "out-sweep" / "points").exists()
    assert not (tmp_path / "out-sweep" / "sweep.json").exists()


def test_a_rate_that_nothing_learns_at_is_no_axis(plan: Any) -> None:
    rates = {"training.learning_rate": [0.01, 0.1]}
    head = ["method.kind=none", "training.head_learning_rate=0.05"]
    with pytest.raises(RecipeError) as caught:
        swept(plan, rates, overrides=head)
    (problem,) = caught.value.problems
    reason = "has no effect, only the head learns, at training.head_learning_rate [all points]"
    assert problem == f"training.learning_rate: {reason}"
    few = ["training.max_steps=1", *head[1:]]
    assert len(swept(plan, {"method.kind": ["none", "lora"], **rates}, overrides=few).points) == 4


def test_a_point_that_diverges_is_noted_and_the_others_go_on(plan: Any) -> None:
    result = swept(plan, {"training.learning_rate": [1e30, 0.01]}, overrides=["training.max_steps=2"])
    failed = result.points["learning_rate=1e+30"]
    assert failed["status"] == "failed"
    assert failed["value"] is None
    assert "step 1 is inf" in failed["reason"]
    assert result.best == "learning_rate=0.01"
    with pytest.raises(SweepError, match="no point of the sweep has a score"):
        swept(plan, {"training.learning_rate": [1e30]}, overrides=["output=" + str(result.folder) + "-2"])


def test_a_sweep_without_validation_rows_is_refused(plan: Any) -> None:
    with pytest.raises(SweepError, match=r"data\.validation"):
        swept({**plan, "data": {**plan["data"], "validation": None}})


def test_two_processes_do_not_work_on_one_sweep(plan: Any, tmp_path: Path) -> None:
    from adapterkit.sweeping.ledger import Ledger

    with Ledger(tmp_path / "out-sweep").held(), pytest.raises(OutputError, match="another process"):
        swept(plan)
