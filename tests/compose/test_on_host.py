"""What a host answers for a composition equals a model whose weights or modules were changed by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from adapterkit import compose
from adapterkit.adapted import build
from adapterkit.compose.mountable import of_artifact
from adapterkit.errors import CompositionError, ContractError
from adapterkit.host import Host
from adapterkit.recipe import NoMethod
from tests.compose.worlds import METHODS, summed

TEXTS = ["my card was lost", "Ada lived in London and wrote the first program", "add 12 eggs"]


@pytest.fixture
def host(world):
    with Host(world.backbone) as host:
        yield host


@pytest.fixture
def by_hand(world, fresh_backbone):
    """A backbone of one's own to change by hand, and the head of a member on it, without any method."""

    def answer(member, change):
        backbone = fresh_backbone("bert")
        change(backbone.trunk)
        artifact = world.find(member)
        head = of_artifact(artifact).heads[""]
        with build(backbone, head.task, NoMethod(), head.head, seed=0) as adapted, torch.inference_mode():
            adapted.load_state(dict(head.state))
            return adapted(tokens(backbone))

    return answer


def tokens(backbone):
    return dict(backbone.tokenizer(TEXTS, padding=True, return_tensors="pt"))


def answers(host, name):
    logits = host.logits(tokens(host.backbone), tasks=[name] * len(TEXTS))
    return logits if isinstance(logits, torch.Tensor) else torch.stack(list(logits))


def added(deltas):
    """Add ΔW to the weights of a trunk."""

    def change(trunk):
        with torch.no_grad():
            for path, delta in deltas.items():
                trunk.get_submodule(path).weight += delta

    return change


def equal(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5 * max(1.0, float(expected.abs().max())))


def test_a_weighted_sum_answers_as_changed_weights(host, world, by_hand):
    for name in ("a", "b"):
        host.mount(name, world.path(name))
    host.mount("both", compose.weighted({"a": 0.7, "b": -0.3}, head="b"))
    deltas = summed((0.7, world.deltas("a")), (-0.3, world.deltas("b")))
    equal(answers(host, "both"), by_hand("b", added(deltas)))


def test_a_stack_of_loras_adds_what_both_do(host, world, by_hand):
    host.mount("both", compose.stack(str(world.path("a")), str(world.path("c"))))
    equal(answers(host, "both"), by_hand("c", added(summed((1, world.deltas("a")), (1, world.deltas("c"))))))


def necks(*states, prefix="base_model.model.bert."):
    """Pfeiffer's bottlenecks one after the other: h ← h + W_up·relu(W_down·LN(h + r) + b_down) + b_up."""

    def change(trunk):
        for number, layer in enumerate(trunk.encoder.layer):
            output, seen = layer.output, {}
            place = f"{prefix}encoder.layer.{number}.output.dense.bottleneck_"

            def remember(module, args, seen=seen):
                seen["r"] = args[1]

            def after(module, args, h, output=output, place=place, seen=seen):
                for state in states:
                    z = output.LayerNorm(h + seen["r"])
                    inside = functional.relu(z @ state[f"{place}down.weight"].T + state[f"{place}down.bias"])
                    h = h + inside @ state[f"{place}up.weight"].T + state[f"{place}up.bias"]
                return h

            output.register_forward_pre_hook(remember)
            output.dense.register_forward_hook(after)

    return change


def test_bottlenecks_at_one_place_read_what_the_one_below_made(host, world, by_hand):
    first, second = world.find("neck").state, world.find("neck-2").state
    host.mount("up", compose.stack(str(world.path("neck")), str(world.path("neck-2"))))
    host.mount(
        "down", compose.stack(str(world.path("neck-2")), str(world.path("neck")), head=str(world.path("neck-2")))
    )
    equal(answers(host, "up"), by_hand("neck-2", necks(first, second)))
    equal(answers(host, "down"), by_hand("neck-2", necks(second, first)))
    assert not torch.allclose(answers(host, "up"), answers(host, "down"), atol=1e-3)


@pytest.mark.parametrize("order", [("a", "neck"), ("neck", "a")])
def test_a_lora_and_a_bottleneck_stack_in_either_order(host, world, by_hand, order):
    def change(trunk):
        added(world.deltas("a"))(trunk)
        necks(world.find("neck").state)(trunk)

    for name in order:
        host.mount(name, world.path(name))
    host.mount("both", compose.stack(*order, head="a"))
    equal(answers(host, "both"), by_hand("a", change))


def test_a_stack_of_a_weighted_sum(host, world, by_hand):
    inner = compose.weighted({str(world.path("a")): 0.5, str(world.path("c")): 0.5})
    host.mount("both", compose.stack(inner, str(world.path("neck"))))

    def change(trunk):
        added(summed((0.5, world.deltas("a")), (0.5, world.deltas("c"))))(trunk)
        necks(world.find("neck").state)(trunk)

    equal(answers(host, "both"), by_hand("neck", change))


def test_several_heads_answer_on_one_stack(host, world):
    for name in ("a", "neck"):
        host.mount(name, world.path(name))
    host.mount("one", compose.stack("a", "neck", head="a"))
    host.mount("other", compose.stack("a", "neck"))
    host.mount("both", compose.stack("a", "neck", heads=["a", "neck"]))
    (one,), (other,), (both,) = (host.predict([(name, TEXTS[0])]) for name in ("one", "other", "both"))
    assert both["a"]["label"] == one["label"]
    assert both["neck"]["label"] == other["label"]


def test_a_plan_file_is_mounted_like_an_artifact(host, world, by_hand, tmp_path):
    file = tmp_path / "composition.yaml"
    file.write_text(
        f"weighted:\n  members: {{x: {world.path('a')}, y: {world.path('c')}}}\n  weights: {{x: 2, y: 0.5}}\n"
    )
    host.mount("both", file)
    equal(answers(host, "both"), by_hand("a", added(summed((2, world.deltas("a")), (0.5, world.deltas("c"))))))


def test_a_saved_composition_answers_as_the_mounted_plan(host, world, tmp_path):
    composition = compose.weighted(
        {str(world.path("a")): 0.7, str(world.path("c")): 0.3}, how="ties", density=0.5, rank=3
    )
    host.mount("composition", composition)
    host.mount("saved", compose.save(composition, tmp_path / "out", backbone=world.backbone))
    equal(answers(host, "saved"), answers(host, "composition"))


def test_dora_beside_another_change_of_its_linear_is_refused(host, world):
    for name in ("dora", "a", "b", "dora-key", "neck", "bias"):
        host.mount(name, world.path(name))
    with pytest.raises(CompositionError, match=r"dora: DoRA on .*query and 5 more, which a changes too"):
        host.mount("both", compose.stack("a", "dora"))
    with pytest.raises(CompositionError, match=r"dora: DoRA on .* which bias changes too"):
        host.mount("both", compose.stack("dora", "bias"))
    with pytest.raises(CompositionError, match=r"dora-key: DoRA on .*key"):
        host.mount("both", compose.stack("b", "dora-key"))
    host.mount("fine", compose.stack("a", "dora-key", "neck"))
    assert len(answers(host, "fine")) == len(TEXTS)


def test_ia3_is_stacked_where_nothing_else_rescales_or_updates_its_linears(host, world, fresh_backbone):
    for name in ("vectors", "a", "neck"):
        host.mount(name, world.path(name))
    with pytest.raises(CompositionError, match=r"vectors: IA3 on .*value and 2 more, which a changes too"):
        host.mount("both", compose.stack("vectors", "a"))
    host.mount("both", compose.stack("vectors", "neck"))
    backbone, neck = fresh_backbone("bert"), world.find("neck")
    with torch.no_grad():
        for name, factors in world.find("vectors").state.items():
            if name.endswith(".ia3_l"):
                linear = backbone.trunk.get_submodule(name[len("base_model.model.bert.") : -len(".ia3_l")])
                linear.weight *= factors  # (1, inputs) or (outputs, 1)
                if factors.shape[1] == 1:
                    linear.bias *= factors[:, 0]
    head = of_artifact(neck).heads[""]
    with build(backbone, head.task, METHODS["neck"], head.head, seed=0) as adapted, torch.inference_mode():
        adapted.load_state(dict(neck.state))
        equal(answers(host, "both"), adapted(tokens(backbone)))


def test_another_backbones_member_is_refused_naming_both(world, tiny_backbones):
    with Host(tiny_backbones["roberta"]) as host, pytest.raises(ContractError) as caught:
        host.mount("both", compose.stack(str(world.path("a")), str(world.path("neck"))))
    assert world.backbone.fingerprint[:4] in str(caught.value)
    assert tiny_backbones["roberta"].fingerprint[:4] in str(caught.value)


def test_an_unknown_member_is_named(host, world):
    host.mount("intent", world.path("a"))
    with pytest.raises(CompositionError, match=r"1 member of this composition cannot be found(.|\n)*intend"):
        host.mount("both", compose.weighted({"intent": 0.5, "intend": 0.5}))
    assert "both" not in host


@pytest.mark.parametrize(
    ("members", "options", "problem"),
    [
        ((), {}, "members: none"),
        (("a", "a"), {}, "'a' stands there twice"),
        (("a", "b"), {"head": "c"}, "head: 'c' is not a member; members are a, b"),
        (("a", "b"), {"heads": []}, "heads: is empty"),
        ((compose.weighted({"a": 1.0}), "a"), {}, "two of them offer a head 'a'"),
        (("a", 3), {}, "found 3, expected text"),
    ],
    ids=str,
)
def test_stacks_that_make_no_sense_are_refused(members, options, problem):
    with pytest.raises(CompositionError, match=problem):
        compose.stack(*members, **options)
