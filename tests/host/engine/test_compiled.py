"""A compiled engine: new mixes, adapters, lengths and views compile nothing again."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounter

import adapterkit as ak
from adapterkit.errors import RoutingError
from adapterkit.host.engine.engine import Engine
from adapterkit.host.packing.packers import pack
from adapterkit.recipe import LoraMethod
from tests.host import worlds
from tests.host.artifacts import WORDS, Recipe, row_of
from tests.laws import worlds as laws


@pytest.mark.parametrize("dtype", ["float32", "nf4"])
def test_new_mixes_and_adapters_and_lengths_compile_nothing_again(tiny_backbones, dtype):
    if dtype == "nf4":
        pytest.importorskip("bitsandbytes", reason="nf4 needs bitsandbytes")
    backbone = ak.Backbone.load(tiny_backbones["bert"].folder, dtype=dtype, device="cpu")
    graphs = CompileCounter()
    engine, plain = Engine(backbone, compile=True, compiler=graphs), Engine(backbone)
    lora = [worlds.make(backbone, "bert", worlds.METHODS["lora"], seed) for seed in range(4)]
    neck = [worlds.make(backbone, "bert", worlds.METHODS["parallel"], seed) for seed in range(2)]
    none = worlds.Mounted(None, {}, [])

    def differ(*rows: tuple[worlds.Mounted, int]) -> float:
        pairs = zip(worlds.answers(engine, "bert", rows), worlds.answers(plain, "bert", rows), strict=True)
        return max(worlds.distance(found, expected) for found, expected in pairs)

    torch._dynamo.reset()
    assert differ((lora[0], 1), (neck[0], 2), (none, 3)) <= 1e-5
    compiled = graphs.frame_count
    assert compiled > 0
    assert differ((neck[1], 4), (lora[1], 0), (lora[2], 3), (none, 1)) <= 1e-5
    assert differ((lora[3], 2), (lora[2], 2)) <= 1e-5
    with engine.routed([lora[0].carried] * 2) as one, engine.routed([lora[1].carried] * 2) as other:
        for view, mounted in ((one, lora[0]), (other, lora[1])):
            states = worlds.states(view, worlds.batch([3, 3], "bert"))
            assert worlds.distance(states[0], mounted.alone[3]) <= 1e-5
    assert graphs.frame_count == compiled


def test_rows_of_one_adapter_or_of_many_compile_once(tiny_backbones, folder_of):
    recipe, graphs = Recipe("text-classification", "lora"), CompileCounter()
    rows = [row_of(recipe.kind, WORDS[: 3 + length]) for length in range(5)]
    with ak.Host(tiny_backbones["bert"], compile=True) as host:
        host._engine._compiler = graphs
        for name in ("a", "b", "c"):
            host.mount(name, folder_of("bert", recipe))
        torch._dynamo.reset()
        host.predict([("a", rows[0]), ("b", rows[1]), ("c", rows[2])])
        compiled = graphs.frame_count
        assert compiled
        host.predict([("b", row) for row in rows[:4]])
        host.predict([("c", rows[4]), ("a", rows[2]), ("c", rows[0]), ("b", rows[1]), ("a", rows[3])])
    assert graphs.frame_count == compiled


def test_what_reads_positions_is_refused(tiny_backbones):
    backbone = tiny_backbones["deberta-v2"]
    with laws.adapter(backbone, "text-classification", LoraMethod()) as adapted:
        packed = pack(adapted.method, adapted.attachment.config(), adapted.state(), backbone)
    engine = Engine(backbone, compile=True, compiler=CompileCounter())
    with pytest.raises(RoutingError, match="cannot carry what reads positions"), engine.routed([(packed,)] * 2):
        pass
