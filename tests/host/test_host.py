"""The front door of the host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import adapterkit as ak
from tests import tiny
from tests.host import artifacts as worlds
from tests.host.artifacts import Recipe, differences
from tests.laws import cases

METHODS = ("lora", "houlsby", "lora-dora", "none", "parallel", "lora-all-linear", "pfeiffer")


def recipes_for(family: str) -> list[Recipe]:
    """One adapter per kind of a family, with the methods in turn."""
    kinds = [kind for kind, row in cases.KINDS.items() if family in row.families]
    return [
        Recipe(kind, METHODS[(turn + tiny.FAMILIES.index(family)) % len(METHODS)], cases.head_for(kind, family, turn))
        for turn, kind in enumerate(kinds)
    ]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_one_mixed_batch_answers_every_kind_as_each_adapter_alone(
    family: str, tiny_backbones: Mapping[str, Any], tmp_path: Path
) -> None:
    backbone = tiny_backbones[family]
    made = {
        recipe.kind: worlds.make(tmp_path / str(number), backbone, recipe)
        for number, recipe in enumerate(recipes_for(family))
    }
    lengths = (1, 9, 4, 17)
    rows = [(kind, worlds.row_of(kind, worlds.WORDS[:length])) for length in lengths for kind in made]
    with ak.Host(backbone) as host:
        for name, folder in made.items():
            host.mount(name, folder)
        mixed = host.predict(rows)

    for name, folder in made.items():
        places = [place for place, (kind, _) in enumerate(rows) if kind == name]
        expected = worlds.alone(folder, backbone, [rows[place][1] for place in places])
        assert differences([mixed[place] for place in places], expected) == [], name
