"""Own heads: what they compute, what they train, what they refuse."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from adapterkit.artifact import load
from adapterkit.backbone import Backbone
from adapterkit.errors import HeadError, SiteError
from adapterkit.heads import build_head, resolve
from adapterkit.recipe import KINDS, HeadSettings, LoraMethod
from tests import tiny
from tests.laws.cases import HEADS
from tests.laws.worlds import adapter, batch_of, disturb, logits_of, prepared, write
from tests.methods.cases import bits
from tests.tasks.conftest import ROWS

Backbones = Mapping[str, Any]
OWN = {name: settings for name, settings in HEADS.items() if settings.kind != "family"}
POOLED = ("text-classification", "multiple-choice")
TOKENS = ("token-classification", "question-answering")
CELLS = [
    *((kind, head) for kind in POOLED for head in OWN),
    *((kind, head) for kind in TOKENS for head in ("linear", "mlp")),
]


def states_of(backbone: Backbone, inputs: dict[str, Tensor]) -> Tensor:
    """Last hidden states of the bare trunk, or of its encoder where it has a decoder too."""
    trunk: Any = backbone.trunk.encoder if backbone.is_encoder_decoder else backbone.trunk
    with torch.no_grad():
        states: Tensor = trunk(**inputs).last_hidden_state
    return states


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_linear_head_is_a_matrix_product_of_the_mean_of_the_states(tiny_backbones: Backbones, family: str) -> None:
    backbone = tiny_backbones[family]
    with adapter(backbone, "text-classification", head=HEADS["linear-mean"]) as adapted:
        batch = batch_of(adapted)
        logits = logits_of(adapted, batch)
        weight, bias = (adapted.head_parameters()[f"adapterkit_head.output.classifier.{n}"] for n in ("weight", "bias"))
        states, mask = states_of(backbone, batch.inputs), batch.inputs["attention_mask"].bool()
        means = torch.stack([state[there].mean(0) for state, there in zip(states, mask, strict=True)])
        assert torch.allclose(logits, means @ weight.T + bias, atol=1e-6)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_an_mlp_head_answers_every_token_alone(tiny_backbones: Backbones, family: str) -> None:
    backbone = tiny_backbones[family]
    with adapter(backbone, "token-classification", head=HEADS["mlp"]) as adapted:
        batch = batch_of(adapted)
        logits = logits_of(adapted, batch)
        own = {name.rpartition("output.")[2]: value for name, value in adapted.head_parameters().items()}
        hidden = torch.tanh(states_of(backbone, batch.inputs) @ own["dense.weight"].T + own["dense.bias"])
        assert own["dense.weight"].shape == (6, 32)
        assert torch.allclose(logits, hidden @ own["classifier.weight"].T + own["classifier.bias"], atol=1e-6)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_multiple_choice_scores_every_choice_as_a_row_of_its_own_by_its_direction(
    tiny_backbones: Backbones, family: str
) -> None:
    backbone = tiny_backbones[family]
    with adapter(backbone, "multiple-choice", head=HEADS["linear-last"]) as adapted:
        batch = batch_of(adapted, ROWS["multiple-choice"][:1])
        logits = logits_of(adapted, batch)
        weight, bias = (adapted.head_parameters()[f"adapterkit_head.output.classifier.{n}"] for n in ("weight", "bias"))
        assert logits.shape == (1, 3)
        for choice in range(3):
            inputs = {name: tensor[:, choice] for name, tensor in batch.inputs.items()}
            last = int(inputs["attention_mask"].sum()) - 1
            vector = states_of(backbone, inputs)[0, last]
            expected = vector / vector.square().sum().sqrt() @ weight[0] + bias[0]  # head.normalize
            assert torch.allclose(logits[0, choice], expected, atol=1e-5)


@pytest.mark.parametrize("family", tiny.ENCODER_DECODERS)
@pytest.mark.parametrize(("kind", "head"), [("text-classification", "attention"), ("token-classification", "linear")])
def test_on_encoder_decoders_they_read_the_encoder_and_nothing_attaches_to_the_decoder(
    tiny_backbones: Backbones, family: str, kind: str, head: str
) -> None:
    backbone = tiny_backbones[family]
    calls = []
    handle = backbone.trunk.decoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        with adapter(backbone, kind, LoraMethod(sites="all-linear", rank=2), OWN[head]) as adapted:
            logits_of(adapted)
            assert not any("decoder" in name for name in adapted.state())
            prefix = backbone.trunk.base_model_prefix
            assert all(name.startswith(f"{prefix}.encoder.") for name in adapted.method_parameters())
            adapted.train()
            assert not any(module.training for module in backbone.trunk.decoder.modules())
    finally:
        handle.remove()
    assert calls == []
    with (
        pytest.raises(SiteError, match="sites of the side"),
        adapter(backbone, kind, LoraMethod(sites=("cross_attention.query",)), OWN[head]),
    ):
        pass


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart"])  # one of each architecture
@pytest.mark.parametrize(("kind", "head"), CELLS)
def test_every_part_of_an_own_head_is_trained_given_away_and_taken_back(
    tiny_backbones: Backbones, family: str, kind: str, head: str
) -> None:
    backbone = tiny_backbones[family]
    with adapter(backbone, kind, head=OWN[head]) as adapted:
        own = {name for name, _ in adapted.module.named_parameters() if name.startswith("adapterkit_head.")}
        assert set(adapted.head_parameters()) == own
        assert all(parameter.requires_grad for parameter in adapted.head_parameters().values())
        disturb(adapted, 0.5)
        expected, state = logits_of(adapted), adapted.state()
    with adapter(backbone, kind, head=OWN[head], seed=1) as adapted:
        assert not torch.equal(logits_of(adapted), expected)
        adapted.load_state(state)
        assert torch.equal(logits_of(adapted), expected)


def test_the_settings_that_auto_stood_for_are_saved(tiny_backbones: Backbones, tmp_path: Path) -> None:
    backbone = tiny_backbones["llama"]
    with adapter(backbone, "multiple-choice", LoraMethod(rank=2), HeadSettings()) as adapted:
        assert (adapted.head.kind, adapted.head.pooling) == ("linear", "last")
        disturb(adapted)
        write(tmp_path / "out", adapted)
        expected = logits_of(adapted)
    with load(tmp_path / "out", backbone) as adapted:
        assert (adapted.head.kind, adapted.head.pooling) == ("linear", "last")
        assert torch.equal(logits_of(adapted), expected)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_auto_is_what_wins_without_tuning(tiny_backbones: Backbones, family: str) -> None:
    backbone = tiny_backbones[family]
    found = {kind: resolve(backbone, kind, HeadSettings()) for kind in KINDS}
    tokens = "linear" if family == "bart" else "family"
    assert {kind: (settings.kind, settings.pooling) for kind, settings in found.items()} == {
        "text-classification": ("linear", backbone.pooling),
        "multiple-choice": ("linear", backbone.pooling),
        "token-classification": (tokens, "auto"),
        "question-answering": ("family", "auto"),
        "masked-lm": ("family", "auto"),
        "causal-lm": ("family", "auto"),
        "seq2seq-lm": ("family", "auto"),
    }
    assert backbone.pooling in ("mean", "first", "last")
    chosen = HeadSettings(kind="mlp", pooling="first", hidden=3, dropout=0.2)
    assert resolve(backbone, "text-classification", chosen) == chosen


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart"])  # one of each architecture
@pytest.mark.parametrize(("kind", "head"), CELLS)
def test_building_an_own_head_changes_no_bit_of_the_trunk(
    tiny_backbones: Backbones, family: str, kind: str, head: str
) -> None:
    trunk = tiny_backbones[family].trunk
    before = {name: bits(tensor) for name, tensor in trunk.state_dict().items()}
    chance = torch.random.get_rng_state()
    first, again, other = (
        build_head(tiny_backbones[family], kind, prepared(kind).classes, OWN[head], seed=seed) for seed in (0, 0, 1)
    )
    assert {name: bits(tensor) for name, tensor in trunk.state_dict().items()} == before
    assert torch.equal(torch.random.get_rng_state(), chance)
    weight = "adapterkit_head.output.classifier.weight"
    assert torch.equal(first.trained[weight], again.trained[weight])
    assert not torch.equal(first.trained[weight], other.trained[weight])


def test_head_dropout_is_on_in_training_only(tiny_backbones: Backbones) -> None:
    head = HeadSettings(kind="linear", pooling="mean", dropout=0.5)
    with adapter(tiny_backbones["bert"], "text-classification", head=head) as adapted:
        batch = batch_of(adapted)
        assert torch.equal(adapted(batch.inputs), adapted(batch.inputs))
        adapted.train()
        assert not torch.equal(adapted(batch.inputs), adapted(batch.inputs))


@pytest.mark.parametrize("kind", ["masked-lm", "causal-lm", "seq2seq-lm"])
@pytest.mark.parametrize("head", ["linear", "mlp", "attention"])
def test_a_language_model_refuses_an_own_head(tiny_backbones: Backbones, kind: str, head: Any) -> None:
    family = {"masked-lm": "bert", "causal-lm": "gpt2", "seq2seq-lm": "t5"}[kind]
    with pytest.raises(HeadError) as caught:
        build_head(tiny_backbones[family], kind, 0, HeadSettings(kind=head), seed=0)
    assert str(caught.value) == (
        f"A {head} head cannot serve {kind}: a language model's head belongs to its checkpoint\nUse head.kind=family."
    )


@pytest.mark.parametrize("kind", TOKENS)
def test_an_attention_head_refuses_kinds_that_answer_per_token(tiny_backbones: Backbones, kind: str) -> None:
    with pytest.raises(HeadError) as caught:
        build_head(tiny_backbones["bert"], kind, 2, OWN["attention"], seed=0)
    assert str(caught.value) == (
        f"A head of kind attention pools a row to one state, and {kind} answers per token\n"
        "Use head.kind=linear or head.kind=mlp."
    )


def test_settings_that_would_have_no_effect_are_refused() -> None:
    for settings in ({"kind": "family", "pooling": "mean"}, {"kind": "attention", "pooling": "last"}):
        with pytest.raises(ValidationError, match="pools by itself"):
            HeadSettings(**settings)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="has no effect on a head of kind linear, which has no hidden layer"):
        HeadSettings(kind="linear", hidden=3)
    with pytest.raises(ValidationError, match="takes the family's states as they are"):
        HeadSettings(kind="family", normalize=True)
    with pytest.raises(ValidationError, match="takes it from the backbone"):
        HeadSettings(kind="family", dropout=0.1)


@pytest.mark.parametrize(
    ("kind", "settings", "found"),
    [
        ("token-classification", {"dropout": 0.1}, ["head.dropout"]),
        ("token-classification", {"kind": "linear", "pooling": "mean"}, ["head.pooling"]),
        ("question-answering", {"pooling": "last", "dropout": 0.5}, ["head.dropout", "head.pooling"]),
        ("masked-lm", {"dropout": 0.1}, ["head.dropout"]),
        ("token-classification", {"kind": "linear", "normalize": True}, ["head.normalize"]),
    ],
)
def test_a_setting_that_this_head_cannot_honour_is_refused(
    tiny_backbones: Backbones, kind: str, settings: dict[str, Any], found: list[str]
) -> None:
    with pytest.raises(HeadError, match="cannot honour these settings") as caught:
        build_head(tiny_backbones["bert"], kind, 2, HeadSettings(**settings), seed=0)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == found
    assert caught.value.remedy.startswith("Remove them")
