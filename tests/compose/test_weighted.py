from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

from adapterkit import compose
from adapterkit.artifact import open_artifact
from adapterkit.errors import CompositionError, ContractError
from adapterkit.host.packing.packers import pack
from adapterkit.methods.lora.choosing import pattern_value
from tests.compose.worlds import close, summed

SHARED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def composed_deltas(composed, backbone):
    """ΔW by path from the tensors of a composed LoRA, by hand: alpha / rank · B·A."""
    (part,) = composed.methods
    found = {}
    for site in backbone.sites.select(part.method.sites, layers=part.method.layers):
        name = f"base_model.model.bert.{site.path}"
        a, b = part.state[f"{name}.lora_A.weight"], part.state[f"{name}.lora_B.weight"]
        alpha = pattern_value(part.method.alpha_pattern, site, part.method.alpha)
        assert len(a) == pattern_value(part.method.rank_pattern, site, part.method.rank)
        found[site.path] = alpha / len(a) * b @ a
    assert len(part.state) == 2 * len(found)
    return found


@pytest.mark.parametrize(
    "weights",
    [
        {"a": 0.7, "b": 0.3},
        {"a": 1.0},
        {"b": -2.0},
        {"a": 0.0, "b": 0.5},
        {"a": 0.0},
        {"c": 0.5, "pissa": -0.25, "a": 1.5, "b": 3},
    ],
    ids=str,
)
def test_an_exact_sum_is_what_merging_each_member_would_add(world, weights):
    composed = compose.weighted(weights).build(world.find, world.backbone)
    expected = summed(*((weight, world.deltas(name)) for name, weight in weights.items()))
    # Merging rounds weights of size 1 to 6e-8, a few times over.
    close(composed_deltas(composed, world.backbone), expected)


@SHARED
@given(weights=st.dictionaries(st.sampled_from(["a", "b", "c", "pissa"]), st.floats(-3, 3), min_size=1, max_size=4))
def test_any_exact_sum_is_the_sum_of_the_members_alone(world, weights):
    find = {name: world.find(name) for name in weights}.__getitem__
    alone = {
        name: composed_deltas(compose.weighted({name: 1.0}).build(find, world.backbone), world.backbone)
        for name in weights
    }
    composed = compose.weighted(weights).build(find, world.backbone)
    expected = summed(*((weight, alone[name]) for name, weight in weights.items()))
    close(composed_deltas(composed, world.backbone), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`", "ignore:Found missing adapter keys")
def test_peft_concatenates_to_the_same_update(world, tiny_folders):
    weights = {"plain-2": 0.7, "plain-3": -0.3}
    model = AutoModelForSequenceClassification.from_pretrained(tiny_folders["bert"])
    plain = PeftModel.from_pretrained(model, str(world.path("plain-2")), adapter_name="plain-2")
    plain.load_adapter(str(world.path("plain-3")), adapter_name="plain-3")
    # PEFT 0.21's "cat" takes the root of a negative weight's size and keeps its sign, so it can subtract.
    plain.base_model.add_weighted_adapter(list(weights), list(weights.values()), "both", combination_type="cat")
    expected = {}
    for path, module in plain.base_model.model.bert.named_modules():
        if hasattr(module, "lora_A"):
            expected[path] = module.get_delta_weight("both").detach()
    found = composed_deltas(compose.weighted(weights).build(world.find, world.backbone), world.backbone)
    close(found, expected)


def test_a_composed_lora_packs_for_the_host(world):
    (part,) = compose.weighted({"a": 0.7, "b": 0.3, "c": 1}).build(world.find, world.backbone).methods
    packed = pack(part.method, part.config, part.state, world.backbone)
    assert packed is not None
    assert packed.lowest_layer == {"encoder": 0}


def test_a_place_that_no_member_adapts_gets_rank_1_of_zeros(world):
    (part,) = compose.weighted({"b": 1.0, "pissa": 1.0}).build(world.find, world.backbone).methods
    # b: key and feed-forward input in layers 0 and 2; pissa: query and value in layer 2, where it has twice its rank.
    assert part.method.sites == ("attention.query", "attention.key", "attention.value", "feedforward.input")
    assert part.method.layers == (0, 2)
    query = part.state["base_model.model.bert.encoder.layer.0.attention.self.query.lora_A.weight"]
    assert query.shape == (1, 32)
    assert not query.any()
    assert part.method.rank_pattern["attention.query@2"] == 4


def test_the_head_is_that_of_a_chosen_member(world):
    composition = compose.weighted({"a": 0.5, "b": 0.5})
    assert list(composition.build(world.find, world.backbone).heads) == ["a"]
    chosen = compose.weighted({"a": 0.5, "b": 0.5}, head="b").build(world.find, world.backbone)
    assert chosen.heads["b"].task.labels == ("left", "right")
    assert chosen.heads["b"].head.kind == "linear"
    assert all(name.startswith("base_model.model.adapterkit_head.") for name in chosen.heads["b"].state)
    both = compose.weighted({"a": 0.5, "b": 0.5}, heads=["b", "a"]).build(world.find, world.backbone)
    assert list(both.heads) == ["b", "a"]


def relative_errors(found, expected):
    """‖found - expected‖ / ‖expected‖ for each site, and over all of them."""
    missed = {path: float(torch.linalg.norm(found[path] - expected[path])) for path in expected}
    norms = {path: float(torch.linalg.norm(expected[path])) for path in expected}
    overall = math.sqrt(sum(m**2 for m in missed.values()) / sum(n**2 for n in norms.values()))
    return {path: missed[path] / norms[path] for path in missed}, overall


@pytest.mark.parametrize(
    "how",
    [
        {"how": "svd", "rank": 1},
        {"how": "svd"},
        {"how": "ties", "rank": 3, "density": 0.4},
        {"how": "dare", "rank": 3, "density": 0.4, "seed": 3},
        {"how": "magnitude", "rank": 3, "density": 0.4},
    ],
    ids=str,
)
def test_an_approximation_says_how_far_it_is_from_the_exact_sum(world, how):
    weights = {"a": 0.7, "c": 0.3}
    composed = compose.weighted(weights, **how).build(world.find, world.backbone)
    expected = summed(*((weight, world.deltas(name)) for name, weight in weights.items()))
    sites, overall = relative_errors(composed_deltas(composed, world.backbone), expected)
    assert composed.report["error"]["overall"] == pytest.approx(overall, rel=1e-4, abs=1e-6)
    assert composed.report["error"]["sites"] == pytest.approx(sites, rel=1e-4, abs=1e-6)
    assert composed.report["rank"]["highest"] == how.get("rank", 4)


def test_svd_is_the_nearest_of_its_rank(world):
    composed = compose.weighted({"a": 0.7, "c": 0.3}, how="svd", rank=2).build(world.find, world.backbone)
    expected = summed((0.7, world.deltas("a")), (0.3, world.deltas("c")))
    for path, found in composed_deltas(composed, world.backbone).items():
        missed = float(torch.linalg.norm(found - expected[path]))
        assert missed == pytest.approx(float(torch.linalg.norm(torch.linalg.svdvals(expected[path])[2:])), abs=1e-5)


def test_svd_at_the_sum_of_the_ranks_is_exact(world):
    weights = {"a": 0.7, "b": -0.3}
    exact = compose.weighted(weights).build(world.find, world.backbone)
    svd = compose.weighted(weights, how="svd", rank=5).build(world.find, world.backbone)
    close(composed_deltas(svd, world.backbone), composed_deltas(exact, world.backbone), atol=1e-6)
    assert svd.report["error"]["overall"] < 1e-6


def test_the_same_seed_drops_the_same_entries(world):
    def built(seed):
        composition = compose.weighted({"a": 1.0, "b": 1.0}, how="dare", density=0.5, seed=seed)
        return composition.build(world.find, world.backbone).methods[0].state

    first, again, other = built(1), built(1), built(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        (["a", "dora"], "dora: rank-2 DoRA: its magnitudes rescale the whole weight"),
        (["bias", "a"], "bias: rank-2 LoRA: its biases are whole values"),
        (["a", "houlsby"], r"houlsby: bottleneck \(houlsby\): its network has a bend"),
        (["a", "vectors"], "vectors: IA3: its factors rescale whole weights"),
        (["none"], "none: head-only: it has no ΔW"),
    ],
)
def test_what_is_no_plain_update_is_refused_with_the_reason(world, members, reason):
    composition = compose.weighted(dict.fromkeys(members, 1.0))
    with pytest.raises(CompositionError, match=reason):
        composition.build(world.find, world.backbone)


def test_members_of_another_backbone_are_refused_naming_both(world, tiny_backbones):
    with pytest.raises(ContractError) as caught:
        compose.weighted({"a": 1.0}).build(world.find, tiny_backbones["roberta"])
    assert "a: fingerprint: artifact was trained on" in str(caught.value)
    assert world.backbone.fingerprint[:4] in str(caught.value)
    assert tiny_backbones["roberta"].fingerprint[:4] in str(caught.value)


def test_every_member_that_is_missing_is_named(world, tmp_path):
    composition = compose.weighted({str(tmp_path / "x"): 1.0, str(tmp_path / "y"): 1.0})
    with pytest.raises(CompositionError) as caught:
        composition.build(open_artifact, world.backbone)
    assert len(caught.value.problems) == 2


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("weights", "options", "problems"),
    [
        ({}, {}, ["members: none; name at least one"]),
        ({"a": NAN, "b": INF}, {}, ["weights.a: found nan", "weights.b: found inf"]),
        ({"a": True}, {}, ["weights.a: found true, expected a number"]),
        (
            {"intent": 1.0},
            {"head": "intend"},
            ["head: 'intend' is not a member; members are intent; did you mean intent?"],
        ),
        (
            {"a": 1.0},
            {"how": "tie"},
            ["how: found 'tie', expected exact, svd, ties, dare or magnitude; did you mean ties?"],
        ),
        ({"a": 1.0}, {"rank": 4}, ["rank: given, and an exact sum"]),
        ({"a": 1.0}, {"how": "svd", "rank": 0}, ["rank: found 0, expected 1 to 4,096"]),
        ({"a": 1.0}, {"how": "ties"}, ["density: missing; ties needs"]),
        ({"a": 1.0}, {"how": "dare", "density": 1.5}, ["density: found 1.5, expected above 0 and at most 1"]),
        ({"a": 1.0}, {"how": "svd", "density": 0.5, "seed": 1}, ["density: given, and svd", "seed: given, and svd"]),
        ({"a": 1.0}, {"heads": ["a", "a"]}, ["heads: 'a' stands there twice"]),
        ({"a": 1.0}, {"how": "dare", "density": 0.5, "seed": -1}, ["seed: found -1"]),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused_all_at_once(weights, options, problems):
    with pytest.raises(CompositionError) as caught:
        compose.weighted(weights, **options)
    assert len(caught.value.problems) == len(problems)
    assert all(
        found.startswith(f"weighted.{problem}") for found, problem in zip(caught.value.problems, problems, strict=True)
    )


def test_a_head_and_heads_are_too_many():
    with pytest.raises(CompositionError, match=r"weighted\.heads: stands beside head"):
        compose.weighted({"a": 1.0}, head="a", heads=["a"])
    with pytest.raises(CompositionError, match=r"weighted\.heads: found 'a', expected a list"):
        compose.weighted({"a": 1.0}, heads="a")
    with pytest.raises(CompositionError, match="expected a mapping"):
        compose.weighted(["a"])
