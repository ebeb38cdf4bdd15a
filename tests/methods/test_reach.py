"""Places of a trunk, as a model holds them."""

from __future__ import annotations

import pytest
from torch import nn

from adapterkit.backbone import Site
from adapterkit.errors import SiteError
from adapterkit.methods.lowest_layer import lowest_layers
from adapterkit.methods.reach import Reach


def site(path: str, layer: int = 0, side: str = "encoder") -> Site:
    return Site("x", layer, side, path, linear=True)  # type: ignore[arg-type]


def test_a_module_is_found_by_identity_wherever_it_stands() -> None:
    trunk = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)})
    model = nn.ModuleDict({"inside": nn.ModuleDict({"other": trunk["a"]}), "b": nn.Linear(1, 1)})
    reach = Reach(model, trunk)
    assert reach.path("a") == "inside.other"
    assert reach.path("b") is None  # the same name, and another module
    assert reach.keep({"a": site("a"), "b": site("b")}) == {"inside.other": site("a")}


def test_nothing_in_reach_is_an_error_that_names_what_was_sought() -> None:
    trunk = nn.ModuleDict({"a": nn.Linear(1, 1)})
    with pytest.raises(SiteError, match="a: not in the model"):
        Reach(nn.ModuleDict(), trunk).keep({"a": site("a")})


def test_the_lowest_layer_is_known_for_encoder_and_decoder_apart() -> None:
    places = [site("", 3), site("", 1), site("", 2, "decoder"), site("", 2)]
    assert lowest_layers(places) == {"encoder": 1, "decoder": 2}
    assert lowest_layers([]) == {}
