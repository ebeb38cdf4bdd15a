"""Fusions on a host: in any company, each row as its adapter alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adapterkit as ak
from adapterkit.adapted import build
from adapterkit.artifact import load
from adapterkit.errors import ArtifactError, RoutingError
from adapterkit.host.engine.engine import Engine
from adapterkit.host.packing.packers import pack
from adapterkit.recipe import HeadSettings, LoraMethod
from tests import tiny
from tests.host import worlds
from tests.laws.test_fusion import Case, built, write_parts
from tests.laws.worlds import adapter, disturb, prepared, write
from tests.methods.fusion.worlds import PLACEMENTS, fusion_of, parts_on, settings_of

TOLERANCE = 1e-5  # fp32 sums in another order
TEXTS = ["the card was lost", "a boat", "where is the train to London now"]


def fusion(backbone: Any, family: str, placement: str, seed: int = 0, count: int = 2, **more: Any) -> worlds.Mounted:
    """A fusion with random tensors, and the reference's answers: those of `Adapted`."""
    parts = parts_on(backbone, settings_of(placement, count), size=0.1)
    method = fusion_of(parts, **more)
    kind = "masked-lm" if family in tiny.ENCODERS else "causal-lm" if family in tiny.DECODERS else "seq2seq-lm"
    with build(backbone, prepared(kind), method, HeadSettings(kind="family"), seed, parts=parts) as adapted:
        disturb(adapted, 0.1, seed + 1)
        state, config = adapted.state(), adapted.attachment.config()
        trunk = adapted.backbone.trunk
        alone = [worlds.states(trunk, worlds.batch([row], family))[0] for row in range(worlds.ROWS)]
    return worlds.Mounted(pack(method, config, state, backbone, parts), state, alone)


def everything(backbone: Any, family: str) -> list[worlds.Mounted]:
    """Fusions of every placement, two that are built alike, and neighbours of other methods."""
    chosen = ("lora-all", "pfeiffer")
    return [
        *(fusion(backbone, family, placement) for placement in PLACEMENTS),
        fusion(backbone, family, "pfeiffer", seed=5),
        fusion(backbone, family, "pfeiffer", seed=6, count=3, query_width=4, value=False),
        *(worlds.make(backbone, family, worlds.METHODS[name]) for name in chosen),
        worlds.Mounted(
            None, {}, [worlds.states(backbone.trunk, worlds.batch([r], family))[0] for r in range(worlds.ROWS)]
        ),
    ]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_fusions_share_a_batch_with_everything_else(tiny_backbones: Mapping[str, Any], family: str) -> None:
    backbone = tiny_backbones[family]
    engine = Engine(backbone)
    rows = [(mounted, number % worlds.ROWS) for number, mounted in enumerate(everything(backbone, family))]
    found = worlds.answers(engine, family, rows)
    far = [worlds.distance(states, mounted.alone[row]) for (mounted, row), states in zip(rows, found, strict=True)]
    assert max(far) <= TOLERANCE
    for mounted, row in rows[:2]:
        (alone,) = worlds.answers(engine, family, [(mounted, row)])
        assert worlds.distance(alone, mounted.alone[row]) <= TOLERANCE


@pytest.fixture(scope="module")
def bert(tiny_backbones: Mapping[str, Any]) -> tuple[Engine, list[worlds.Mounted]]:
    backbone = tiny_backbones["bert"]
    return Engine(backbone), everything(backbone, "bert")


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_mix_in_any_order_answers_as_each_row_alone(bert: Any, data: st.DataObject) -> None:
    engine, mounted = bert
    pairs = st.tuples(st.integers(0, len(mounted) - 1), st.integers(0, worlds.ROWS - 1))
    rows = [(mounted[which], row) for which, row in data.draw(st.lists(pairs, min_size=1, max_size=9))]
    found = worlds.answers(engine, "bert", rows)
    far = [worlds.distance(states, each.alone[row]) for (each, row), states in zip(rows, found, strict=True)]
    assert max(far) <= TOLERANCE


def test_a_mounted_fusion_takes_the_bytes_of_its_own_and_its_parts_numbers(tiny_backbones: Any) -> None:
    mounted = fusion(tiny_backbones["bert"], "bert", "houlsby", query_width=4)
    assert mounted.packed is not None
    places = len(mounted.packed.structure.pieces)
    # At each place: two bottlenecks of widths 3 and 4, a query and a key of width 4, a value; D = 32, fp32.
    necks = sum(32 * width + width + 32 * width + 32 for width in (3, 4))
    assert mounted.packed.size_bytes == 4 * places * (necks + 4 * 32 + 4 + 4 * 32 + 32 * 32)


def test_tensors_that_are_not_those_of_the_fusion_are_refused(tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    parts = parts_on(backbone, settings_of("pfeiffer"))
    method = fusion_of(parts)
    with build(backbone, prepared("masked-lm"), method, HeadSettings(kind="family"), 0, parts=parts) as adapted:
        state, config = adapted.state(), adapted.attachment.config()
    first = next(name for name in state if name.endswith("fusion_key.weight"))
    for wrong, words in (
        ({name: tensor for name, tensor in state.items() if name != first}, "missing"),
        ({**state, first: torch.zeros(3, 32)}, r"shape \(3, 32\), expected \(32, 32\)"),
        ({**state, "base_model.model.bert.x.fusion_key.weight": state[first]}, "not a tensor of this method"),
    ):
        with pytest.raises(ArtifactError, match=words):
            pack(method, config, wrong, backbone, parts)
    other = [parts[0], replace(parts[1], tensors={})]
    with pytest.raises(ak.errors.RecipeError, match="cannot be fused"):
        pack(method, config, state, backbone, other)


def test_a_fusion_is_mounted_beside_its_parts_and_outlives_them(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    case = Case("text-classification", "bert", "pfeiffer", "linear-mean")
    method = write_parts(tmp_path, backbone, case.kind, case.placement)
    with built(backbone, case, method) as adapted:
        disturb(adapted, 0.1)
        write(tmp_path / "fused", adapted)
        expected = adapted.predict(TEXTS)
    with adapter(backbone, "token-classification", LoraMethod(rank=2)) as lora:
        disturb(lora, 0.1)
        write(tmp_path / "tags", lora)
    with ak.Host(backbone) as host:
        for name in ("fused", "part0", "tags"):
            host.mount(name, tmp_path / name)
        rows = [(name, text) for text in TEXTS for name in ("tags", "fused", "part0")]
        found = [answer for (name, _), answer in zip(rows, host.predict(rows), strict=True) if name == "fused"]
        assert [status.method for status in host.status() if status.name == "fused"] == ["fusion"]
        host.unmount("part0")
        again = host.predict([("fused", text) for text in TEXTS])
    for answers in (found, again):
        assert [answer["label"] for answer in answers] == [answer["label"] for answer in expected]
        assert [answer["score"] for answer in answers] == pytest.approx([a["score"] for a in expected], abs=1e-5)


def test_a_fusion_whose_part_was_exchanged_is_not_mounted(tiny_backbones: Any, tmp_path: Path) -> None:
    backbone = tiny_backbones["bert"]
    case = Case("text-classification", "bert", "houlsby", "linear-mean")
    method = write_parts(tmp_path, backbone, case.kind, case.placement)
    with built(backbone, case, method) as adapted:
        write(tmp_path / "fused", adapted)
    (tmp_path / "part0").rename(tmp_path / "kept")
    (tmp_path / "part1").rename(tmp_path / "part0")
    with ak.Host(backbone) as host:
        with pytest.raises(ak.errors.AdapterkitError) as caught:
            host.mount("fused", tmp_path / "fused")
        assert "part1" in str(caught.value)
        assert len(host.status()) == 0


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_fusion_continues_a_text_token_by_token_as_the_reference(
    tiny_backbones: Mapping[str, Any], tmp_path: Path, family: str
) -> None:
    backbone = tiny_backbones[family]
    case = Case("causal-lm", family, "parallel", "family")
    method = write_parts(tmp_path, backbone, case.kind, case.placement)
    with built(backbone, case, method) as adapted:
        disturb(adapted, 0.1)
        write(tmp_path / "fused", adapted)
    with load(tmp_path / "fused", backbone) as adapted:
        expected = [adapted.predict([text])[0] for text in TEXTS]
    with ak.Host(backbone) as host:
        for name in ("fused", "part0"):
            host.mount(name, tmp_path / name)
        rows = [(name, text) for text in TEXTS for name in ("part0", "fused")]
        answers = host.predict(rows)
    assert [answer for (name, _), answer in zip(rows, answers, strict=True) if name == "fused"] == expected
    assert any(answer["text"] for answer in expected)


def test_a_compiled_host_refuses_them_and_answers_all_others_afterwards(tiny_backbones):
    backbone = tiny_backbones["bert"]
    fused, lora = fusion(backbone, "bert", "houlsby"), worlds.make(backbone, "bert", worlds.METHODS["lora"])
    engine = Engine(backbone, compile=True, compiler="eager")
    for _ in range(2):
        with pytest.raises(RoutingError, match="cannot carry a fusion"), engine.routed([fused.carried]):
            pass
    (found,) = worlds.answers(engine, "bert", [(lora, 1)])
    assert worlds.distance(found, lora.alone[1]) <= 1e-5
