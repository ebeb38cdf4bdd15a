"""What a block of a recipe takes and refuses."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from adapterkit.recipe import (
    KINDS,
    BackboneSettings,
    BottleneckMethod,
    DataSettings,
    FusionMethod,
    HeadSettings,
    Ia3Method,
    Kind,
    LoraMethod,
    NoMethod,
    Recipe,
    TaskSettings,
    TrainingSettings,
    load_recipe,
)
from adapterkit.recipe.settings import twice
from adapterkit.recipe.task import BELONGS

BLOCKS: list[type[BaseModel]] = [
    Recipe,
    TaskSettings,
    BackboneSettings,
    LoraMethod,
    BottleneckMethod,
    Ia3Method,
    FusionMethod,
    NoMethod,
    HeadSettings,
    DataSettings,
    TrainingSettings,
]

ANOTHER_VALUE: dict[str, Any] = {
    "labels": ["no", "yes"],
    "problem": "single-label",
    "tags": "flat",
    "label_separator": "|",
    "right_choice": "letter",
    "abstain": {"risk": 0.05},
    "stride_tokens": 32,
    "max_answer_tokens": 10,
    "unanswerable": True,
    "mask_probability": 0.2,
    "block_tokens": 64,
    "completions_only": True,
    "pack_documents": True,
    "max_target_tokens": 20,
    "prefix": "translate: ",
    "spelling": {"_": "-"},
    "beams": 4,
    "max_new_tokens": 20,
    "stop": ["\n"],
    "end_text": "\n",
    "begin_token": "always",
}


def recipe(**blocks: Any) -> dict[str, Any]:
    return {
        "task": {"kind": "text-classification"},
        "backbone": {"name": "bert-base-uncased"},
        "data": {"train": "train.jsonl"},
        **blocks,
    }


def test_the_table_of_kinds_holds_the_seven_words_of_the_type() -> None:
    assert get_args(Kind) == KINDS
    assert len(set(KINDS)) == 7


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_every_field_says_what_it_does(block: type[BaseModel]) -> None:
    silent = [name for name, field in block.model_fields.items() if not field.description]
    assert silent == []


def test_every_setting_of_one_kind_has_a_trial_value() -> None:
    assert ANOTHER_VALUE.keys() == BELONGS.keys()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BELONGS)
def test_a_setting_is_taken_by_its_own_kinds_and_refused_by_all_others(name: str, kind: Kind) -> None:
    values: dict[str, Any] = {"kind": kind, name: ANOTHER_VALUE[name]}
    if kind in BELONGS[name]:
        TaskSettings.model_validate(values)
    else:
        with pytest.raises(ValidationError, match=f"belongs to .*, not to {kind}"):
            TaskSettings.model_validate(values)


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_of_every_kind_reads_back_from_what_it_writes(kind: Kind) -> None:
    task = TaskSettings(kind=kind, max_tokens=128)
    written = task.model_dump(mode="json")
    assert TaskSettings.model_validate(written) == task
    assert written.keys() == {name for name in TaskSettings.model_fields if kind in BELONGS.get(name, (kind,))}


@pytest.mark.parametrize(
    ("block", "values"),
    [
        (LoraMethod, {"layers": [1, 2], "top": 2}),
        (LoraMethod, {"layers": []}),
        (LoraMethod, {"layers": [1, 1]}),
        (LoraMethod, {"layers": [-1]}),
        (LoraMethod, {"sites": []}),
        (LoraMethod, {"sites": ["attention.query", "attention.query"]}),
        (LoraMethod, {"sites": "everything"}),
        (LoraMethod, {"rank": True}),
        (LoraMethod, {"rank": "8"}),
        (LoraMethod, {"rank": 8.0}),
        (LoraMethod, {"rank": 4097}),
        (LoraMethod, {"rank": 2049, "initialization": "pissa"}),
        (LoraMethod, {"dropout": 1.0}),
        (LoraMethod, {"alpha": float("nan")}),
        (LoraMethod, {"alpha": float("inf")}),
        (LoraMethod, {"rank_pattern": {"attention.query": 0}}),
        (LoraMethod, {"width": 8}),
        (BottleneckMethod, {"width": 8, "reduction_factor": 2.0}),
        (BottleneckMethod, {"rank": 8}),
        (Ia3Method, {"rank": 8}),
        (Ia3Method, {"sites": []}),
        (Ia3Method, {"layers": [1], "top": 1}),
        (Ia3Method, {"sites": ["attention.key"], "inputs": ["feedforward.output"]}),
        (NoMethod, {"rank": 8}),
        (HeadSettings, {"kind": "family", "pooling": "mean"}),
        (HeadSettings, {"kind": "attention", "pooling": "mean"}),
        (HeadSettings, {"kind": "linear", "hidden": 8}),
        (DataSettings, {"train": "x.csv", "format": "csv", "config": "sst2"}),
        (DataSettings, {"train": "x.csv", "columns": {"text": "a", "label": "a"}}),
        (DataSettings, {"train": "x.csv", "validation": 0}),
        (DataSettings, {"train": "x.csv", "validation": 1.0}),
        (DataSettings, {"train": "x", "splits": {"dev": "validation"}}),
        (TrainingSettings, {"batch_size": 8, "batch_tokens": 512}),
        (TrainingSettings, {"class_weights": {}}),
        (TrainingSettings, {"seed": -1}),
        (TrainingSettings, {"epochs": 0}),
        (TaskSettings, {"kind": "text-classification", "labels": ["a", "a"]}),
        (TaskSettings, {"kind": "text-classification", "labels": []}),
        (TaskSettings, {"kind": "text-classification", "labels": ["a", "b"], "problem": "regression"}),
        (TaskSettings, {"kind": "question-answering", "max_tokens": 64}),
        (TaskSettings, {"kind": "causal-lm", "max_tokens": 64, "block_tokens": 128}),
    ],
)
def test_settings_that_make_no_sense_are_refused(block: type[BaseModel], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        block.model_validate(values)


@pytest.mark.parametrize(
    ("blocks", "place"),
    [
        ({"data": {}}, "data.train"),
        ({"data": {"train": "x", "validation": None}, "training": {"patience": 2}}, "training.patience"),
        ({"task": {"kind": "masked-lm"}, "head": {"kind": "linear"}}, "head.kind"),
        ({"task": {"kind": "token-classification"}, "head": {"pooling": "mean"}}, "head.pooling"),
        ({"task": {"kind": "causal-lm"}, "training": {"class_weights": "balanced"}}, "training.class_weights"),
        (
            {
                "task": {"kind": "text-classification", "labels": ["a", "b"]},
                "training": {"class_weights": {"c": 2.0}},
            },
            "training.class_weights",
        ),
        (
            {
                "task": {"kind": "text-classification", "problem": "regression"},
                "training": {"label_smoothing": 0.1},
            },
            "training.label_smoothing",
        ),
    ],
)
def test_blocks_that_do_not_fit_together_are_refused(blocks: dict[str, Any], place: str) -> None:
    with pytest.raises(ValidationError, match=place):
        Recipe.model_validate(recipe(**blocks))


def test_the_defaults_of_a_bottleneck_are_those_of_its_placement() -> None:
    assert [BottleneckMethod(placement=p).scale for p in ("houlsby", "pfeiffer", "parallel")] == [1.0, 1.0, 4.0]
    assert [BottleneckMethod(placement=p).width_for(384) for p in ("houlsby", "pfeiffer", "parallel")] == [24, 24, 192]


def test_the_width_of_a_bottleneck_is_rounded_down_and_at_least_one() -> None:
    assert BottleneckMethod(reduction_factor=7.0).width_for(100) == 14
    assert BottleneckMethod(reduction_factor=64.0).width_for(32) == 1
    assert BottleneckMethod(width=5).width_for(32) == 5


def test_a_recipe_writes_out_every_default_and_reads_back() -> None:
    loaded = load_recipe(recipe(training={"batch_tokens": 1024}, method={"kind": "lora", "rank": 4}))
    assert load_recipe(loaded.to_dict()) == loaded
    assert loaded.to_dict()["method"]["alpha"] == 16.0


def test_a_block_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load_recipe(recipe()).training.seed = 3  # type: ignore[misc]


def test_what_stands_twice_is_found_without_comparing_every_pair() -> None:
    compared = []

    class Counted(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return str.__eq__(self, other)

    names = [Counted(f"label {number}") for number in range(300)]
    assert twice("labels", names) == []
    assert twice("labels", [*names, Counted("label 7")]) == [
        ("labels", "holds 'label 7' more than once; name each once")
    ]
    assert len(compared) < 3000
