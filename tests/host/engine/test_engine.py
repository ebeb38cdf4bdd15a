"""The engine: every row answers as its adapter alone, in any company, and nothing of a batch stays."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from weakref import ref

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from adapterkit.adapted import build
from adapterkit.errors import RoutingError, SiteError
from adapterkit.host.engine.engine import Engine
from adapterkit.host.packing.packers import pack
from adapterkit.recipe import HeadSettings, LoraMethod, NoMethod
from tests import tiny
from tests.host import worlds
from tests.laws.worlds import disturb, prepared
from tests.methods.cases import attached

TOLERANCE = 1e-5  # fp32 sums in another order

_WORLDS: dict[str, tuple[Engine, dict[str, worlds.Mounted]]] = {}


def world(tiny_backbones: Any, family: str) -> tuple[Engine, dict[str, worlds.Mounted]]:
    """An engine with an adapter of every method, and one without a method."""
    if family not in _WORLDS:
        backbone = tiny_backbones[family]
        methods = {name: worlds.METHODS[name] for name in worlds.methods_of(family)} | {"none": NoMethod()}
        adapters = {name: worlds.make(backbone, family, method) for name, method in methods.items()}
        for seed in (5, 6):
            adapters[f"lora-all-{seed}"] = worlds.make(backbone, family, worlds.METHODS["lora-all"], seed)
        _WORLDS[family] = Engine(backbone), adapters
    return _WORLDS[family]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_mixed_batch_answers_as_each_row_alone_under_the_method_itself(tiny_backbones, family):
    engine, adapters = world(tiny_backbones, family)
    rows = [(mounted, index % worlds.ROWS) for index, mounted in enumerate([*adapters.values()] * 2)]
    found = worlds.answers(engine, family, rows)
    far = {}
    for name, (mounted, row), mixed in zip([*adapters] * 2, rows, found, strict=True):
        (alone,) = worlds.answers(engine, family, [(mounted, row)])
        for what, answer in (("mixed", mixed), ("alone", alone)):
            if (distance := worlds.distance(answer, mounted.alone[row])) > TOLERANCE:
                far[f"{name} {row} {what}"] = distance
    assert far == {}


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mix_in_any_order_changes_no_answer(tiny_backbones, family, data):
    engine, adapters = world(tiny_backbones, family)
    chosen = st.tuples(st.sampled_from(sorted(adapters)), st.integers(0, worlds.ROWS - 1))
    rows = [(adapters[name], row) for name, row in data.draw(st.lists(chosen, min_size=1, max_size=9))]
    for (mounted, row), found in zip(rows, worlds.answers(engine, family, rows), strict=True):
        assert worlds.distance(found, mounted.alone[row]) <= TOLERANCE


def test_rows_in_another_order_than_the_engines_are_answered_rightly_too(tiny_backbones):
    engine, adapters = world(tiny_backbones, "bert")
    rows = [(adapters[name], 2) for name in ("lora", "houlsby", "lora", "none", "lora-all", "lora")]
    with engine.routed([mounted.carried for mounted, _ in rows]) as view:
        found = worlds.states(view, worlds.batch([2] * 6, "bert"))
    assert max(worlds.distance(f, m.alone[2]) for f, (m, _) in zip(found, rows, strict=True)) <= TOLERANCE


def test_an_encoder_alone_carries_the_adapter_of_a_model_without_a_decoder(tiny_backbones):
    backbone, task = tiny_backbones["t5"], prepared("token-classification")
    method = LoraMethod(sites="all-linear", rank=2)
    inputs = worlds.batch([1, 3], "bert")
    with build(backbone, task, method, HeadSettings(kind="family"), 0) as adapted:
        disturb(adapted, 0.1)
        packed = pack(method, adapted.attachment.config(), adapted.state(), backbone)
        expected = worlds.states(adapted.backbone.trunk.encoder, inputs)
    assert packed is not None
    assert packed.lowest_layer == {"encoder": 0}
    with Engine(backbone).routed([(packed,)] * 2) as view:
        assert worlds.distance(worlds.states(view.encoder, inputs), expected) <= TOLERANCE


def test_two_low_rank_adapters_on_one_row_add_up(tiny_backbones):
    engine, adapters = world(tiny_backbones, "bert")
    first, second = adapters["lora-all-5"].packed, adapters["lora-all-6"].packed
    both = tiny_backbones["bert"]
    sums = {}
    for name in adapters["lora-all-5"].state:
        one, other = adapters["lora-all-5"].state[name], adapters["lora-all-6"].state[name]
        sums[name] = torch.cat([one, other], dim=0 if "lora_A" in name else 1)
    doubled = LoraMethod(sites="all-linear", rank=8, alpha=32)
    with attached(both, doubled) as attachment:
        joined = pack(doubled, attachment.config(), sums, both)
    inputs = worlds.batch([3, 4], "bert")
    with engine.routed([(first, second)] * 2) as view, engine.routed([(joined,)] * 2) as other_view:
        assert worlds.distance(worlds.states(view, inputs), worlds.states(other_view, inputs)) <= TOLERANCE


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_without_adapters_every_bit_is_the_bare_backbones(tiny_backbones, family):
    engine, adapters = world(tiny_backbones, family)
    worlds.answers(engine, family, [(adapters["lora-all"], 0), (adapters["pfeiffer"], 1)])
    inputs = worlds.batch([1, 3], family)
    with engine.routed([(), ()]) as view:
        assert type(view) is type(tiny_backbones[family].trunk)
        assert torch.equal(worlds.states(view, inputs), worlds.states(tiny_backbones[family].trunk, inputs))


@pytest.mark.parametrize("family", tiny.DECODERS)
def test_a_cache_of_keys_and_values_changes_nothing(tiny_backbones, family):
    engine, adapters = world(tiny_backbones, family)
    ids = worlds.tokens(4)

    def in_two_steps(trunk: Any) -> torch.Tensor:
        with torch.no_grad():
            start = trunk(input_ids=ids[:, :6], use_cache=True)
            return trunk(input_ids=ids[:, 6:], past_key_values=start.past_key_values).last_hidden_state

    with engine.routed([()]) as view:
        assert torch.equal(in_two_steps(view), in_two_steps(tiny_backbones[family].trunk))
    with engine.routed([adapters["dora"].carried]) as view:
        assert worlds.distance(in_two_steps(view)[0], adapters["dora"].alone[4][6:]) <= TOLERANCE


def test_rows_repeated_in_place_carry_their_rows_adapter(tiny_backbones):
    engine, adapters = world(tiny_backbones, "bert")
    rows = [adapters["lora-all-5"], adapters["lora-all-6"], adapters["houlsby"]]
    with engine.routed([mounted.carried for mounted in rows]) as view:
        found = worlds.states(view, worlds.batch([1] * 6, "bert"))
        for place, states in enumerate(found):
            assert worlds.distance(states, rows[place // 2].alone[1]) <= TOLERANCE
        with pytest.raises(RoutingError, match="announced"):
            worlds.states(view, worlds.batch([1] * 4, "bert"))


def test_an_exception_inside_leaves_nothing_behind(tiny_backbones):
    engine, adapters = world(tiny_backbones, "bert")
    with pytest.raises(IndexError), engine.routed([adapters["pfeiffer"].carried]) as view:
        worlds.states(view, {"input_ids": torch.tensor([[10**6]])})
    with engine.routed([()]) as same:
        assert same is view
        inputs = worlds.batch([2], "bert")
        assert torch.equal(worlds.states(same, inputs), worlds.states(tiny_backbones["bert"].trunk, inputs))


def test_the_views_of_many_threads_hold_no_tensor_of_their_own(fresh_backbone):
    backbone = fresh_backbone("llama")
    engine = Engine(backbone)
    mounted = worlds.make(backbone, "llama", worlds.METHODS["pfeiffer"])
    own = [*backbone.trunk.parameters(), *backbone.trunk.buffers()]
    with engine.routed([mounted.carried]) as one, engine.routed([()]) as other:
        assert one is not other
        worlds.states(one, worlds.batch([1], "llama"))
        for view in (one, other):
            held = [value for m in view.modules() for value in vars(m).values() if isinstance(value, torch.Tensor)]
            held += [*view.parameters(), *view.buffers()]
            assert {tensor.data_ptr() for tensor in held} <= {tensor.data_ptr() for tensor in own}


def test_eight_threads_never_mix_their_rows(tiny_backbones):
    engine, adapters = world(tiny_backbones, "bert")
    names = sorted(adapters)

    def ask(turn: int) -> float:
        rows = [(adapters[names[(turn + step) % len(names)]], (turn + step) % worlds.ROWS) for step in range(4)]
        found = worlds.answers(engine, "bert", rows)
        return max(worlds.distance(states, m.alone[row]) for states, (m, row) in zip(found, rows, strict=True))

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(ask, range(120))) <= TOLERANCE


def test_a_host_goes_on_while_its_backbone_is_trained(fresh_backbone):
    backbone = fresh_backbone("bert")
    engine = Engine(backbone)
    inputs = worlds.batch([1], "bert")
    bare = worlds.states(backbone.trunk, inputs)
    with attached(backbone, LoraMethod(initialization="pissa", rank=2)) as attachment:
        attachment.merge()
        with engine.routed([()]) as one, engine.routed([()]) as another:
            assert torch.equal(worlds.states(one, inputs), bare)
            assert torch.equal(worlds.states(another, inputs), bare)
        with pytest.raises(SiteError, match="an adapter is attached"):
            Engine(backbone)


class Quantised(nn.Module):
    """Stands for a quantised linear: not torch's class, its output is a view of something that it keeps."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear_weight, self.bias = linear.weight, linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.kept = torch.empty(0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.kept = nn.functional.linear(x, self.linear_weight, self.bias)
        self.first = self.kept.clone()
        return self.kept[:]


def test_a_linear_of_another_class_is_called_as_it_is_and_its_output_not_written_to(fresh_backbone):
    backbone = fresh_backbone("bert")
    mounted = worlds.make(backbone, "bert", worlds.METHODS["lora-all"])
    for site in backbone.sites.sites:
        if site.linear:
            parent, _, name = site.path.rpartition(".")
            linear: Any = backbone.trunk.get_submodule(site.path)
            setattr(backbone.trunk.get_submodule(parent), name, Quantised(linear))
    with Engine(backbone).routed([mounted.carried]) as view:
        found = worlds.states(view, worlds.batch([2], "bert"))[0]
        for module in view.modules():
            if isinstance(module, Quantised):
                assert torch.equal(module.kept, module.first)
    assert worlds.distance(found, mounted.alone[2]) <= TOLERANCE


def test_a_backbone_in_bfloat16_carries_adapters_in_bfloat16(fresh_backbone):
    backbone, exact = fresh_backbone("bert", dtype="bfloat16"), fresh_backbone("bert")
    for name in ("lora-all", "houlsby", "dora"):
        packed = worlds.make(backbone, "bert", worlds.METHODS[name], size=0.02).packed
        assert packed is not None
        assert packed.flat.dtype == torch.bfloat16
        expected = worlds.make(exact, "bert", worlds.METHODS[name], size=0.02).alone[3]
        with Engine(backbone).routed([(packed,)]) as view:
            found = worlds.states(view, worlds.batch([3], "bert"))[0].float()
        # bf16 holds 8 bits: three layers of rounding.
        assert worlds.distance(found, expected) <= 0.05


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_an_adapter_that_comes_back_alone_finds_its_work_and_answers_the_same(tiny_backbones, family):
    engine, adapters = world(tiny_backbones, family)
    # Other numbers of rows, other adapters and mixes between, more than are remembered.
    for turn, (mounted, more) in enumerate([*zip(adapters.values(), [*adapters.values()][1:], strict=False)] * 2):
        for rows in (range(1 + turn % 2), range(1, 4)):
            for found, row in zip(worlds.answers(engine, family, [(mounted, row) for row in rows]), rows, strict=True):
                assert worlds.distance(found, mounted.alone[row]) <= TOLERANCE
        for found, one in zip(worlds.answers(engine, family, [(mounted, 2), (more, 2)]), (mounted, more), strict=True):
            assert worlds.distance(found, one.alone[2]) <= TOLERANCE


def test_what_is_remembered_of_an_adapter_goes_with_it(tiny_backbones):
    backbone = tiny_backbones["bert"]
    engine, mounted = Engine(backbone), worlds.make(backbone, "bert", worlds.METHODS["lora-all"])
    packed = replace(mounted.packed, flat=mounted.packed.flat.clone())
    with engine.routed([(packed,)]) as trunk:
        states = worlds.states(trunk, worlds.batch([1], "bert"))
    assert worlds.distance(states[0], mounted.alone[1]) <= TOLERANCE
    numbers = ref(packed.flat)
    del packed
    gc.collect()
    assert numbers() is None


def test_an_adapter_that_comes_back_refuses_rows_that_were_not_announced(tiny_backbones):
    engine, adapters = world(tiny_backbones, "bert")
    for count in (3, 5, 3):
        with engine.routed([adapters["lora-all"].carried] * count) as trunk, pytest.raises(RoutingError, match="rows"):
            worlds.states(trunk, worlds.batch(range(4), "bert"))
