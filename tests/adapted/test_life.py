"""An adapter on its backbone: how it trains, what it holds, and how it comes and goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from adapterkit.adapted import PREFIX, build
from adapterkit.artifact import load
from adapterkit.backbone import Backbone
from adapterkit.backbone.plain_attention import attend_plainly
from adapterkit.errors import AdapterkitError, ArtifactError, DetachedError, MergeError, SiteError
from adapterkit.methods.table import attach
from adapterkit.recipe import BottleneckMethod, HeadSettings, LoraMethod, NoMethod
from tests import tiny
from tests.laws.worlds import FAMILY, adapter, batch_of, disturb, logits_of, prepared, write
from tests.methods.cases import bits, snapshot
from tests.tasks.conftest import ROWS

Backbones = Mapping[str, Any]
LORA = LoraMethod(rank=2)
TEXTS = [row["text"] for row in ROWS["text-classification"]]


# -- training mode


def training_layers(adapted: Any) -> set[str]:
    """Layers that are in training mode as a whole, as "stack layer"."""
    sites = [site for site in adapted.backbone.sites.sites if site.name == "layer.output"]
    found = {f"{s.side} {s.layer}": adapted.backbone.trunk.get_submodule(s.path) for s in sites}
    modes = {name: {module.training for module in layer.modules()} for name, layer in found.items()}
    assert all(len(mode) == 1 for mode in modes.values())
    return {name for name, mode in modes.items() if mode == {True}}


@pytest.mark.parametrize(
    ("family", "kind", "method", "expected"),
    [
        ("bert", "text-classification", LORA, {"encoder 0", "encoder 1", "encoder 2"}),
        ("bert", "text-classification", LoraMethod(top=1), {"encoder 2"}),
        ("bert", "text-classification", LoraMethod(layers=(1,)), {"encoder 1", "encoder 2"}),
        ("bert", "text-classification", LoraMethod(top=1, bias="all"), {"encoder 0", "encoder 1", "encoder 2"}),
        ("bert", "text-classification", NoMethod(), set()),
        ("llama", "causal-lm", BottleneckMethod(top=2), {"decoder 1", "decoder 2"}),
        # What the encoder gives depends on its adapters, so all of the decoder lies above it.
        ("t5", "seq2seq-lm", LoraMethod(layers=(1,)), {"encoder 1", "decoder 0", "decoder 1"}),
        ("t5", "seq2seq-lm", LoraMethod(sites=("cross_attention.query",), top=1), {"decoder 1"}),
        ("t5", "token-classification", LORA, {"encoder 0", "encoder 1"}),
        ("bart", "text-classification", LoraMethod(layers=(1,)), {"encoder 1"}),
    ],
    ids=range(10),
)
def test_training_mode_reaches_from_the_lowest_adapted_layer_up(
    tiny_backbones: Backbones, family: str, kind: str, method: Any, expected: set[str]
) -> None:
    with adapter(tiny_backbones[family], kind, method, HeadSettings()) as adapted:
        assert training_layers(adapted) == set()
        assert adapted.train() is adapted
        assert adapted.training
        found = training_layers(adapted)
        assert found == expected
        assert not adapted.backbone.trunk.get_input_embeddings().training
        adapted.eval()
        assert training_layers(adapted) == set()
        assert not any(module.training for module in adapted.modules())


@pytest.mark.parametrize("head", ["family", "linear"])
def test_the_head_and_the_methods_dropout_train_with_them(tiny_backbones: Backbones, head: Any) -> None:
    settings = HeadSettings(kind=head, dropout=0.3 if head == "linear" else 0.0)
    with adapter(tiny_backbones["bert"], "token-classification", LoraMethod(top=1, dropout=0.5), settings) as adapted:
        dropouts = {
            name: module for name, module in adapted.module.named_modules() if isinstance(module, torch.nn.Dropout)
        }
        adapted.train()
        training = {name for name, module in dropouts.items() if module.training}
        lower = {name for name in dropouts if "embeddings" in name or "layer.0." in name or "layer.1." in name}
        assert lower
        assert training == dropouts.keys() - lower
        assert any("lora_dropout" in name for name in training)
        assert any("layer" not in name for name in training)  # the head's


def test_below_the_lowest_adapted_layer_states_do_not_change_while_training(tiny_backbones: Backbones) -> None:
    seen = []
    with adapter(tiny_backbones["bert"], "text-classification", LoraMethod(top=1)) as adapted:
        layers = adapted.module.bert.encoder.layer  # type: ignore[union-attr]
        handle = layers[1].register_forward_hook(  # type: ignore[index, operator]
            lambda module, args, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
        adapted.train()
        batch = batch_of(adapted)
        logits = [adapted(batch.inputs) for _ in range(2)]
        handle.remove()
    assert torch.equal(*seen)
    assert not torch.equal(*logits)


def test_short_rows_train_with_plain_attention_and_nothing_is_switched(
    tiny_backbones: Backbones, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny_backbones["bert"]
    used: list[str] = []

    def noting(*given: Any) -> Any:
        used.append(backbone.config._attn_implementation)
        return attend_plainly(*given)

    monkeypatch.setattr("adapterkit.backbone.attention.attend_plainly", noting)
    with adapter(backbone, "text-classification", LORA, HeadSettings(kind="linear")) as adapted:
        batch = batch_of(adapted)
        fused = logits_of(adapted)
        assert used == []
        plain = adapted(batch.inputs)
        layers = adapted.module.get_submodule("bert.encoder.layer")
        assert used == ["adapterkit"] * len(list(layers.children()))  # type: ignore[arg-type]
    assert torch.allclose(fused, plain, rtol=0, atol=1e-5)  # another order of the same sums


# -- state


def test_the_state_is_a_sorted_copy_under_pefts_names(tiny_backbones: Backbones) -> None:
    with adapter(tiny_backbones["bert"], "text-classification", LORA) as adapted:
        state = adapted.state()
        assert list(state) == sorted(state)
        assert all(name.startswith(PREFIX) and ".default" not in name for name in state)
        assert not any(tensor.requires_grad for tensor in state.values())
        expected = logits_of(adapted)
        for tensor in state.values():
            tensor.fill_(9.0)
        assert torch.equal(logits_of(adapted), expected)
        adapted.load_state(adapted.state())
        assert torch.equal(logits_of(adapted), expected)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda state: state.pop(f"{PREFIX}classifier.bias"), "classifier.bias: missing"),
        (lambda state: state.update({f"{PREFIX}classifier.bias": torch.zeros(7)}), r"shape \(7,\), expected \(2,\)"),
        (lambda state: state[f"{PREFIX}classifier.bias"].fill_(float("nan")), "not finite"),
        (lambda state: state.update({f"{PREFIX}mystery": torch.zeros(1)}), "mystery: not of this adapter"),
        (lambda state: state.pop(next(name for name in state if "lora_B" in name)), "lora_B.weight: missing"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(
    tiny_backbones: Backbones, spoil: Callable[[dict[str, Any]], Any], words: str
) -> None:
    with adapter(tiny_backbones["bert"], "text-classification", LORA) as adapted:
        before = {name: bits(tensor) for name, tensor in adapted.state().items()}
        state = {name: torch.ones_like(tensor) for name, tensor in adapted.state().items()}
        spoil(state)
        with pytest.raises(ArtifactError, match=words):
            adapted.load_state(state)
        assert {name: bits(tensor) for name, tensor in adapted.state().items()} == before


# -- coming and going

METHODS: dict[str, Any] = {
    "none": NoMethod(),
    "lora": LoraMethod(sites="all-linear", bias="all", dropout=0.1),
    "pissa": LoraMethod(initialization="pissa"),
    "houlsby": BottleneckMethod(placement="houlsby"),
    "parallel": BottleneckMethod(placement="parallel"),
}


def everything(backbone: Backbone) -> Any:
    return snapshot(backbone.trunk), [module.training for module in backbone.trunk.modules()]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["bert", "gpt2", "bart"])
def test_the_backbone_is_as_before_even_after_an_exception_in_the_middle_of_training(
    fresh_backbone: Callable[..., Backbone], family: str, method: str
) -> None:
    backbone = fresh_backbone(family)
    before = everything(backbone)

    def break_off() -> None:
        with adapter(backbone, "question-answering", METHODS[method]) as adapted:
            disturb(adapted)
            adapted.train()
            batch = batch_of(adapted)
            adapted.task.loss(adapted(batch.inputs), batch).total.backward()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert everything(backbone) == before


def test_the_backbone_is_as_before_after_an_exception_while_merged(fresh_backbone: Callable[..., Backbone]) -> None:
    backbone = fresh_backbone("bert")
    before = everything(backbone)

    def break_off() -> None:
        with adapter(backbone, "text-classification", LORA) as adapted:
            disturb(adapted)
            adapted.merge()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert everything(backbone) == before


def test_a_method_that_cannot_attach_leaves_nothing_behind(fresh_backbone: Callable[..., Backbone]) -> None:
    backbone = fresh_backbone("bert")
    before = everything(backbone)
    task = prepared("text-classification")
    with pytest.raises(SiteError):
        build(backbone, task, LoraMethod(sites=("attention.nowhere",)), FAMILY, 0)
    assert everything(backbone) == before
    with adapter(backbone, "text-classification", LORA) as adapted:
        assert adapted.predict(TEXTS)


def test_two_adapters_one_after_the_other_do_not_know_of_each_other(tiny_backbones: Backbones, tmp_path: Any) -> None:
    backbone = tiny_backbones["bert"]
    first_task = prepared("text-classification")
    alone: dict[str, Any] = {}
    kinds = {"text-classification": LORA, "token-classification": BottleneckMethod(placement="houlsby")}
    for kind, method in kinds.items():
        with adapter(backbone, kind, method, seed=1) as adapted:
            disturb(adapted, 0.2)
            alone[kind] = adapted.predict(ROWS[kind])
            write(tmp_path / kind, adapted, dtype="float32", seed=1)
    for kind in (*kinds, *reversed(kinds), *kinds):
        with load(tmp_path / kind, backbone) as adapted:
            assert adapted.predict(ROWS[kind]) == alone[kind]
    with adapter(backbone, "text-classification", task=first_task) as bare:
        assert bare.predict(TEXTS) != alone["text-classification"]


def test_a_trunk_to_which_somebody_attached_a_method_is_built_upon_by_nobody(
    fresh_backbone: Callable[..., Backbone],
) -> None:
    backbone = fresh_backbone("bert")
    attach(backbone.trunk, backbone, LORA, seed=0)
    for method in (LORA, NoMethod()):
        with pytest.raises(SiteError, match="carries an adapter already"):
            build(backbone, prepared("token-classification"), method, FAMILY, 0)


def test_a_detached_adapter_refuses_to_answer_instead_of_answering_without_its_method(
    tiny_backbones: Backbones, tmp_path: Any
) -> None:
    with adapter(tiny_backbones["bert"], "text-classification", LORA) as adapted:
        batch, state = batch_of(adapted), adapted.state()
    acts: list[Callable[[], Any]] = [
        lambda: adapted(batch.inputs),
        lambda: adapted.predict(TEXTS),
        lambda: adapted.outputs(batch.features),
        adapted.state,
        lambda: adapted.load_state(state),
        adapted.merge,
        lambda: write(tmp_path / "out", adapted),
    ]
    for act in acts:
        with pytest.raises(DetachedError, match="was taken off its backbone") as caught:
            act()
        assert isinstance(caught.value, AdapterkitError)
        assert isinstance(caught.value, RuntimeError)
    assert not (tmp_path / "out").exists()


def test_detaching_twice_does_nothing_to_the_next_adapter(tiny_backbones: Backbones) -> None:
    with adapter(tiny_backbones["bert"], "text-classification", LORA) as first:
        pass
    with adapter(tiny_backbones["bert"], "text-classification", LORA) as second:
        disturb(second)
        second.train()
        modes = [module.training for module in second.modules()]
        state = {name: bits(tensor) for name, tensor in second.state().items()}
        first.detach()
        assert [module.training for module in second.modules()] == modes
        assert {name: bits(tensor) for name, tensor in second.state().items()} == state


def test_a_merged_adapter_answers_about_the_same_and_cannot_be_loaded_into(tiny_backbones: Backbones) -> None:
    with adapter(tiny_backbones["bert"], "text-classification", LORA) as adapted:
        disturb(adapted)
        expected = logits_of(adapted)
        adapted.merge()
        # Sums in another order, in fp32 with its 7 digits.
        assert torch.allclose(logits_of(adapted), expected, rtol=0, atol=1e-5)
        with pytest.raises(MergeError):
            adapted.load_state(adapted.state())
        adapted.unmerge()
        assert torch.equal(logits_of(adapted), expected)


def test_a_narrower_compute_dtype_casts_products_and_not_the_stored_weights(tiny_backbones: Backbones) -> None:
    with adapter(tiny_backbones["bert"], "text-classification", LORA) as adapted:
        disturb(adapted)
        exact = logits_of(adapted)
        stored = {name: bits(tensor) for name, tensor in adapted.state().items()}
        adapted.compute_dtype = torch.bfloat16
        narrow = logits_of(adapted)
        assert 0 < (narrow.float() - exact).abs().max() < 0.1  # bf16 has 8 bits, and logits here are below 3
        assert {name: bits(tensor) for name, tensor in adapted.state().items()} == stored
        assert {parameter.dtype for parameter in adapted.parameters()} == {torch.float32}


def test_building_says_which_settings_auto_stood_for(tiny_backbones: Backbones) -> None:
    with adapter(tiny_backbones["bert"], "text-classification", LORA, HeadSettings()) as adapted:
        assert adapted.head == HeadSettings(kind="linear", pooling=tiny_backbones["bert"].pooling)
        assert not adapted.training
        assert adapted.compute_dtype == torch.float32


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_an_adapter_trains_on_a_backbone_that_has_answered_before(
    fresh_backbone: Callable[..., Backbone], family: str
) -> None:
    """What a trunk keeps between calls (positions, masks) may have been made while no gradients were wanted."""
    backbone = fresh_backbone(family)
    kind = "seq2seq-lm" if family in tiny.ENCODER_DECODERS else "question-answering"
    with adapter(backbone, kind, LORA) as adapted:
        adapted.predict(ROWS[kind])
        adapted.train()
        for _ in range(2):
            batch = batch_of(adapted)
            adapted.task.loss(adapted(batch.inputs), batch).mean.backward()
            adapted.predict(ROWS[kind])
            assert adapted.training
        parameters = [*adapted.method_parameters().values(), *adapted.head_parameters().values()]
        assert all(parameter.grad is not None for parameter in parameters)
