"""Any number of loaded adapters, hosts, checks and trainings share one backbone: none waits for another or sees it."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

import adapterkit as ak
from adapterkit.adapted import Adapted
from adapterkit.backbone import Backbone
from adapterkit.methods.reach import adapted_paths
from adapterkit.recipe import HeadSettings, LoraMethod
from tests.host.artifacts import WORDS, Recipe, row_of
from tests.host.conftest import FolderOf
from tests.laws.worlds import build, prepared
from tests.tasks.conftest import ROWS

RECIPES = {
    "lora": Recipe("text-classification", "lora-all-linear"),
    "tags": Recipe("token-classification", "houlsby"),
    "head": Recipe("text-classification", "none"),
    "answers": Recipe("question-answering", "lora-dora"),
    "masks": Recipe("masked-lm", "ia3"),
}


def rows_for(name: str) -> list[Any]:
    return [row_of(RECIPES[name].kind, WORDS[: 1 + 7 * length]) for length in range(3)]


def loaded(folder_of: FolderOf, backbone: Backbone) -> dict[str, Adapted]:
    return {name: ak.load(folder_of("bert", recipe), backbone) for name, recipe in RECIPES.items()}


@pytest.fixture(scope="module")
def alone(folder_of: FolderOf, tiny_backbones: Mapping[str, Any]) -> dict[str, Any]:
    """What each adapter answers on a backbone that nobody else uses."""
    found = {}
    for name, recipe in RECIPES.items():
        with ak.load(folder_of("bert", recipe), tiny_backbones["bert"]) as adapted:
            found[name] = adapted.predict(rows_for(name))
    return found


@pytest.mark.parametrize("seed", range(2))
def test_loaded_adapters_answer_as_each_alone_in_any_interleaving(
    seed: int, folder_of: FolderOf, tiny_backbones: Mapping[str, Any], alone: Mapping[str, Any]
) -> None:
    """Whatever else is done with the backbone in between: verified, evaluated, hosted, built upon, merged, dropped."""
    backbone = tiny_backbones["bert"]
    adapters = loaded(folder_of, backbone)
    built = [build(backbone, prepared("text-classification"), LoraMethod(bias="all"), HeadSettings(), 0)]
    folder = folder_of("bert", RECIPES["lora"])

    def evaluated() -> None:
        assert ak.evaluate(folder, ROWS["text-classification"], backbone=backbone, resamples=0)

    def hosted() -> None:
        with ak.Host(backbone) as host:
            host.mount("tags", folder_of("bert", RECIPES["tags"]))
            assert host.predict([("tags", "Ada lived")])

    def merged() -> None:
        other = ak.load(folder, backbone)
        other.merge()
        other.predict(["a fox"])

    between: list[Callable[[], Any]] = [
        lambda: ak.verify(folder, backbone),
        evaluated,
        hosted,
        merged,
        lambda: ak.load(folder, backbone).predict(["a fox"]),
        lambda: one_step(built[0]),
        lambda: built[0].train(),
    ]
    chance = random.Random(seed)
    acts = [*between, *(name for name in RECIPES for _ in range(3))]
    chance.shuffle(acts)
    for act in acts:
        if isinstance(act, str):
            assert adapters[act].predict(rows_for(act)) == alone[act], act
        else:
            act()
    assert adapted_paths(backbone.trunk) == []


def one_step(adapted: Adapted) -> None:
    """A large step on everything that the adapter may change, the trunk's biases among it."""
    batch = adapted.task.collate(
        adapted.task.encode(ROWS["text-classification"], adapted.vocabulary).features, adapted.vocabulary
    )
    parameters = {**adapted.method_parameters(), **adapted.head_parameters()}
    adapted.task.loss(adapted(batch.inputs), batch).mean.backward()
    assert any(parameter.grad is not None for parameter in parameters.values())
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(1.0)


def test_threads_that_ask_loaded_adapters_get_the_answers_of_each_alone(
    folder_of: FolderOf, tiny_backbones: Mapping[str, Any], alone: Mapping[str, Any]
) -> None:
    adapters, backbone = loaded(folder_of, tiny_backbones["bert"]), tiny_backbones["bert"]
    wrong: list[str] = []

    def ask(seed: int) -> None:
        chance = random.Random(seed)
        try:
            for _ in range(12):
                name = chance.choice(list(RECIPES))
                if chance.random() < 0.2:
                    adapters_here = {name: ak.load(folder_of("bert", RECIPES[name]), backbone)}
                else:
                    adapters_here = adapters
                if adapters_here[name].predict(rows_for(name)) != alone[name]:
                    wrong.append(name)
        except BaseException as error:  # noqa: BLE001 - whatever a thread dies of is what the test is after
            wrong.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_trunk_exists_once_however_many_are_loaded(folder_of: FolderOf, tiny_backbones: Mapping[str, Any]) -> None:
    backbone = tiny_backbones["bert"]
    trunk = {
        tensor.untyped_storage().data_ptr() for tensor in [*backbone.trunk.parameters(), *backbone.trunk.buffers()]
    }
    for name, adapted in loaded(folder_of, backbone).items():
        saved = sum(tensor.numel() * tensor.element_size() for tensor in adapted.state().values())
        tensors = [*adapted.module.parameters(), *adapted.module.buffers()]
        own = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        # What is the adapter's own, and heads that the checkpoint has and a masked language model borrows.
        borrowed = {
            adapted.module.get_parameter(path) for path in adapted.headed.loaded - adapted.headed.trained.keys()
        }
        spare = sum(parameter.untyped_storage().nbytes() for parameter in borrowed)
        assert sum(size for place, size in own.items() if place not in trunk) <= 1.1 * saved + spare, name


def test_rows_that_are_cut_in_threads_are_cut_by_their_own_task(tiny_backbones: Mapping[str, Any]) -> None:
    """A fast tokenizer keeps how it cuts as a state, and all adapters of a backbone read with one."""
    backbone = tiny_backbones["bert"]
    long = [{"text": "my card was lost " * 60}, {"text": "a fox"}]
    limits = (8, 16, 32, 64)
    tasks = [prepared("text-classification", max_tokens=limit) for limit in limits]
    vocabulary = build(backbone, tasks[0], LoraMethod(rank=2), HeadSettings(), 0).vocabulary
    wrong: list[Any] = []

    def read(task: Any, limit: int) -> None:
        for _ in range(60):
            found = [f.length_tokens for f in task.encode(long, vocabulary, "predict").features]
            if found[0] != limit:
                wrong.append((limit, found))

    threads = [threading.Thread(target=read, args=pair) for pair in zip(tasks, limits, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
