"""A backbone in shards: what a process holds at any time, counted in bytes, and what the plan has said of it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.tensor import DTensor
from transformers import BertConfig, BertModel

import adapterkit as ak
from adapterkit.adapted import Adapted
from adapterkit.training.sharded import Sharded
from adapterkit.training.turn import Turn
from tests.training.ranks import together
from tests.training.worlds import recipe, train

# Python 3.12 warns of forks beside threads; nothing here waits for a lock of another thread.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def own_bytes() -> int:
    """Memory of this process that no file stands behind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])


class Watch:
    """The most memory of its own that this process has had inside."""

    def __enter__(self) -> Watch:
        self.before = self.most = own_bytes()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._end.wait(0.001):
            self.most = max(self.most, own_bytes())

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def allocated_at_most(act: Any) -> int:
    """Of what torch allocates inside, the most that stands at once."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        act()
    now = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_process_holds_what_the_plan_says_and_never_the_whole(tiny_folders: Any, tmp_path: Path, ranks: int) -> None:
    backbone = tmp_path / "bert"
    for file in tiny_folders["bert"].iterdir():
        if file.name.startswith(("tokenizer", "vocab", "special")):
            backbone.mkdir(exist_ok=True)
            (backbone / file.name).write_bytes(file.read_bytes())
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            vocab_size=8000, hidden_size=512, num_hidden_layers=6, num_attention_heads=8, intermediate_size=2048,
            attention_probs_dropout_prob=0.0,
        ),
        add_pooling_layer=False,
    ).save_pretrained(backbone)  # fmt: skip
    weights_bytes = (backbone / "model.safetensors").stat().st_size
    settings = {"max_steps": 4, "batch_size": 12, "packed": "off"}
    plan = recipe(tmp_path, backbone, training=settings, head={"kind": "linear"})
    plan["data"] |= {"validation": None, "test": None}
    expected = ak.plan(plan, gpus=ranks, memory="80GiB", overrides=["backbone.dtype=float32"])
    planned = next(way.memory for way in expected.strategies if way.name == "FSDP")

    def act() -> None:
        os.environ.update(ACCELERATE_USE_FSDP="true", FSDP_VERSION="2")
        found: dict[str, int] = {}
        watch = Watch()
        spread, compute = Sharded.spread, Turn.compute

        def spread_and_weigh(self: Sharded, adapted: Adapted) -> None:
            spread(self, adapted)
            watch.__exit__()
            tensors = {id(one): one for one in (*adapted.module.parameters(), *adapted.module.buffers())}.values()
            local = [one.to_local() if isinstance(one, DTensor) else one for one in tensors]
            found["there"] = sum(one.numel() * one.element_size() for one in local)
            found["loading"] = watch.most - watch.before

        def compute_and_weigh(self: Turn) -> None:
            if self.number == 1:
                compute(self)
                return
            found["step"] = min(found.get("step", 2**62), allocated_at_most(lambda: compute(self)))

        Sharded.spread, Turn.compute = spread_and_weigh, compute_and_weigh  # type: ignore[method-assign]
        with watch:
            train(plan)
        (tmp_path / f"{os.environ['RANK']}.json").write_text(json.dumps(found))

    together(ranks, act)
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(ranks)]
    for found in told:  # a shard of 93 MB, and what several processes need besides
        assert found["loading"] < weights_bytes / ranks + 40e6 < 0.95 * weights_bytes
    # Where an exchange lags behind, layers are let go of later, and more of them stand there at once.
    assert min(found["there"] + found["step"] for found in told) == pytest.approx(planned.total, rel=0.15)
