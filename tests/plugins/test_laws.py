"""Every law of the tables holds for a method and a head from outside of the package: the docs' examples."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import adapterkit as ak
from adapterkit.artifact import verify
from tests.host import artifacts
from tests.host.artifacts import WORDS, Recipe, differences
from tests.laws import test_adapters, test_gradient_checkpointing, test_padding, test_unpadded
from tests.laws.cases import Case
from tests.laws.test_padding import Cell
from tests.laws.worlds import adapter, disturb, write
from tests.tasks.conftest import ROWS

pytestmark = pytest.mark.usefixtures("toys")

CASES = [
    Case("text-classification", "bert", "scale", "gated-mean"),
    Case("token-classification", "gpt2", "scale", "gated"),
    Case("question-answering", "llama", "lora", "gated"),
    Case("multiple-choice", "modernbert", "scale", "gated-mean"),
    Case("causal-lm", "qwen2", "scale", "family"),
    Case("seq2seq-lm", "bart", "scale", "family"),
]
CELLS = [Cell(case.kind, case.family, case.head, case.method) for case in CASES]


def laws(takes: str, *modules: Any) -> list[Callable[..., None]]:
    """The tests of some modules that run over a table, by the name of its parameter."""
    return [
        law
        for module in modules
        for name, law in vars(module).items()
        if name.startswith("test_") and takes in inspect.signature(law).parameters
    ]


OF_CASES = laws("case", test_adapters)
OF_CELLS = laws("cell", test_padding, test_unpadded, test_gradient_checkpointing)


def given(law: Callable[..., None], request: pytest.FixtureRequest, **own: Any) -> dict[str, Any]:
    return {
        name: own[name] if name in own else request.getfixturevalue(name) for name in inspect.signature(law).parameters
    }


def test_all_laws_were_found() -> None:
    assert len(OF_CASES) == 5
    assert len(OF_CELLS) >= 4


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("law", OF_CASES, ids=lambda law: law.__name__)
def test_a_law_of_adapters_holds(law: Any, case: Case, request: pytest.FixtureRequest) -> None:
    law(**given(law, request, case=case))


@pytest.mark.parametrize("cell", CELLS, ids=str)
@pytest.mark.parametrize("law", OF_CELLS, ids=lambda law: law.__name__)
def test_a_law_of_rows_holds(law: Any, cell: Cell, request: pytest.FixtureRequest) -> None:
    law(**given(law, request, cell=cell))


def test_the_equation_is_that_of_the_page(tiny_backbones: Mapping[str, Any]) -> None:
    backbone = tiny_backbones["bert"]
    with adapter(backbone, "text-classification", test_adapters.CASES[0].row.settings) as bare:
        linear = bare.module.get_submodule("bert.encoder.layer.1.output.dense")
        x = torch.randn(2, linear.in_features)
        y = linear(x)
    settings = Case("text-classification", "bert", "scale", "family").row.settings
    with adapter(backbone, "text-classification", settings) as adapted, torch.no_grad():
        for parameter in adapted.method_parameters().values():
            parameter.fill_(0.5)
        torch.testing.assert_close(adapted.module.get_submodule("bert.encoder.layer.1.output.dense")(x), 1.5 * y)


def test_a_saved_one_passes_its_golden_rows(tiny_backbones: Mapping[str, Any], tmp_path: Path) -> None:
    case = CASES[0]
    with adapter(tiny_backbones["bert"], case.kind, case.row.settings, test_adapters.HEADS[case.head]) as adapted:
        disturb(adapted)
        write(tmp_path / "out", adapted, golden=ROWS[case.kind])
    assert verify(tmp_path / "out", tiny_backbones["bert"])


def test_a_mixed_batch_answers_as_each_alone(tiny_backbones: Mapping[str, Any], tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    recipes = [
        Recipe("text-classification", "scale", "gated-mean"),
        Recipe("token-classification", "scale", "gated", seed=5),
        Recipe("text-classification", "lora", "linear-mean"),
        Recipe("question-answering", "houlsby", "gated"),
    ]
    with ak.Host(backbone, slots=4) as host:
        alone = []
        for number, recipe in enumerate(recipes):
            folder = artifacts.make(tmp_path / str(number), backbone, recipe)
            host.mount(recipe.name, folder)
            alone += artifacts.alone(folder, backbone, [artifacts.row_of(recipe.kind, WORDS[:6])])
        asked = [(recipe.name, artifacts.row_of(recipe.kind, WORDS[:6])) for recipe in recipes]
        found = host.predict([*asked, *reversed(asked)])
    for answer, expected in zip(found, [*alone, *reversed(alone)], strict=True):
        assert differences(answer, expected) == []
