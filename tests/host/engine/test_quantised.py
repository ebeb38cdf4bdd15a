"""A host carries its bank on a backbone whose weights are narrow: every method, mixed, as each row alone."""

from __future__ import annotations

from typing import Any

import pytest

import adapterkit as ak
from adapterkit.host.engine.engine import Engine
from adapterkit.recipe import NoMethod
from tests.host import artifacts, worlds
from tests.host.artifacts import WORDS, Recipe, differences
from tests.host.conftest import FolderOf

TOLERANCE = 1e-5
PACKAGES = {"int8": "torchao", "nf4": "bitsandbytes"}
RECIPES = {
    "bert": [
        Recipe("text-classification", "lora"),
        Recipe("token-classification", "houlsby"),
        Recipe("masked-lm", "lora-dora"),
        Recipe("text-classification", "none", "linear-mean"),
    ],
    "llama": [Recipe("causal-lm", "lora"), Recipe("token-classification", "parallel", "linear")],
}


@pytest.fixture(params=PACKAGES)
def form(request: Any) -> str:
    """How the weights are kept, where what does it is installed."""
    found = str(request.param)
    pytest.importorskip(PACKAGES[found], reason=f"{found} needs {PACKAGES[found]}")
    return found


def narrow(tiny_backbones: Any, family: str, form: str) -> ak.Backbone:
    return ak.Backbone.load(tiny_backbones[family].folder, dtype=form, device="cpu")


def moves_weight(method: Any) -> bool:
    """Whether a method begins by taking a part out of the weights."""
    return getattr(method, "initialization", "").startswith("pissa")


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama", "t5", "bart"])
def test_a_mixed_batch_answers_as_each_row_alone_under_the_method_itself(
    tiny_backbones: Any, family: str, form: str
) -> None:
    backbone = narrow(tiny_backbones, family, form)
    methods = {name: worlds.METHODS[name] for name in worlds.methods_of(family)} | {"none": NoMethod()}
    adapters = {
        name: worlds.make(backbone, family, method) for name, method in methods.items() if not moves_weight(method)
    }
    assert len(adapters) >= 8
    engine = Engine(backbone)
    rows = [(mounted, index % worlds.ROWS) for index, mounted in enumerate(adapters.values())]
    far = {}
    for name, (mounted, row), mixed in zip(adapters, rows, worlds.answers(engine, family, rows), strict=True):
        (alone,) = worlds.answers(engine, family, [(mounted, row)])
        for what, answer in (("mixed", mixed), ("alone", alone)):
            if (distance := worlds.distance(answer, mounted.alone[row])) > TOLERANCE:
                far[f"{name} {row} {what}"] = distance
    assert far == {}


@pytest.mark.parametrize("family", RECIPES)
def test_artifacts_made_on_full_weights_answer_as_each_does_alone(
    tiny_backbones: Any, folder_of: FolderOf, family: str, form: str
) -> None:
    backbone = narrow(tiny_backbones, family, form)
    asked = {
        recipe.name: (folder_of(family, recipe), artifacts.row_of(recipe.kind, WORDS[:6])) for recipe in RECIPES[family]
    }
    with ak.Host(backbone) as host:
        for name, (folder, _) in asked.items():
            host.mount(name, folder)
        found = host.predict([(name, row) for name, (_, row) in asked.items()])
    for (name, (folder, row)), answer in zip(asked.items(), found, strict=True):
        assert differences(answer, artifacts.alone(folder, backbone, [row])[0]) == [], name
