"""Laws of adapters side by side: none sees another, and in one batch each gets the gradients that it gets alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from adapterkit.adapted import Adapted
from adapterkit.backbone import Backbone
from adapterkit.heads.lanes import NoLanesError
from adapterkit.recipe import BottleneckMethod, LoraMethod, TrainingSettings
from adapterkit.training.learner import make_learner
from adapterkit.training.standing import Position
from adapterkit.training.together.joint import Joint
from adapterkit.training.turn import Learning, Turn
from tests import tiny
from tests.laws.cases import CASES, HEADS, METHODS, Case
from tests.laws.worlds import adapter, batch_of, disturb, features_of, logits_of
from tests.methods.cases import bits

Backbones = Mapping[str, Any]


def has_lanes(case: Case) -> bool:
    """Whether what trains are whole modules that read rows alone, over a backbone that is the same for all."""
    method = case.row.settings
    if isinstance(method, LoraMethod):
        return not case.family.startswith("deberta") and not method.dora and method.initialization != "pissa"
    return not method.scale_learned if isinstance(method, BottleneckMethod) else method.kind == "none"


def cases() -> Iterator[Case]:
    """Of the table those that can share a batch: every pair of kind and family there, and every method thrice."""
    pairs: set[tuple[str, str]] = set()
    methods: Counter[str] = Counter()
    for case in CASES:
        if case.family in tiny.OTHERS and case.family != "electra":
            continue
        trains = case.method != "none" or not case.kind.endswith("-lm")
        if trains and has_lanes(case) and ((case.kind, case.family) not in pairs or methods[case.method] < 3):
            pairs.add((case.kind, case.family))
            methods[case.method] += 1
            yield case


JOINT = list(cases())
REFUSED = {(case.method, case.family.startswith("deberta")): case for case in CASES if not has_lanes(case)}
SEEDS = range(3)


@contextmanager
def member(backbone: Backbone, case: Case, seed: int) -> Iterator[Adapted]:
    """An adapter of a case, with other weights for every seed."""
    with adapter(backbone, case.kind, case.row.settings, HEADS[case.head], seed=seed) as adapted:
        disturb(adapted, seed=seed)
        yield adapted


@contextmanager
def side_by_side(backbone: Backbone, case: Case) -> Iterator[list[Adapted]]:
    """Members on twins of a backbone."""
    with ExitStack() as stack:
        yield [stack.enter_context(member(backbone.twin(), case, seed)) for seed in SEEDS]


def turn_of(adapted: Adapted, number: int) -> Turn:
    """A step over other rows for every number."""
    features = features_of(adapted)
    features = features[: len(features) - number % 2] or features
    settings = TrainingSettings()
    learner = make_learner(adapted, settings, total_steps=1)
    batches: Any = None
    accelerator = Accelerator(cpu=True)
    learning = Learning(adapted, batches, learner, settings, accelerator)
    return Turn(learning, 1, Position(), features)


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


@pytest.mark.parametrize("case", JOINT, ids=str)
def test_joint_gradients_are_those_of_each_adapter_alone(case: Case, tiny_backbones: Backbones) -> None:
    backbone = tiny_backbones[case.family]
    expected = []
    for seed in SEEDS:
        with member(backbone, case, seed) as alone:
            turn = turn_of(alone, seed)
            alone.eval()
            turn.compute()
            expected += gradients([turn])
    with side_by_side(backbone, case) as members:
        turns = [turn_of(adapted, seed) for seed, adapted in zip(SEEDS, members, strict=True)]
        joint = Joint(backbone, members)
        with joint.without_dropout():
            joint.compute(list(enumerate(turns)))
            assert_alike(gradients(turns), expected)
            joint.compute([(2, turns[2]), (0, turns[0])])  # one has ended, and the order is another
            assert_alike(gradients([turns[0], turns[2]]), [expected[0], expected[2]])


@pytest.mark.parametrize("case", REFUSED.values(), ids=str)
def test_what_cannot_be_computed_in_one_batch_is_refused(case: Case, tiny_backbones: Backbones) -> None:
    with side_by_side(tiny_backbones[case.family], case) as members, pytest.raises(NoLanesError):
        Joint(tiny_backbones[case.family], members)


TWINS = {
    **{method: METHODS[method].settings for method in METHODS},
    "lora-bias-all": LoraMethod(bias="all"),
    "lora-olora": LoraMethod(initialization="olora"),
}


@pytest.mark.parametrize("method", TWINS)
def test_adapters_on_twins_do_not_see_each_other(method: str, tiny_backbones: Backbones) -> None:
    """Whatever a method puts in the place of frozen tensors, and whatever it learns."""
    backbone, settings = tiny_backbones["roberta"], TWINS[method]
    before = {name: bits(parameter) for name, parameter in backbone.trunk.named_parameters()}
    with adapter(backbone, "text-classification", settings) as alone:
        expected = logits_of(alone)
    twins = [backbone.twin(), backbone.twin()]
    with (
        adapter(twins[0], "text-classification", settings) as one,
        adapter(twins[1], "text-classification", settings, seed=1) as other,
    ):
        learner = make_learner(other, TrainingSettings(learning_rate=0.1), total_steps=2)
        other.train()
        for _ in range(2):
            batch = batch_of(other)
            other.task.loss(other(batch.inputs), batch).mean.backward()
            learner.collect()
            learner.step(clip=None)
        if METHODS.get(method, METHODS["lora"]).merges and method != "none":
            other.eval().merge()
        assert torch.equal(logits_of(one), expected)
        assert {name: bits(parameter) for name, parameter in backbone.trunk.named_parameters()} == before
    assert all(not parameter.requires_grad for twin in twins for parameter in twin.trunk.parameters())
