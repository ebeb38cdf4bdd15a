"""The table holds what it says."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from adapterkit import recipe
from tests import tiny
from tests.laws.cases import CASES, CROSSING, HEADS, KINDS, METHODS
from tests.methods import cases as methods


def test_every_kind_every_family_and_every_method_is_in_the_table() -> None:
    assert tuple(KINDS) == recipe.KINDS
    assert {case.kind for case in CASES} == set(recipe.KINDS)
    assert {case.family for case in CASES} == {*tiny.FAMILIES, *tiny.OTHERS, *tiny.UNKNOWN}
    assert {case.row.settings.kind for case in CASES} == {"lora", "bottleneck", "ia3", "none"}
    placements = {getattr(case.row.settings, "placement", None) for case in CASES}
    assert placements == {None, "houlsby", "pfeiffer", "parallel"}
    assert {HEADS[case.head].kind for case in CASES} == {"family", "linear", "mlp", "attention"}
    assert {HEADS[case.head].pooling for case in CASES} == {"auto", "mean", "first", "last"}


def test_every_pair_of_kind_family_and_method_meets() -> None:
    served = {(kind, family) for kind, row in KINDS.items() for family in row.families}
    cases = [case for case in CASES if case.family in tiny.FAMILIES]
    assert {(case.kind, case.family) for case in cases} == served
    assert {(case.family, case.method) for case in cases} == {
        *product(tiny.FAMILIES, METHODS),
        *((case.family, case.method) for case in CROSSING),
    }
    assert {(case.kind, case.method) for case in cases} >= set(product(KINDS, METHODS))
    assert {case.method for case in CROSSING} == set(methods.CROSSING)
    assert len(set(CASES)) == len(CASES)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_kinds_that_a_family_lacks_are_those_that_transformers_lacks(tiny_backbones: Any, family: str) -> None:
    for kind, row in KINDS.items():
        has_class = tiny_backbones[family].model_class(kind) is not None
        assert has_class == (family in row.families and family not in row.own_only), (kind, family)
