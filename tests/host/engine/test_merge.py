"""A host that may merge: the same answers up to rounding, folded only where one adapter owns a batch that is large."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adapterkit as ak
from adapterkit.host.engine import products
from adapterkit.host.engine.engine import Engine
from adapterkit.host.engine.products import Merged
from tests import tiny
from tests.host import artifacts, worlds
from tests.host.artifacts import WORDS, Recipe, differences
from tests.host.conftest import FolderOf

TOLERANCE = 1e-5
FOLDED = {"lora", "lora-all", "lora-patterns", "lora-top", "pissa", "pissa-rslora"}
"""The others change a linear's output first, or stand behind it."""


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each linear that could be folded was; few tokens suffice."""
    monkeypatch.setattr(products, "MERGE_FROM", 0.5)
    seen: list[bool] = []
    plain = Merged.product

    def watched(self: Merged, x: torch.Tensor) -> Any:
        found = plain(self, x)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(Merged, "product", watched)
    return seen


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_an_adapter_that_owns_the_batch_answers_as_by_itself(
    tiny_backbones: Any, family: str, folded: list[bool]
) -> None:
    backbone = tiny_backbones[family]
    engine, far, used = Engine(backbone, merge=True), {}, {}
    for name in worlds.methods_of(family):
        mounted = worlds.make(backbone, family, worlds.METHODS[name])
        rows = [(mounted, row) for row in range(worlds.ROWS)] * 3
        folded.clear()
        for (_, row), found in zip(rows, worlds.answers(engine, family, rows), strict=True):
            far[name] = max(far.get(name, 0.0), worlds.distance(found, mounted.alone[row]))
        used[name] = any(folded)
    assert {name: distance for name, distance in far.items() if distance > TOLERANCE} == {}
    # Linears without a bias have nothing that stands before the update.
    assert FOLDED <= {name for name, was in used.items() if was} <= FOLDED | {"biases"}


def test_stacked_adapters_are_folded_together(tiny_backbones: Any, folded: list[bool]) -> None:
    backbone = tiny_backbones["bert"]
    one, two, neck = (
        worlds.make(backbone, "bert", worlds.METHODS[n], s) for n, s in (("lora", 0), ("lora", 4), ("houlsby", 0))
    )
    carried = (*one.carried, *two.carried, *neck.carried)
    inputs = worlds.batch([4] * 6, "bert")

    def states(engine: Engine) -> torch.Tensor:
        with engine.routed([carried] * 6) as view:
            return worlds.states(view, inputs)

    expected = states(Engine(backbone))
    assert not folded
    assert worlds.distance(states(Engine(backbone, merge=True)), expected) <= TOLERANCE
    assert any(folded)


def test_a_mixed_batch_is_never_folded(tiny_backbones: Any, folded: list[bool]) -> None:
    backbone = tiny_backbones["bert"]
    one, two = (worlds.make(backbone, "bert", worlds.METHODS["lora-all"], seed) for seed in (0, 1))
    bare = worlds.Mounted(None, {}, one.alone)
    engine = Engine(backbone, merge=True)
    for rows in ([(one, 4), (two, 4)] * 4, [(one, 4)] * 8 + [(bare, 4)]):
        worlds.answers(engine, "bert", rows)
    assert not folded


def test_few_tokens_take_the_two_narrow_products(tiny_backbones: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = tiny_backbones["bert"]
    mounted = worlds.make(backbone, "bert", worlds.METHODS["lora-all"])
    width, most = backbone.hidden_size, backbone.config.intermediate_size
    seen: list[tuple[int, tuple[int, ...], bool]] = []
    plain = Merged.product

    def watched(self: Merged, x: torch.Tensor) -> Any:
        found = plain(self, x)
        seen.append((x.shape[:-1].numel(), tuple(self._linear.weight.shape), found is not None))
        return found

    monkeypatch.setattr(Merged, "product", watched)
    engine = Engine(backbone, merge=True)
    for rows in (1, 4, 8, 12):
        worlds.answers(engine, "bert", [(mounted, 4)] * rows)
    # Square linears have as many multiplications either way at d / 2 tokens, the feed-forward's at d · 4d / 5d.
    from_tokens = {(width, width): 4 * width / 2, (most, width): 4 * most * width / (most + width)}
    for tokens, shape, was in seen:
        assert was == (tokens >= from_tokens[shape if shape[0] >= shape[1] else shape[::-1]])
    assert {was for _, _, was in seen} == {True, False}


def test_a_host_that_may_merge_answers_many_rows_of_one_task(
    tiny_backbones: Any, folder_of: FolderOf, folded: list[bool]
) -> None:
    backbone, recipe = tiny_backbones["llama"], Recipe("text-classification", "lora-all-linear")
    folder = folder_of("llama", recipe)
    rows = [artifacts.row_of(recipe.kind, WORDS[:length]) for length in (3, 6, 9, 12) * 4]
    with ak.Host(backbone, merge=True) as host:
        host.mount("one", folder)
        found = host.predict([("one", row) for row in rows])
    assert any(folded)
    for answer, expected in zip(found, artifacts.alone(folder, backbone, rows), strict=True):
        assert differences(answer, expected) == []


def test_a_compiled_host_does_not_merge(tiny_backbones: Any) -> None:
    with pytest.raises(ValueError, match="merges nothing"):
        ak.Host(tiny_backbones["bert"], compile=True, merge=True)
