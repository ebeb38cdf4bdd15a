"""Plans of recipes: against what training really writes, and for checkpoints that are not there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import adapterkit as ak
from adapterkit.errors import BackboneError, RecipeError
from adapterkit.planning.needs import read_bytes
from adapterkit.planning.strategies import Memory, StepNeeds, choose, strategies_for
from tests.training.worlds import events, recipe, train

MEMORY = Memory(weights=1000, adapter=10, gradients=10, optimizer=20, activations=800, logits=80, working=80)
STEP = StepNeeds(
    memory=MEMORY,
    rows=8,
    flops=300,
    below_flops=60,
    above_flops=60,
    layers=4,
    cut_bytes=900,
    gathered_bytes=200,
    boundary_bytes=20,
    cacheable="",
)


def test_a_plan_says_what_training_then_writes(tiny_folders: Any, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    wanted = recipe(
        tmp_path,
        tiny_folders["bert"],
        method={"kind": "lora", "rank": 4, "top": 1},
        training={"cache": str(cache), "save_dtype": "bfloat16"},
    )
    planned = ak.plan(wanted, memory="1GiB")
    result = train(wanted)
    (begun,) = events(result.artifact, "begin")
    assert planned.method_parameters == begun["method_parameters"]
    assert planned.head_parameters == begun["head_parameters"]
    assert planned.steps == begun["total_steps"] == 8
    assert planned.artifact_bytes == (result.artifact / "adapter_model.safetensors").stat().st_size
    written = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    assert planned.cache.layer == 2
    assert planned.cache.size_bytes == pytest.approx(written, rel=0.15)
    assert planned.chosen is not None
    assert planned.chosen.name == "one device, cached trunk"
    assert planned.chosen.cost < 0.7  # of three layers, two need no forward any more


def test_a_checkpoint_without_weights_and_tokenizer_is_planned_from_its_config(tmp_path: Path) -> None:
    # Llama-3 8B with 2 of its 32 layers.
    layer = 2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096
    parameters = 2 * layer + 2 * 128256 * 4096 + 4096
    settings = {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 2,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": False,
        "bos_token_id": 128000,
        "eos_token_id": 128001,
    }
    folder = tmp_path / "llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings))
    method = {"kind": "lora", "rank": 16, "sites": ["attention.query"]}
    wanted = recipe(tmp_path, folder, "causal-lm", method=method, training={"precision": "auto"})
    planned = ak.plan(wanted, gpus=2, memory="80GiB")
    assert planned.frozen_parameters == parameters
    assert planned.method_parameters == 2 * 16 * (4096 + 4096)
    assert planned.head_parameters == 0
    assert planned.dtype == "bfloat16"
    assert planned.memory.weights == pytest.approx(2 * parameters, rel=1e-3)
    assert planned.memory.optimizer == 2 * 4 * planned.method_parameters
    assert any("no tokenizer" in note for note in planned.notes)
    assert planned.chosen is not None
    assert planned.chosen.name.startswith("DDP")
    # 2 operations per weight and token forward; backward only what leads to the inputs, 2 more.
    tokens = planned.step_rows * planned.step_tokens
    linears = 2 * (4096**2 * 2 + 4096 * 1024 * 2 + 3 * 4096 * 14336)
    answered = (planned.flops / 4 - linears * tokens) / (128256 * 4096)
    # Neither padding nor a row's last token is to predict anything.
    assert 0.5 * tokens < answered < tokens - planned.step_rows
    little = ak.plan(wanted, gpus=1, memory="2GiB")
    assert little.chosen is None
    assert little.limit == "weights"


def test_ways_to_fit_are_counted_by_the_formulas_that_the_planner_states() -> None:
    ways = {way.name: way for way in strategies_for(STEP, devices=2, memory_bytes=10**6)}
    assert ways["DDP"].memory.total == 1040 + 480
    assert ways["DDP"].cost == 0.5
    assert ways["DDP, cached trunk"].cost == 0.4
    # 4 layers' inputs and the inside of one layer instead of all activations.
    assert ways["DDP, gradient checkpointing"].memory.activations == (4 * 20 + 200) / 2
    assert ways["DDP, gradient checkpointing"].cost == 0.6
    # What is not cut, half of what is, and two gathered layers beside their halves; what trains is whole.
    assert ways["FSDP"].memory.weights == 100 + 900 / 2 + 200
    assert ways["FSDP"].memory.optimizer == STEP.memory.optimizer
    assert "fsdp2_2x8.yaml --num_processes 2" in ways["FSDP"].how
    assert "FSDP, cached trunk" not in ways


def test_a_recipe_that_computes_layers_again_is_planned_with_that() -> None:
    ways = strategies_for(replace(STEP, checkpointed=True), devices=1, memory_bytes=10**6)
    assert {way.name for way in ways} == {
        "one device, gradient checkpointing",
        "one device, cached trunk, gradient checkpointing",
    }
    assert all("training.gradient_checkpointing=true" in way.how for way in ways)


def test_the_cheapest_way_that_fits_and_can_be_had_is_taken() -> None:
    plenty = strategies_for(STEP, devices=1, memory_bytes=10_000)
    assert (taken := choose(plenty)) is not None
    assert (taken.name, taken.accumulate, taken.how) == ("one device, cached trunk", 1, "training.cache=auto")
    # 90 % of 1,500 leave 310 for a step of 960: a quarter of the rows at a time.
    assert (taken := choose(strategies_for(STEP, devices=1, memory_bytes=1500))) is not None
    assert (taken.accumulate, taken.memory.total) == (4, 1040 + 240)
    assert choose(strategies_for(STEP, devices=1, memory_bytes=1200)) is None


@pytest.mark.parametrize(
    ("text", "size"), [("80GiB", 80 * 2**30), ("24 GB", 24 * 10**9), ("1000", 1000), ("1.5kb", 1500), ("many", None)]
)
def test_sizes_are_read_in_both_kinds_of_units(text: str, size: int | None) -> None:
    assert read_bytes(text) == size


def test_a_plan_refuses_what_training_would_refuse(tiny_folders: Any, tmp_path: Path) -> None:
    wanted = recipe(tmp_path, tiny_folders["bert"])
    with pytest.raises(RecipeError) as caught:
        ak.plan(wanted, gpus=0, memory="lots")
    assert len(caught.value.problems) == 2
    with pytest.raises(RecipeError, match="nothing would train"):
        ak.plan(recipe(tmp_path, tiny_folders["bert"], "masked-lm", method={"kind": "none"}))
    with pytest.raises(ak.errors.SiteError, match="cannot be selected"):
        ak.plan(wanted, overrides=["method.sites=[nowhere]"])
    with pytest.raises(BackboneError):
        ak.plan(wanted, overrides=[f"backbone.name={tmp_path}"])


def test_layers_that_cannot_be_computed_again_are_no_way(tiny_folders: Any, tmp_path: Path) -> None:
    wanted = recipe(tmp_path, tiny_folders["mpnet"], method={"kind": "lora", "rank": 4})
    assert not [way.name for way in ak.plan(wanted).strategies if "checkpointing" in way.name]
    with pytest.raises(RecipeError, match="cannot be computed again"):
        ak.plan(wanted, overrides=["training.gradient_checkpointing=true"])


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_heads_alone_are_planned_where_nothing_is_computed_again(
    tiny_folders: Any, tmp_path: Path, family: str
) -> None:
    wanted = recipe(tmp_path, tiny_folders[family], method={"kind": "none"})
    planned = ak.plan(wanted, overrides=["training.gradient_checkpointing=true"])
    assert planned.method_parameters == 0
    assert planned.chosen is not None
