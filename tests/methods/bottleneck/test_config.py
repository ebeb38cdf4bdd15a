"""The bottleneck's configuration is checked wherever it comes from."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import pytest
import torch

from adapterkit.errors import ArtifactError
from adapterkit.methods.bottleneck.config import BottleneckConfig
from adapterkit.methods.equations import ACTIVATIONS, PLACEMENTS
from adapterkit.recipe import BottleneckMethod

GOOD: dict[str, Any] = {"target_modules": ["b.x", "a.x"], "placement": "houlsby", "width": 2}


def test_targets_are_sorted_and_the_rest_is_json() -> None:
    config = BottleneckConfig(**GOOD)
    assert config.target_modules == ("a.x", "b.x")
    content = json.loads(json.dumps(config.to_dict()))
    assert BottleneckConfig.from_peft_type(**content).to_dict() == config.to_dict()


def test_many_targets_are_not_shortened_to_suffixes() -> None:
    # PEFT shortens lists and sets from 20 names on.
    names = [f"layers.{number}.x" for number in range(30)]
    assert BottleneckConfig(target_modules=names, placement="houlsby").target_modules == tuple(sorted(names))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("target_modules", ".*"),
        ("target_modules", []),
        ("target_modules", None),
        ("target_modules", ["a.*"]),
        ("target_modules", ["a..b"]),
        ("target_modules", ["/etc/passwd"]),
        ("target_modules", ["a.x", 3]),
        ("target_modules", ["a.x", "a.x"]),
        ("target_modules", ["a" * 600]),
        ("residual_modules", ["a.x"]),
        ("residual_modules", {"a.x": ".*"}),
        ("residual_modules", {"c.x": "c"}),
        ("norm_modules", None),
        ("norm_modules", {"a.x": 1}),
        ("placement", "sideways"),
        ("placement", "pfeiffer"),
        ("placement", ["houlsby"]),
        ("activation", "__import__"),
        ("activation", ["relu"]),
        ("width", 0),
        ("width", 10**12),
        ("width", True),
        ("width", 2.0),
        ("scale", math.nan),
        ("scale", math.inf),
        ("scale", "1"),
        ("scale_learned", 1),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("dropout", None),
        ("exclude_modules", ["a"]),
    ],
)
def test_a_bad_value_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ArtifactError) as error:
        BottleneckConfig(**{**GOOD, field: value})
    expected = "residual_modules" if value == "pfeiffer" else field
    assert [problem.partition(":")[0] for problem in error.value.problems] == [expected]


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ArtifactError) as error:
        BottleneckConfig(target_modules="x", width=0, scale="", dropout=7, activation="?", placement="?")
    assert len(error.value.problems) == 6


def test_a_recipe_can_name_exactly_what_the_config_knows() -> None:
    fields = BottleneckMethod.model_fields
    assert set(get_args(fields["activation"].annotation)) == set(ACTIVATIONS)
    assert set(get_args(fields["placement"].annotation)) == set(PLACEMENTS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_leave_their_input_alone(name: str) -> None:
    z = torch.tensor([-1.0, 0.0, 2.0])
    ACTIVATIONS[name](z)
    assert z.tolist() == [-1.0, 0.0, 2.0]


def test_activations_by_hand() -> None:
    z = torch.tensor([-1.0, 2.0])
    expected = {
        "relu": [0.0, 2.0],
        "identity": [-1.0, 2.0],
        "leaky_relu": [-0.01, 2.0],
        "sigmoid": [1 / (1 + math.e), 1 / (1 + math.exp(-2))],
        "silu": [-1 / (1 + math.e), 2 / (1 + math.exp(-2))],
        "tanh": [math.tanh(-1), math.tanh(2)],
        "gelu_tanh": [0.5 * z * (1 + math.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))) for z in (-1.0, 2.0)],
        "gelu": [-0.5 * (1 + math.erf(-1 / math.sqrt(2))), 1 + math.erf(2 / math.sqrt(2))],
    }
    assert expected.keys() == ACTIVATIONS.keys()
    for name, values in expected.items():
        assert ACTIVATIONS[name](z).tolist() == pytest.approx(values)
