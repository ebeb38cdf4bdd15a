"""Choosing among the sites of a backbone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterkit.errors import SiteError


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("bert", ["attention.query", "attention.value"]),
        ("gpt2", ["attention.qkv"]),
        ("modernbert", ["attention.qkv"]),
        ("llama", ["attention.query", "attention.value"]),
        ("t5", ["attention.query", "attention.value", "cross_attention.query", "cross_attention.value"]),
    ],
)
def test_auto_is_queries_and_values(tiny_backbones: Any, family: str, expected: list[str]) -> None:
    assert sorted({site.name for site in tiny_backbones[family].sites.select("auto")}) == expected


def test_all_linear_is_every_site_but_the_layers(tiny_backbones: Any) -> None:
    sites = tiny_backbones["llama"].sites
    assert len(sites.select("all-linear")) == 3 * 7
    assert {site.name for site in sites.select(["layer.output"])} == {"layer.output"}


def test_top_counts_from_the_top_of_each_side(tiny_backbones: Any) -> None:
    assert {s.layer for s in tiny_backbones["bert"].sites.select("auto", top=2)} == {1, 2}
    chosen = tiny_backbones["bart"].sites.select("auto", top=1)
    assert {(s.side, s.layer) for s in chosen} == {("encoder", 1), ("decoder", 1)}
    lowest = tiny_backbones["bart"].sites.select_sublayers(layers=[0])
    names, sides = ("attention", "feedforward"), ("encoder", "decoder")
    assert [(s.name, s.side, s.layer) for s in lowest] == [(name, side, 0) for side in sides for name in names]


def test_every_mistake_in_a_selection_is_named_with_what_exists(tiny_backbones: Any) -> None:
    with pytest.raises(SiteError) as caught:
        tiny_backbones["bert"].sites.select(["attention.qkv", "nonsense"], layers=[7])
    assert len(caught.value.problems) == 3
    assert "attention.query" in str(caught.value)
    assert "layers 0 to 2" in str(caught.value)
    with pytest.raises(SiteError, match="only one of them"):
        tiny_backbones["bert"].sites.select("auto", layers=[0], top=1)
    with pytest.raises(SiteError, match="between 1 and 3"):
        tiny_backbones["bert"].sites.select("auto", top=4)
    with pytest.raises(SiteError, match="no site is selected"):
        tiny_backbones["bert"].sites.select([])
    with pytest.raises(SiteError, match="cross_attention"):
        tiny_backbones["bert"].sites.select_sublayers(["cross_attention"])


@settings(max_examples=50, deadline=None)
@given(layers=st.sets(st.integers(0, 2)), names=st.sets(st.sampled_from(["attention.query", "feedforward.output"])))
def test_a_selection_is_the_product_of_its_names_and_layers(
    tiny_backbones: Any, layers: set[int], names: set[str]
) -> None:
    sites = tiny_backbones["bert"].sites
    if not layers or not names:
        with pytest.raises(SiteError):
            sites.select(sorted(names), layers=layers)
    else:
        found = {(site.name, site.layer) for site in sites.select(sorted(names), layers=layers)}
        assert found == {(name, layer) for name in names for layer in layers}
