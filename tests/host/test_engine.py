"""The engine: every row answers as its adapter alone, in any company."""

from __future__ import annotations

import pytest

from adapterkit.host.engine import Engine
from adapterkit.recipe import NoMethod
from tests import tiny
from tests.host import worlds

TOLERANCE = 1e-5  # fp32 sums in another order


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_mixed_batch_answers_as_each_row_alone_under_the_reference(tiny_backbones, family):
    backbone = tiny_backbones[family]
    adapters = {name: worlds.make(backbone, family, worlds.METHODS[name]) for name in worlds.methods_of(family)}
    adapters["none"] = worlds.make(backbone, family, NoMethod())
    engine = Engine(backbone)
    rows = [(mounted, index % worlds.ROWS) for index, mounted in enumerate([*adapters.values()] * 2)]
    found = worlds.answers(engine, family, rows)
    names = list(adapters) * 2
    distances = {
        f"{name} {row}": worlds.distance(states, mounted.alone[row])
        for name, (mounted, row), states in zip(names, rows, found, strict=True)
    }
    assert {name: far for name, far in distances.items() if far > TOLERANCE} == {}
    for name, (mounted, row) in zip(names, rows, strict=True):
        (alone,) = worlds.answers(engine, family, [(mounted, row)])
        assert worlds.distance(alone, mounted.alone[row]) <= TOLERANCE, name
