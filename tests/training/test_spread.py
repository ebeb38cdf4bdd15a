"""However many processes, and whether each holds the backbone or a shard of it: what is learned is the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from adapterkit.adapted import Adapted
from adapterkit.backbone.pretrained import is_layer
from adapterkit.errors import DeviceError
from adapterkit.recipe import resolve
from adapterkit.recipe.kinds import KINDS
from adapterkit.training import Paused
from adapterkit.training.sharded import Sharded
from tests import tiny
from tests.training.ranks import by_ranks, together
from tests.training.worlds import events, losses, recipe, rows_of, train, write_rows

# Python 3.12 warns of forks beside threads; nothing here waits for a lock of another thread.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
LORA = {"kind": "lora", "rank": 2, "sites": ["attention.query", "attention.value"]}
HOULSBY = {"kind": "bottleneck", "placement": "houlsby", "width": 4}
CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "text-classification, LoRA": ("text-classification", "bert", LORA, {}),
    "text-classification, head alone": ("text-classification", "roberta", {"kind": "none"}, {}),
    "token-classification, bottleneck": ("token-classification", "distilbert", HOULSBY, {}),
    "question-answering, IA3": ("question-answering", "modernbert", {"kind": "ia3"}, {}),
    "multiple-choice, bottleneck": ("multiple-choice", "roberta", {**HOULSBY, "placement": "parallel"}, {}),
    "masked-lm, LoRA": ("masked-lm", "bert", LORA, {}),
    "causal-lm, LoRA, micro-batches": ("causal-lm", "llama", LORA, {"accumulate": 2}),
    "causal-lm, bottleneck, checkpointed": ("causal-lm", "qwen2", HOULSBY, {"gradient_checkpointing": True}),
    "seq2seq-lm, LoRA": ("seq2seq-lm", "t5", LORA, {}),
    "seq2seq-lm, bottleneck": ("seq2seq-lm", "bart", HOULSBY, {}),
}
GENERATING = ("causal-lm", "seq2seq-lm")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spread")


def plan_of(world: Path, case: str, output: str, **training: Any) -> dict[str, Any]:
    """13 rows in steps of 4: the last of an epoch has one row for all processes. 4 validate."""
    kind, family, method, settings = CASES[case]
    rows = rows_of(kind, 17)
    data = {
        "train": write_rows(world / f"{kind}-13.jsonl", rows[:13]),
        "validation": write_rows(world / f"{kind}-4.jsonl", rows[13:]),
        "test": None,
    }
    settings = {"epochs": 1, "batch_size": 4, "checkpoint_every": 100, "evaluate_every": 100, **settings, **training}
    if not (world / family).exists():
        tiny.build(family, world / family)
    return recipe(
        world, world / family, kind, method=method, data=data, training=settings,
        output=str(world / output / case),
    )  # fmt: skip


def chosen(ranks: int, sharded: bool) -> list[str]:
    """A third of the cases, so that each meets whole backbones and shards, in two different numbers of processes."""
    return [case for number, case in enumerate(CASES) if not (number + ranks + sharded) % 3]


def counting(ranks: int, world: Path, name: str, environment: Mapping[str, str]) -> None:
    """Cases in so many processes; each notes how often its layers compute, and what it holds of the trunk."""

    plans = {case: plan_of(world, case, name) for case in chosen(ranks, bool(environment))}

    def act() -> None:
        os.environ.update(environment)
        counts: dict[str, int] = {}
        held: dict[str, list[int]] = {}
        case = ""

        def count(module: nn.Module, *_: Any) -> None:
            if is_layer(module):
                counts[case] = counts.get(case, 0) + 1

        spread = Sharded.spread

        def spread_and_weigh(self: Sharded, adapted: Adapted) -> None:
            spread(self, adapted)
            parameters = {id(p): p for p in adapted.module.parameters() if isinstance(p, DTensor)}.values()
            held[case] = [sum(p.to_local().numel() for p in parameters), sum(p.numel() for p in parameters)]

        Sharded.spread = spread_and_weigh  # type: ignore[method-assign]
        torch.nn.modules.module.register_module_forward_pre_hook(count)
        for each, plan in plans.items():
            case = each
            train(plan)
        told = world / f"{name}-{os.environ['RANK']}.json"
        told.write_text(json.dumps({"counts": counts, "held": held}))

    together(ranks, act, seconds=280)


@pytest.fixture(scope="module")
def alone(world: Path) -> Path:
    for case in CASES:
        train(plan_of(world, case, "alone"))
    return world / "alone"


def tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def test_every_case_meets_two_numbers_of_processes_and_both_ways_to_spread() -> None:
    for case in CASES:
        met = {(ranks, sharded) for ranks in (2, 3, 4) for sharded in (False, True) if case in chosen(ranks, sharded)}
        assert len({ranks for ranks, _ in met}) == 2
        assert {sharded for _, sharded in met} == {False, True}
    methods = {method["kind"] for _, _, method, _ in CASES.values()}
    assert {kind for kind, *_ in CASES.values()} == set(KINDS)
    assert methods == {"lora", "bottleneck", "ia3", "none"}


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("environment", [{}, FSDP], ids=["DDP", "FSDP2"])
def test_any_number_of_processes_learns_what_one_learns(
    world: Path, alone: Path, ranks: int, environment: Mapping[str, str]
) -> None:
    name = f"{'sharded' if environment else 'whole'}-{ranks}"
    counting(ranks, world, name, environment)
    told = [json.loads((world / f"{name}-{rank}.json").read_text()) for rank in range(ranks)]
    for case in chosen(ranks, bool(environment)):
        kind = CASES[case][0]
        one, several = alone / case, world / name / case
        assert [event["processes"] for event in events(several, "begin")] == [ranks]
        # Sums of the same numbers in another order.
        assert losses(several) == pytest.approx(losses(one), rel=1e-5), case
        for ours, theirs in zip(events(several, "score"), events(one, "score"), strict=True):
            for metric, values in theirs["metrics"].items():
                assert ours["metrics"][metric] == pytest.approx(values, rel=1e-5, nan_ok=True), case
        ours, theirs = tensors(several), tensors(one)
        assert ours.keys() == theirs.keys()
        for path, tensor in theirs.items():
            if kind in ("question-answering", "multiple-choice") and path.endswith("classifier.bias"):
                continue  # one for all tokens or choices changes no softmax over them: its gradient is rounding alone
            # AdamW divides by the root of squared gradients, which lifts the last bits of small ones.
            assert ours[path].numpy() == pytest.approx(tensor.numpy(), rel=1e-3, abs=1e-5), (case, path)
        if environment or kind not in GENERATING:  # where each has a whole backbone, texts end when they end
            assert len({each["counts"][case] for each in told}) == 1, case
        if environment:
            shares, (whole, *others) = zip(*(each["held"][case] for each in told), strict=True)
            assert {whole} == {whole, *others}
            assert sum(shares) == whole > 0
            # Rows of a tensor are shared out whole, so that a small one may lie in fewer processes.
            assert max(shares) < 0.75 * whole, case


DROPPING = {
    "text-classification, LoRA": {"dropout": 0.2},
    "token-classification, bottleneck": {},
    "causal-lm, LoRA, micro-batches": {"dropout": 0.2},
    "seq2seq-lm, bottleneck": {},
}
"""Cases, and what drops beside the trunk; in every second one whole backbones come first."""


def test_two_then_one_then_three_processes_learn_what_is_learned_without_a_stop(world: Path) -> None:
    settings = {"epochs": 2, "evaluate_every": 2, "checkpoint_every": 2}
    plans = {}
    for case, method in DROPPING.items():
        plan = plan_of(world, case, "dropping", **settings)
        plans[case] = {**plan, "method": {**plan["method"], **method}}
    for case, plan in plans.items():
        train({**plan, "output": str(world / "in one go" / case)})

    def part(until: int | None, sharded: Sequence[str]) -> Callable[[], None]:
        def act() -> None:
            for case, plan in plans.items():
                os.environ.update({**FSDP, "ACCELERATE_USE_FSDP": "true" if case in sharded else "false"})
                if until is None:
                    train(plan, resume="auto")
                    continue
                with pytest.raises(Paused):
                    train(plan, resume="auto", pause_after=lambda batches: until)

        return act

    cases = list(plans)
    together(2, part(2, cases[1::2]))
    together(1, part(4, ()))
    together(3, part(None, cases[::2]))
    for case in cases:
        whole, stopped = world / "in one go" / case, world / "dropping" / case
        assert [(event["step"], event["processes"]) for event in events(stopped, "begin")] == [(0, 2), (2, 1), (4, 3)]
        assert losses(stopped) == pytest.approx(losses(whole), rel=1e-5), case
        assert tensors(stopped).keys() == tensors(whole).keys()


@pytest.mark.parametrize("case", ["causal-lm, LoRA, micro-batches", "seq2seq-lm, bottleneck"])
def test_in_bfloat16_shards_give_what_whole_backbones_give_and_only_what_is_cut_leaves_its_file(
    world: Path, case: str
) -> None:
    plans = [plan_of(world, case, name, precision="bf16") for name in ("bf16-whole", "bf16-sharded")]
    by_ranks(2, plans[0])

    def act() -> None:
        os.environ.update(FSDP)
        spread = Sharded.spread

        def spread_and_look(self: Sharded, adapted: Adapted) -> None:
            frozen = [parameter for parameter in adapted.backbone.trunk.parameters() if not parameter.requires_grad]
            assert {parameter.dtype for parameter in frozen} == {torch.float32}  # as the file has them
            spread(self, adapted)
            frozen = [parameter for parameter in adapted.backbone.trunk.parameters() if not parameter.requires_grad]
            assert {parameter.dtype for parameter in frozen} == {torch.bfloat16}

        Sharded.spread = spread_and_look  # type: ignore[method-assign]
        train(plans[1])

    together(2, act)
    # The same products of the same numbers; only gradients are added up in another way.
    assert losses(Path(plans[1]["output"])) == pytest.approx(losses(Path(plans[0]["output"])), rel=1e-2)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"backbone": {"name": "x", "dtype": "nf4"}}, "backbone.dtype: nf4"),
        ({"backbone": {"name": "x", "dtype": "int8"}}, "backbone.dtype: int8"),
        ({"method": {"kind": "fusion", "parts": ["x", "y"]}}, "method.kind: the parts of a fusion"),
    ],
    ids=["nf4", "int8", "fusion"],
)
def test_what_is_not_cut_into_shards_is_refused_by_name(changes: Mapping[str, Any], named: str) -> None:
    from accelerate import Accelerator

    plan = {"task": {"kind": "text-classification"}, "backbone": {"name": "x"}, "data": {"train": "x"}, **changes}
    with pytest.raises(DeviceError, match="cannot be spread with FSDP") as caught:
        Sharded(Accelerator(cpu=True), resolve(plan, ()).recipe)
    (problem,) = caught.value.problems
    assert problem.startswith(named)
