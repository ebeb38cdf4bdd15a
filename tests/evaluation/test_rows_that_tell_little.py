"""Rows that tell little or nothing: every verb that judges gives a clear error, or figures that mean something."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import adapterkit as ak
from adapterkit.errors import AdapterkitError
from adapterkit.evaluation import record_evaluation
from adapterkit.records import Record
from adapterkit.sweeping import sweep
from adapterkit.sweeping.ablation import ablation_record, define_ablation
from tests.training.worlds import METHODS, recipe, rows_of, train, write_rows

KIND = "text-classification"
FINE = rows_of(KIND, 40)


def labelled(*labels: Any) -> list[dict[str, Any]]:
    return [{**row, "label": labels[place % len(labels)]} for place, row in enumerate(FINE)]


ROWS: Mapping[str, list[dict[str, Any]]] = {
    "nothing": [],
    "one row": FINE[:1],
    "two rows": FINE[:2],
    "one text": [{**row, "text": "the card"} for row in FINE],
    "blank texts": [{**row, "text": "  "} for row in FINE],
    "one class": labelled("good"),
    "a class of one row": [{**row, "label": "good" if place else "bad"} for place, row in enumerate(FINE)],
    "labels that training did not see": labelled("good", "odd"),
    "no labels": labelled(None),
    "labels that are no numbers": labelled(math.nan, 0.5),
    "labels without end": labelled(math.inf, 1.5),
}
LOOKS = {"probe", "nearest", "transfer"}
ANSWERS = {"evaluate", "compare", "calibrate", "attribute"}
LEARNS = {"ablate"}
EVERY = LOOKS | ANSWERS | LEARNS
REFUSED: Mapping[str, set[str]] = {
    "nothing": EVERY,
    "one row": {*LOOKS, *LEARNS, "calibrate"},
    "two rows": {*LOOKS, *LEARNS, "calibrate"},
    "one text": LEARNS,
    "blank texts": EVERY,
    "one class": LOOKS | LEARNS,
    "labels that training did not see": ANSWERS,
    "no labels": EVERY,
    "labels that are no numbers": ANSWERS | LEARNS,
    "labels without end": ANSWERS | LEARNS,
}
"""Rows -> the verbs that have to refuse them; the others may."""


@pytest.fixture(scope="module")
def world(tiny_backbones: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path, Path]:
    folder, backbone = tmp_path_factory.mktemp("hostile"), tiny_backbones["bert"]
    head = {"kind": "linear", "pooling": "mean"}
    a, b = (
        train(
            recipe(folder, backbone, head=head, method=METHODS[method], output=str(folder / method)), backbone=backbone
        )
        for method in ("none", "lora")
    )
    return backbone, a.artifact, b.artifact


def ablated(backbone: Any, a: Path, rows: list[dict[str, Any]], out: Path) -> Record:
    """What poolings are worth on half of the rows, learned from the other half."""
    made = recipe(a.parent, backbone, output=str(out), data={"train": write_rows(a.parent / "ablated.jsonl", rows)})
    made["data"]["validation"] = 0.5
    made["training"]["epochs"] = 1
    grid, changes = define_ablation("pooling", made, seeds=1)
    return ablation_record("pooling", sweep(made, grid, overrides=changes, quiet=True))


VERBS: Mapping[str, Callable[[Any, Path, Path, Any, Path], Record]] = {
    "evaluate": lambda on, a, b, rows, out: record_evaluation(b, rows, backbone=on),
    "compare": lambda on, a, b, rows, out: ak.compare(a, b, rows, backbone=on),
    "calibrate": lambda on, a, b, rows, out: ak.calibrate(b, rows, out, backbone=on),
    "attribute": lambda on, a, b, rows, out: ak.attribute(a, rows, backbone=on),
    "probe": lambda on, a, b, rows, out: ak.probe(b, rows, backbone=on),
    "nearest": lambda on, a, b, rows, out: ak.nearest(b, rows, backbone=on),
    "transfer": lambda on, a, b, rows, out: ak.transfer(b, {"rows": rows}, backbone=on),
    "ablate": lambda on, a, b, rows, out: ablated(on, a, rows, out),
}


def test_the_table_is_of_all_verbs() -> None:
    assert VERBS.keys() == EVERY


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", ROWS)
def test_rows_that_tell_little_give_an_error_or_figures_that_mean_something(
    name: str, verb: str, world: Any, tmp_path: Path
) -> None:
    refused: AdapterkitError | None = None
    told: dict[str, Any] = {}
    try:
        told = VERBS[verb](*world, ROWS[name], tmp_path / "out").to_dict()
    except AdapterkitError as error:
        refused = error
    if refused is not None:
        assert refused.problems or refused.remedy
        assert not (tmp_path / "out").exists()
        return
    assert verb not in REFUSED.get(name, ())
    assert not [path for path, value in numbers("", told) if not math.isfinite(value)]
    if name == "one text" and verb in LOOKS:  # an adapter's own answers mean something all the same
        said = [path for path, _ in numbers("", told) if "/answers/" not in path]
        assert not [path for path in said if "accuracy/" in path or path.endswith(("/probe", "/logme"))]
        assert not [sentence for sentence in told["findings"] if "right in" in sentence]


def numbers(path: str, value: Any) -> list[tuple[str, float]]:
    if isinstance(value, Mapping):
        return [one for name, inner in value.items() for one in numbers(f"{path}/{name}", inner)]
    if isinstance(value, list):
        return [one for place, inner in enumerate(value) for one in numbers(f"{path}/{place}", inner)]
    return [(path, float(value))] if isinstance(value, int | float) and not isinstance(value, bool) else []
