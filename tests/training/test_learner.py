"""Who learns how fast."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from adapterkit.adapted import build
from adapterkit.recipe import (
    BottleneckMethod,
    HeadSettings,
    LoraMethod,
    MethodSettings,
    NoMethod,
    TaskSettings,
    TrainingSettings,
)
from adapterkit.tasks import TASKS
from adapterkit.training.learner import idle_rates, make_learner, rate_factor, warmup_steps
from tests.training.worlds import rows_of


def adapted_on(backbone: Any, method: MethodSettings) -> Any:
    task = TASKS["text-classification"].prepare(
        TaskSettings(kind="text-classification"), rows_of("text-classification", 4)
    )
    return build(backbone, task, method, HeadSettings(kind="mlp"), seed=0)


@pytest.mark.parametrize("method", [LoraMethod(dora=True), BottleneckMethod(scale_learned=True)], ids=lambda m: m.kind)
def test_every_trained_parameter_has_its_rate_and_vectors_do_not_decay(
    tiny_backbones: Any, method: MethodSettings
) -> None:
    settings = TrainingSettings(learning_rate=0.01, weight_decay=0.3, warmup=0)
    with adapted_on(tiny_backbones["bert"], method) as adapted:
        learner = make_learner(adapted, settings, total_steps=10)
        found = {
            name: (group["lr"], group["weight_decay"])
            for name, parameter in learner.parameters.items()
            for group in learner.optimizer.param_groups
            for part in group["params"]
            if part.data_ptr() <= parameter.data_ptr() < part.data_ptr() + part.nbytes
        }
        expected = {
            name: (pytest.approx(rate), 0.3 if parameter.ndim > 1 else 0.0)
            for rate, parameters in ((0.01, adapted.method_parameters()), (0.05, adapted.head_parameters()))
            for name, parameter in parameters.items()
        }
        assert found == expected
        assert {parameter.ndim > 1 for parameter in learner.parameters.values()} == {True, False}
        trainable = {id(parameter) for parameter in adapted.parameters() if parameter.requires_grad}
        assert trainable == {id(parameter) for parameter in learner.parameters.values()}
        assert len([part for group in learner.optimizer.param_groups for part in group["params"]]) <= 4


def test_steps_are_those_of_an_optimizer_over_each_tensor(tiny_backbones: Any) -> None:
    settings = TrainingSettings(learning_rate=0.01, weight_decay=0.3, schedule="constant", warmup=0)
    with adapted_on(tiny_backbones["bert"], LoraMethod(dora=True, bias="lora_only")) as adapted:
        learner = make_learner(adapted, settings, total_steps=10)
        biases = set(adapted.attachment.biases())
        assert biases
        copies = {name: p.detach().clone().requires_grad_() for name, p in learner.parameters.items()}
        plain = torch.optim.AdamW(
            [
                {
                    "params": [copy],
                    "lr": 0.01 if name in adapted.method_parameters() else 0.05,
                    "weight_decay": 0.3 if copy.ndim > 1 else 0.0,
                }
                for name, copy in copies.items()
            ]
        )
        generator = torch.Generator().manual_seed(0)
        for _ in range(3):
            for name, parameter in learner.parameters.items():
                gradient = torch.randn(parameter.shape, generator=generator)
                parameter.grad, copies[name].grad = gradient.clone(), 0.5 * gradient
            expected = torch.nn.utils.clip_grad_norm_(copies.values(), 1.0)
            plain.step()
            learner.collect()
            assert learner.step(clip=1.0, factor=0.5) == pytest.approx(float(expected), rel=1e-5)
        for name, parameter in learner.parameters.items():
            # The norm is summed in another order.
            assert torch.allclose(parameter, copies[name], rtol=1e-5, atol=1e-7), name
        assert learner.size() == pytest.approx(
            sum(float((copy.detach().double() ** 2).sum()) for copy in copies.values()) ** 0.5, rel=1e-5
        )


def test_the_trunks_own_biases_stay_where_they_are(tiny_backbones: Any) -> None:
    with adapted_on(tiny_backbones["bert"], LoraMethod(bias="all")) as adapted:
        biases = adapted.attachment.biases()
        before = {name: bias.data_ptr() for name, bias in biases.items()}
        learner = make_learner(adapted, TrainingSettings(), total_steps=10)
        assert {name: learner.parameters[name].data_ptr() for name in biases} == before


def test_a_head_may_have_a_rate_of_its_own(tiny_backbones: Any) -> None:
    with adapted_on(tiny_backbones["bert"], LoraMethod()) as adapted:
        settings = TrainingSettings(learning_rate=0.01, head_learning_rate=0.002, warmup=0)
        groups = make_learner(adapted, settings, total_steps=10).optimizer.param_groups
        assert sorted({group["lr"] for group in groups}) == [0.002, 0.01]


def test_a_rate_without_learners_is_named(tiny_backbones: Any) -> None:
    both = TrainingSettings(learning_rate=0.01, head_learning_rate=0.002)
    with adapted_on(tiny_backbones["bert"], NoMethod()) as adapted:
        assert list(idle_rates(adapted, both)) == ["training.learning_rate"]
        assert idle_rates(adapted, TrainingSettings(learning_rate=0.01)) == {}
    with adapted_on(tiny_backbones["bert"], LoraMethod()) as adapted:
        assert idle_rates(adapted, both) == {}


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        # Two steps of warm-up; then four from 1 to 0, of which the last is not reached.
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        # (1 + cos(pi x)) / 2 at x = 0, 1/4, 1/2, 3/4; cos(pi/4) = 0.7071.
        ("cosine", [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447]),
    ],
)
def test_schedules_rise_and_fall(schedule: str, expected: list[float]) -> None:
    found = [rate_factor(step, warmup=2, total=6, schedule=schedule) for step in range(6)]
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("warmup", "steps"), [(0.0, 0), (0.06, 6), (0.051, 6), (0.5, 50), (1.0, 1), (20.0, 20)])
def test_warm_up_is_a_share_below_one_and_a_number_of_steps_from_there_on(warmup: float, steps: int) -> None:
    assert warmup_steps(TrainingSettings(warmup=warmup), 100) == steps


def test_a_warm_up_longer_than_the_run_never_falls() -> None:
    assert [rate_factor(step, warmup=4, total=3, schedule="linear") for step in range(3)] == [0.25, 0.5, 0.75]


class TestAStep:
    @pytest.fixture
    def learner(self, tiny_backbones: Any) -> Any:
        settings = TrainingSettings(learning_rate=0.5, head_learning_rate=0.5, schedule="constant", warmup=0)
        with adapted_on(tiny_backbones["bert"], LoraMethod()) as adapted:
            yield make_learner(adapted, settings, total_steps=10)

    def give(self, learner: Any, value: float) -> list[torch.Tensor]:
        """Every gradient gets this norm, over all parameters together. Returns the parameters as they were."""
        count = sum(parameter.numel() for parameter in learner.parameters.values())
        for parameter in learner.parameters.values():
            parameter.grad = torch.full_like(parameter, value / count**0.5)
        return [parameter.detach().clone() for parameter in learner.parameters.values()]

    def test_the_norm_is_told_before_it_is_clipped(self, learner: Any) -> None:
        self.give(learner, 8.0)
        seen: list[float] = []
        learner.optimizer.register_step_pre_hook(
            lambda optimizer, *_: seen.append(
                sum(float((p.grad**2).sum()) for group in optimizer.param_groups for p in group["params"]) ** 0.5
            )
        )
        learner.collect()
        assert learner.step(clip=2.0) == pytest.approx(8.0)
        assert seen == [pytest.approx(2.0)]
        assert all(parameter.grad is None for parameter in learner.parameters.values())
        self.give(learner, 8.0)
        learner.collect()
        assert learner.step(clip=None) == pytest.approx(8.0)
        assert seen[1:] == [pytest.approx(8.0)]

    def test_a_gradient_that_is_not_finite_changes_nothing(self, learner: Any) -> None:
        before = self.give(learner, float("nan"))
        learner.collect()
        assert math.isnan(learner.step(clip=1.0))
        assert all(torch.equal(a, b) for a, b in zip(before, learner.parameters.values(), strict=True))

    def test_the_size_is_finite_until_one_weight_is_not(self, learner: Any) -> None:
        assert 0 < learner.size() < 1e3
        with torch.no_grad():
            next(iter(learner.parameters.values())).view(-1)[0] = float("inf")
        assert not learner.size() < float("inf")


def test_every_process_exchanges_every_tensor_whichever_of_them_its_rows_reached(
    tiny_backbones: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    monkeypatch.setattr("adapterkit.training.learner._add_up", lambda tensor: sent.append(tensor.numel()))
    with adapted_on(tiny_backbones["bert"], LoraMethod(bias="all")) as adapted:
        learner = make_learner(adapted, TrainingSettings(), total_steps=10)
        first, *others = learner.loose
        first.grad = torch.ones_like(first)
        learner.collect(1.0, processes=2)
        assert sent == [learner.flat.travels.numel(), *(loose.numel() for loose in learner.loose)]
        assert (
            [float(loose.grad.abs().sum()) for loose in others if loose.grad is not None] == [0.0] * len(others) != []
        )
