"""Names that users of other libraries bring along: read as ours with a note, or refused with what to write."""

from __future__ import annotations

from typing import Any

import pytest

from adapterkit.cli.fields import as_overrides
from adapterkit.errors import RecipeError
from adapterkit.recipe.load import resolve
from adapterkit.recipe.neighbours import NEIGHBOURS
from adapterkit.recipe.problems import fields_of

PLAIN: dict[str, Any] = {
    "task": {"kind": "text-classification"},
    "backbone": {"name": "bert-base-uncased"},
    "data": {"train": "rows.csv"},
}


def field(recipe: Any, path: str) -> Any:
    value: Any = recipe.to_dict()
    for name in path.split("."):
        value = value[name]
    return value


@pytest.mark.parametrize(
    ("block", "written", "path", "read"),
    [
        ("training", {"num_train_epochs": 5}, "training.epochs", 5),
        ("", {"num_train_epochs": 5}, "training.epochs", 5),
        ("training", {"per_device_train_batch_size": 16}, "training.batch_size", 16),
        # 16 rows on the device, four times before a step: 64 rows a step, cut into four parts.
        ("training", {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 4}, "training.batch_size", 64),
        ("training", {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 4}, "training.accumulate", 4),
        ("training", {"gradient_accumulation_steps": 4}, "training.accumulate", 4),
        ("training", {"bf16": True}, "training.precision", "bf16"),
        ("training", {"fp16": True, "bf16": False}, "training.precision", "fp16"),
        ("training", {"fp16": False}, "training.precision", "auto"),
        ("training", {"report_to": "none"}, "training.trackers", []),
        ("training", {"report_to": "wandb"}, "training.trackers", ["wandb"]),
        ("training", {"save_steps": 500}, "training.checkpoint_every", 500),
        ("training", {"eval_strategy": "epoch"}, "training.evaluate_every", "epoch"),
        ("training", {"eval_strategy": "steps", "eval_steps": 50}, "training.evaluate_every", 50),
        ("training", {"lr_scheduler_type": "cosine"}, "training.schedule", "cosine"),
        ("method", {"target_modules": ["q_proj", "v_proj"]}, "method.sites", ["attention.query", "attention.value"]),
        ("method", {"target_modules": "all-linear"}, "method.sites", "all-linear"),
        ("method", {"lora_r": 4, "lora_alpha": 8}, "method.rank", 4),
        ("training", {"lr": 0.5}, "training.learning_rate", 0.5),
        ("method", {"r": 4}, "method.rank", 4),
        ("data", {"sep": ";"}, "data.delimiter", ";"),
        ("head", {"normalize_embeddings": True}, "head.normalize", True),
        ("", {"output_dir": "out"}, "output", "out"),
    ],
)
def test_a_neighbours_name_is_read_as_ours_and_noted(block: str, written: Any, path: str, read: Any) -> None:
    raw = {**PLAIN, **written} if not block else {**PLAIN, block: {**PLAIN.get(block, {}), **written}}
    resolved = resolve(raw)
    assert field(resolved.recipe, path) == read
    assert len(resolved.notes) == len(written)
    assert all(any(name in note for note in resolved.notes) for name in written)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("training.eval_strategy=no", "data.validation: null"),
        ("method.target_modules=[dense]", "method.sites"),
        ("method.modules_to_save=[classifier]", "the head is trained and saved"),
        ("method.task_type=SEQ_CLS", "task.kind says it"),
        ("training.bf16=output", "found 'output', expected true or false"),
        ("training.lr_scheduler_type=polynomial", "linear, cosine or constant"),
    ],
)
def test_a_neighbours_name_without_a_counterpart_is_refused_with_what_to_write(override: str, told: str) -> None:
    with pytest.raises(RecipeError, match="is not a known name") as caught:
        resolve(PLAIN, [override])
    assert told in str(caught.value)
    assert "command line" in str(caught.value)


def test_a_neighbours_name_beside_ours_is_refused_where_they_differ() -> None:
    with pytest.raises(RecipeError, match="set one of the two"):
        resolve({**PLAIN, "training": {"epochs": 3, "num_train_epochs": 5}})
    assert field(resolve({**PLAIN, "training": {"epochs": 5, "num_train_epochs": 5}}).recipe, "training.epochs") == 5


def test_every_neighbour_leads_to_a_field_and_none_is_a_name_of_ours() -> None:
    fields = fields_of(PLAIN)
    for name, neighbour in NEIGHBOURS.items():
        block, _, field_name = neighbour.path.rpartition(".")
        assert not neighbour.path or field_name in fields[block], name
        assert neighbour.path or neighbour.hint, name
        assert not any(name in known for known in fields.values()), name


def test_fields_written_as_options_become_overrides() -> None:
    words = ["x.yaml", "--epochs", "5", "--quiet", "--lora-r=4", "--bf16", "--data-root", "d", "--training.seed", "1"]
    own = {"--quiet", "--data-root"}
    assert as_overrides(words, own) == [
        "x.yaml", "training.epochs=5", "--quiet", "lora_r=4", "bf16=true", "--data-root", "d", "training.seed=1",
    ]  # fmt: skip
    assert as_overrides(["--bf16", "x.yaml", "--keep-best", "false", "--rslora", "output=o"], own) == [
        "bf16=true", "x.yaml", "training.keep_best=false", "method.rslora=true", "output=o",
    ]  # fmt: skip
    assert as_overrides(["--no-such", "3", "--kind", "lora"], own) == ["--no-such", "3", "--kind", "lora"]
