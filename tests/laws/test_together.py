"""Law: computed in one batch, every adapter gets the gradients that it gets alone, whatever stands beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from accelerate import Accelerator
from torch import Tensor

from adapterkit.adapted import Adapted
from adapterkit.backbone.lanes import NoLanesError
from adapterkit.recipe import BottleneckMethod, LoraMethod, TrainingSettings
from adapterkit.training.batches import Position
from adapterkit.training.joint import Joint
from adapterkit.training.learner import make_learner
from adapterkit.training.turn import Learning, Turn
from tests.laws.cases import CASES, HEADS, METHODS, Case
from tests.laws.worlds import adapter, disturb, features_of

Backbones = Mapping[str, Any]


def has_lanes(case: Case) -> bool:
    """Whether every tensor that the method trains is a module's own, and enters its products alone."""
    method = METHODS[case.method].settings
    if isinstance(method, LoraMethod):
        return not method.dora and method.bias == "none"
    return not method.scale_learned if isinstance(method, BottleneckMethod) else method.kind == "none"


JOINT = [case for case in CASES if has_lanes(case) and (case.method != "none" or not case.kind.endswith("-lm"))]
OTHERS = [case for case in CASES if not has_lanes(case)]


@pytest.fixture
def members(request: pytest.FixtureRequest, tiny_backbones: Backbones) -> Iterator[list[Adapted]]:
    """Three adapters of a case, with other weights each, on twins of one backbone."""
    case: Case = request.param
    with ExitStack() as stack:
        made = []
        for seed in range(3):
            twin = tiny_backbones[case.family].twin()
            adapted = adapter(twin, case.kind, METHODS[case.method].settings, HEADS[case.head], seed=seed)
            made.append(stack.enter_context(adapted))
            disturb(made[-1], seed=seed)
        yield made


def turns_of(members: Sequence[Adapted], settings: TrainingSettings) -> list[Turn]:
    """A step of each, over other rows in other numbers."""
    found = []
    for number, adapted in enumerate(members):
        features = features_of(adapted)
        features = features[: len(features) - number % 2] or features
        learner = make_learner(adapted, settings, total_steps=1)
        batches: Any = None
        learning = Learning(adapted, adapted, batches, learner, settings, Accelerator(cpu=True))
        found.append(Turn(learning, 1, Position(), features))
    return found


def gradients(turns: Sequence[Turn]) -> list[dict[str, Tensor]]:
    """What was computed, taken away."""
    found = []
    for turn in turns:
        parameters = turn.learning.learner.parameters
        found.append({name: p.grad.clone() for name, p in parameters.items() if p.grad is not None})
        turn.forget()
    return found


def assert_alike(found: Sequence[Mapping[str, Tensor]], expected: Sequence[Mapping[str, Tensor]]) -> None:
    """Up to the order of additions; all choices of a causal model begin alike, so that some true gradients are zero."""
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, gradient in other.items():
            assert float((one[name] - gradient).norm()) <= 1e-4 * float(gradient.norm()) + 1e-6, name


@pytest.mark.parametrize("members", JOINT, ids=str, indirect=True)
def test_joint_gradients_are_those_of_each_adapter_alone(members: list[Adapted], tiny_backbones: Backbones) -> None:
    backbone = next(b for b in tiny_backbones.values() if b.name == members[0].backbone.name)
    turns = turns_of(members, TrainingSettings())
    joint = Joint(backbone, members)
    with joint.without_dropout():
        for turn in turns:
            turn.compute()
        expected = gradients(turns)
        joint.compute(list(enumerate(turns)))
        found = gradients(turns)
        joint.compute([(2, turns[2]), (0, turns[0])])  # one has ended, and the order is another
        two = gradients([turns[0], turns[2]])
    assert_alike(found, expected)
    assert_alike(two, [expected[0], expected[2]])


@pytest.mark.parametrize("members", OTHERS, ids=str, indirect=True)
def test_what_cannot_be_computed_in_one_batch_is_refused(members: list[Adapted], tiny_backbones: Backbones) -> None:
    with pytest.raises(NoLanesError):
        Joint(tiny_backbones["bert"], members)
