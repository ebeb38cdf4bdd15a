"""Law 7: a mixed batch equals each row on its own, in any order and any mix of kinds, methods, ranks and lengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

import adapterkit as ak
from tests.host import artifacts
from tests.host.artifacts import WORDS, Recipe, differences
from tests.host.conftest import FolderOf

WORLDS = {
    "bert": [
        Recipe("text-classification", "lora"),
        Recipe("text-classification", "lora", "mlp-first", seed=5),
        Recipe("token-classification", "houlsby"),
        Recipe("question-answering", "lora-all-linear"),
        Recipe("multiple-choice", "pfeiffer", "attention"),
        Recipe("masked-lm", "lora-dora"),
        Recipe("text-classification", "none", "linear-mean"),
        Recipe("token-classification", "ia3"),
    ],
    "llama": [
        Recipe("text-classification", "lora-all-linear"),
        Recipe("token-classification", "parallel", "linear"),
        Recipe("causal-lm", "lora"),
        Recipe("causal-lm", "houlsby", seed=5),
        Recipe("causal-lm", "ia3"),
        Recipe("multiple-choice", "none", "linear-last"),
    ],
    "bart": [
        Recipe("text-classification", "lora-all-linear"),
        Recipe("question-answering", "houlsby"),
        Recipe("token-classification", "lora", "mlp"),
        Recipe("seq2seq-lm", "lora"),
        Recipe("seq2seq-lm", "parallel", seed=5),
        Recipe("seq2seq-lm", "ia3"),
    ],
    # Its queries and keys read positions that all rows of a batch share.
    "deberta-v2": [
        Recipe("text-classification", "lora"),
        Recipe("token-classification", "lora-all-linear", seed=5),
        Recipe("question-answering", "ia3"),
        Recipe("masked-lm", "houlsby"),
        Recipe("text-classification", "none", "linear-mean"),
    ],
    # A norm stands behind each of its branches.
    "gemma-2": [
        Recipe("text-classification", "lora-all-linear"),
        Recipe("token-classification", "houlsby", "linear"),
        Recipe("causal-lm", "pfeiffer"),
        Recipe("causal-lm", "parallel", seed=5),
    ],
    # Its attention and its feed-forward run side by side.
    "gpt-j": [
        Recipe("text-classification", "lora-all-linear"),
        Recipe("question-answering", "houlsby"),
        Recipe("causal-lm", "pfeiffer"),
        Recipe("causal-lm", "parallel", seed=5),
    ],
    # Three of four of its layers would have linear attention, here two.
    "qwen3.5": [
        Recipe("text-classification", "lora-all-linear"),
        Recipe("token-classification", "houlsby", "linear"),
        Recipe("causal-lm", "lora"),
        Recipe("causal-lm", "parallel", seed=5),
        Recipe("causal-lm", "ia3"),
    ],
    # Its keys and values come from a narrow state, and every token goes through a shared expert.
    "deepseek": [
        Recipe("text-classification", "lora"),
        Recipe("token-classification", "lora", "linear", seed=5),
        Recipe("causal-lm", "lora", seed=5),
        Recipe("causal-lm", "ia3"),
    ],
    # Two of its three layers have a short convolution in the place of attention.
    "lfm2": [
        Recipe("text-classification", "lora-all-linear", "linear-last"),
        Recipe("token-classification", "houlsby", "linear"),
        Recipe("causal-lm", "lora-all-linear"),
        Recipe("causal-lm", "parallel", seed=5),
    ],
    # Its upper layers read the keys and values of lower ones, and every layer has embeddings of its own.
    "gemma-4": [
        Recipe("text-classification", "lora-all-linear", "linear-last"),
        Recipe("token-classification", "houlsby", "linear"),
        Recipe("causal-lm", "lora"),
        Recipe("causal-lm", "pfeiffer", seed=5),
    ],
    "albert": [
        Recipe("text-classification", "none", "linear-mean"),
        Recipe("token-classification", "none"),
        Recipe("multiple-choice", "none", "linear-mean"),
    ],
}
LENGTHS = (1, 2, 6, 13)


@pytest.fixture(scope="module")
def worlds(tiny_backbones: Mapping[str, Any], folder_of: FolderOf) -> Any:
    """Family -> (host, {(name, length): the adapter's own answer}), made when first asked for."""
    made: dict[str, tuple[ak.Host, dict[tuple[str, int], Any]]] = {}

    def world(family: str) -> tuple[ak.Host, dict[tuple[str, int], Any]]:
        if family not in made:
            host, alone = ak.Host(tiny_backbones[family], slots=4), {}
            for recipe in WORLDS[family]:
                folder = folder_of(family, recipe)
                host.mount(recipe.name, folder)
                rows = [artifacts.row_of(recipe.kind, WORDS[:length]) for length in LENGTHS]
                answers = artifacts.alone(folder, tiny_backbones[family], rows)
                alone.update({(recipe.name, length): a for length, a in zip(LENGTHS, answers, strict=True)})
            made[family] = host, alone
        return made[family]

    yield world
    for host, _ in made.values():
        host.close()


@pytest.mark.parametrize("family", WORLDS)
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=some.data())
def test_a_mixed_batch_answers_as_each_adapter_alone(family: str, worlds: Any, data: Any) -> None:
    host, alone = worlds(family)
    asked = data.draw(some.lists(some.sampled_from(sorted(alone)), min_size=1, max_size=10))
    batch_size = data.draw(some.sampled_from((1, 4, 64)))
    kinds = {recipe.name: recipe.kind for recipe in WORLDS[family]}

    found = host.predict(
        [(name, artifacts.row_of(kinds[name], WORDS[:length])) for name, length in asked], batch_size=batch_size
    )

    for key, answer in zip(asked, found, strict=True):
        assert differences(answer, alone[key]) == [], key
