"""Whether a checkpoint can learn to end: by hand, on checkpoints whose end token stands beside others, and in a run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.optimize import minimize

from adapterkit import Backbone, train
from adapterkit.data import Rows
from adapterkit.training.end_tokens import end_token_note, lead_of
from tests.laws.worlds import adapter, prepared

PAIRS = [{"prompt": "where is the fox ?", "completion": "over the dog"}, {"prompt": "Ada", "completion": "in London"}]
CHATS = [
    {"messages": [{"role": "user", "content": "where is Ada ?"}, {"role": "assistant", "content": "in London"}]},
]


@pytest.mark.parametrize(
    ("rows", "longest", "nats"),
    [
        ([(1, 0), (0, 0), (0, 1), (0, -1)], 0.5, 0.5),  # one away from the line of the others
        ([(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)], 100.0, 0.0),  # in their midst
        ([(2, 1), (2, 1), (0, 5)], 100.0, 0.0),  # beside its twin
    ],
)
def test_the_lead_is_the_way_to_the_others(rows: list[tuple[int, int]], longest: float, nats: float) -> None:
    assert lead_of(torch.tensor(rows, dtype=torch.float32), 0, longest).nats == pytest.approx(nats, abs=1e-3)


def test_the_lead_is_enough_where_an_optimiser_finds_it_to_be() -> None:
    chance = torch.Generator().manual_seed(0)
    for _ in range(10):
        weight = torch.randn(12, 4, generator=chance)
        needed = shortest_state((weight[0] - weight[1:]).double().numpy())
        for longest in (needed * 0.95, needed * 1.05) if needed < float("inf") else (20.0,):
            assert (lead_of(weight, 0, longest).nats >= 1) == (longest > needed)


def shortest_state(apart: Any) -> float:
    """The length of the shortest state that is one nat ahead of every other row; infinite where there is none."""
    ahead = {"type": "ineq", "fun": lambda state: apart @ state - 1}
    found = minimize(lambda state: state @ state, x0=apart.mean(axis=0), constraints=ahead)
    return float((found.x @ found.x) ** 0.5) if found.success else float("inf")


def beside(source: Path, folder: Path, token: int) -> Backbone:
    """A checkpoint whose row of a token is that of its neighbour."""
    shutil.copytree(source, folder)
    model: Any = Backbone.load(folder, dtype="float32", device="cpu")
    del model
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        whole.lm_head.weight[token] = whole.lm_head.weight[token + 1] + 1e-4
    whole.save_pretrained(folder)
    return Backbone.load(folder, dtype="float32", device="cpu")


def test_an_end_token_beside_others_is_named_and_an_end_text_is_the_way_out(
    tiny_folders: Mapping[str, Path], tmp_path: Path
) -> None:
    end = 2
    backbone = beside(tiny_folders["llama"], tmp_path / "llama", end)
    assert backbone.tokenizer.eos_token_id == end
    for settings, is_named in (({}, True), ({"completions_only": True}, True), ({"end_text": "\n"}, False)):
        with adapter(backbone, "causal-lm", task=prepared("causal-lm", PAIRS, **settings)) as adapted:
            note = end_token_note(adapted, Rows(PAIRS))
        assert note.startswith("this checkpoint cannot learn to end: '</s>' can be put no further than") == is_named


@pytest.mark.parametrize(("family", "rows"), [("llama", PAIRS), ("qwen2", CHATS), ("gpt2", PAIRS)])
def test_an_end_token_that_stands_apart_is_not_named(tiny_backbones: Any, family: str, rows: list[Any]) -> None:
    with adapter(tiny_backbones[family], "causal-lm", task=prepared("causal-lm", rows)) as adapted:
        assert end_token_note(adapted, Rows(rows)) == ""


def test_a_run_says_so_before_it_trains(
    tiny_folders: Mapping[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beside(tiny_folders["llama"], tmp_path / "llama", 2)
    recipe = {
        "task": {"kind": "causal-lm"},
        "backbone": {"name": str(tmp_path / "llama"), "dtype": "float32"},
        "data": {"validation": None},
        "training": {"epochs": 1, "batch_size": 2},
        "output": str(tmp_path / "run"),
    }
    train(recipe, data={"train": PAIRS})
    said = capsys.readouterr().err
    assert "cannot learn to end: '</s>'" in said
    assert "task.end_text names a text to end with instead" in " ".join(said.split())
