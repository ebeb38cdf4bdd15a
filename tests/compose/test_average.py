from __future__ import annotations

import pytest
import torch

from adapterkit import compose
from adapterkit.adapted import build
from adapterkit.artifact import load, open_artifact
from adapterkit.errors import CompositionError
from tests.artifact.conftest import write


@pytest.fixture
def near(world, tmp_path):
    """Three LoRAs that began as "a" did and went a little way each."""
    for name, seed in (("x", 1), ("y", 2), ("z", 3)):
        with load(world.path("a"), world.backbone) as adapted:
            generator = torch.Generator().manual_seed(seed)
            state = sorted(adapted.state().items())
            adapted.load_state({n: t + 0.02 * torch.randn(t.shape, generator=generator) for n, t in state})
            write(tmp_path / name, adapted, dtype="float32")
    return lambda name: open_artifact(tmp_path / name)


def test_parameters_are_averaged(near, world):
    composed = compose.average("x", "y").build(near, world.backbone)
    x, y = near("x").state, near("y").state
    (part,) = composed.methods
    assert part.state
    assert all(torch.allclose(tensor, (x[n] + y[n]) / 2, rtol=0, atol=1e-7) for n, tensor in part.state.items())
    assert list(composed.heads) == ["x"]


def test_weights_count_by_their_share(near, world):
    found = compose.average("x", "y", "z", weights=[6, 3, 1]).build(near, world.backbone).methods[0].state
    x, y, z = (near(name).state for name in "xyz")
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, 0.6 * x[name] + 0.3 * y[name] + 0.1 * z[name], rtol=0, atol=1e-6)


def test_averaged_factors_say_how_far_they_are_from_averaged_updates(near, world):
    composed = compose.average("x", "y").build(near, world.backbone)
    (part,) = composed.methods
    wanted, found = {}, {}
    for name in part.state:
        if name.endswith("lora_A.weight"):
            b = name.replace("lora_A", "lora_B")
            wanted[name] = sum(near(n).state[b] @ near(n).state[name] for n in "xy") / 2
            found[name] = part.state[b] @ part.state[name]
    missed = sum(float(((found[n] - wanted[n]) ** 2).sum()) for n in wanted)
    expected = (missed / sum(float((wanted[n] ** 2).sum()) for n in wanted)) ** 0.5
    assert composed.report["error"]["overall"] == pytest.approx(expected, rel=1e-3)
    assert 0 < expected < 0.1


def test_factors_of_ia3_are_averaged(world, tmp_path):
    for name, seed in (("x", 1), ("y", 2)):
        with load(world.path("vectors"), world.backbone) as adapted:
            noise = torch.Generator().manual_seed(seed)
            adapted.load_state({n: t + torch.randn(t.shape, generator=noise) for n, t in adapted.state().items()})
            write(tmp_path / name, adapted, dtype="float32")
    composed = compose.average("x", "y", weights=[3, 1]).build(lambda n: open_artifact(tmp_path / n), world.backbone)
    x, y = (open_artifact(tmp_path / name).state for name in "xy")
    (part,) = composed.methods
    assert part.state
    assert all(name.endswith("ia3_l") for name in part.state)
    for name, tensor in part.state.items():
        torch.testing.assert_close(tensor, 0.75 * x[name] + 0.25 * y[name], rtol=0, atol=1e-6)


def test_loras_from_unrelated_starts_are_refused(world):
    with pytest.raises(CompositionError, match=r"relative error of ΔW: 0\.\d+, expected at most 0\.5"):
        compose.average("plain-2", "plain-2-too").build(world.find, world.backbone)


def test_bottlenecks_of_one_shape_are_averaged_across_heads(world):
    composed = compose.average("neck", "neck-2", head="neck-2").build(world.find, world.backbone)
    (part,) = composed.methods
    first, second = world.find("neck").state, world.find("neck-2").state
    assert len(part.state) == 12
    for name, tensor in part.state.items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2, rtol=0, atol=1e-7)
    assert composed.heads["neck-2"].task.labels == ("no", "perhaps", "yes")
    with build(world.backbone, composed.heads["neck-2"].task, part.method, composed.heads["neck-2"].head, 0) as adapted:
        adapted.load_state({**part.state, **composed.heads["neck-2"].state})


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        (("neck", "neck-wide"), r"bottleneck_down.bias: neck-wide has shape \(4,\), neck has shape \(3,\)"),
        (("neck", "houlsby"), "method.activation: houlsby has gelu, neck has relu"),
        (("neck", "a"), r"a: rank-2 LoRA, neck: bottleneck \(pfeiffer\)"),
        (("a", "plain-2"), "attention.self.query alpha: plain-2 has 5, a has 4"),
        (("a", "b"), "b has nothing, a has shape"),
        (("dora", "dora"), "'dora' stands there twice"),
        (("none", "a"), "none: head-only: it has no parameters beside its head"),
        (("dora", "a"), "dora: rank-2 DoRA: its magnitudes"),
    ],
)
def test_members_that_are_built_otherwise_are_refused_with_both_sides(world, members, problem):
    with pytest.raises(CompositionError, match=problem):
        compose.average(*members).build(world.find, world.backbone)


@pytest.mark.parametrize(
    ("members", "weights", "problem"),
    [
        ((), None, "members: none"),
        (("a", "b"), [1.0], "weights: 1 for 2 members"),
        (("a", "b"), [0, 0], "all are 0"),
        (("a", "b"), [1, -1], "weights.b: found -1, expected a finite number of at least 0"),
        (("a", "b"), [1, float("nan")], "weights.b: found nan"),
    ],
)
def test_weights_that_are_no_shares_are_refused(members, weights, problem):
    with pytest.raises(CompositionError, match=problem):
        compose.average(*members, weights=weights)
