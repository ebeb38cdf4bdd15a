"""An adapter on its backbone: what it answers, what it trains, and how it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from tests import tiny
from tests.laws.worlds import (
    FAMILY,
    adapter,
    batch_of,
    disturb,
    features_of,
    logits_of,
    make_talkative,
    prepared,
    write,
)
from tests.methods.cases import bits, snapshot
from tests.tasks.conftest import FAMILY as A_FAMILY_OF
from tests.tasks.conftest import ROWS

from adapterkit.adapted import PREFIX, build
from adapterkit.artifact import load
from adapterkit.backbone import Backbone
from adapterkit.errors import AdapterkitError, ArtifactError, DataError, DetachedError, MergeError, SiteError
from adapterkit.recipe import KINDS, BottleneckMethod, HeadSettings, LoraMethod, NoMethod

Backbones = Mapping[str, Any]
LORA = LoraMethod(rank=2)
TEXTS = [row["text"] for row in ROWS["text-classification"]]
GENERATING = ("causal-lm", "seq2seq-lm")


# -- answering

PLAIN = {
    "text-classification": "my card was lost",
    "token-classification": "Ada lived in London",
    "masked-lm": "the quick [MASK] fox",
    "causal-lm": "Ada lived in",
    "seq2seq-lm": "jump twice",
}
"""Kinds that one text is enough for."""

KEYS = {
    "text-classification": {"label", "score", "probabilities"},
    "token-classification": {"tags"},
    "question-answering": {"answer", "start", "stop", "score", "probability"},
    "multiple-choice": {"choice", "text", "score", "probabilities"},
    "masked-lm": {"text", "masks"},
    "causal-lm": {"text"},
    "seq2seq-lm": {"text"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_answered_in_their_order_with_or_without_targets(tiny_backbones: Backbones, kind: str) -> None:
    with adapter(tiny_backbones[A_FAMILY_OF[kind]], kind, LORA, HeadSettings()) as adapted:
        disturb(adapted)
        targets = {name for name, column in adapted.task.columns.items() if column.target}
        rows = ROWS[kind]
        bare = [{name: value for name, value in row.items() if name not in targets} for row in rows]
        answers = adapted.predict(bare)
        assert len(answers) == len(rows)
        assert all(KEYS[kind] <= answer.keys() for answer in answers)
        assert adapted.predict(rows) == answers
        assert adapted.predict(bare[::-1]) == answers[::-1]


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_text_is_a_row_with_its_first_column(tiny_backbones: Backbones, kind: str) -> None:
    with adapter(tiny_backbones[A_FAMILY_OF[kind]], kind, LORA, HeadSettings()) as adapted:
        column = next(iter(adapted.task.columns))
        row = {column: PLAIN[kind]}
        assert adapted.predict([PLAIN[kind]]) == adapted.predict([row])
        assert adapted.predict([PLAIN[kind], row]) == adapted.predict([PLAIN[kind]]) * 2


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_have_no_answers(tiny_backbones: Backbones, kind: str) -> None:
    with adapter(tiny_backbones[A_FAMILY_OF[kind]], kind, head=HeadSettings()) as adapted:
        assert adapted.predict([]) == []
        assert adapted.outputs([]) == []


@pytest.mark.parametrize("row", ["my card was lost", {"text": "my card was lost"}])
def test_one_row_instead_of_a_list_is_refused_and_not_taken_apart(tiny_backbones: Backbones, row: Any) -> None:
    with adapter(tiny_backbones["bert"], "text-classification") as adapted, pytest.raises(TypeError, match="list of"):
        adapted.predict(row)


def test_rows_that_cannot_be_answered_are_named_by_number_all_at_once(tiny_backbones: Backbones) -> None:
    with adapter(tiny_backbones["bert"], "text-classification") as adapted:
        rows: list[Any] = ["my card was lost", {"text": 3}, {}, {"text": "fine"}, {"text": None}]
        with pytest.raises(DataError) as caught:
            adapted.predict(rows)
        assert caught.value.summary == "3 of 5 rows cannot be answered"
        assert [problem.partition(":")[0] for problem in caught.value.problems] == ["row 2", "row 3", "row 5"]
        assert caught.value.remedy == "A row of text-classification has: text, text_pair."


def test_one_bad_row_alone_is_named_too(tiny_backbones: Backbones) -> None:
    with adapter(tiny_backbones["bert"], "multiple-choice") as adapted, pytest.raises(DataError) as caught:
        adapted.predict([{"question": "which?"}])
    assert "row 1" in str(caught.value) or "line 1" in str(caught.value)
    assert "no choices" in str(caught.value)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_answers_do_not_depend_on_the_batch_size(tiny_backbones: Backbones, batch_size: int) -> None:
    with adapter(tiny_backbones["bert"], "text-classification", LORA) as adapted:
        disturb(adapted)
        found = [answer["label"] for answer in adapted.predict(TEXTS * 3, batch_size=batch_size)]
        assert found == [adapted.predict([text])[0]["label"] for text in TEXTS] * 3


@pytest.mark.parametrize("family", [*tiny.DECODERS, *tiny.ENCODER_DECODERS])
@pytest.mark.parametrize("beams", [1, 2])
def test_generated_text_is_what_transformers_generates(tiny_backbones: Backbones, family: str, beams: int) -> None:
    """Greedy, or with beams, never sampled; one prompt at a time with transformers, all in one batch with ours."""
    kind = "seq2seq-lm" if family in tiny.ENCODER_DECODERS else "causal-lm"
    prompts = ["jump twice", "the quick brown fox jumps over the lazy dog", "Ada"]
    task = prepared(kind, beams=beams, max_new_tokens=6)
    backbone = tiny_backbones[family]
    with adapter(backbone, kind, LORA, task=task) as adapted:
        disturb(adapted, 0.2)
        make_talkative(adapted)
        generator: Any = adapted.module
        features = features_of(adapted, [{next(iter(task.columns)): prompt} for prompt in prompts], "predict")
        expected = []
        for feature in features:
            inputs = {name: torch.tensor([values]) for name, values in feature.inputs.items()}
            ids = generator.generate(**inputs, max_new_tokens=6, num_beams=beams, do_sample=False)[0]
            start = 0 if backbone.is_encoder_decoder else len(feature.inputs["input_ids"])
            expected.append(backbone.tokenizer.decode(ids[start:], skip_special_tokens=True).strip())
        assert all(expected)
        assert adapted.generate(features) == expected
        assert [answer["text"] for answer in adapted.predict(prompts)] == expected


def test_a_kind_that_does_not_generate_says_so(tiny_backbones: Backbones) -> None:
    with (
        adapter(tiny_backbones["bert"], "text-classification") as adapted,
        pytest.raises(TypeError, match="text-classification does not generate text"),
    ):
        adapted.generate([])


@pytest.mark.parametrize("training", [True, False])
def test_answering_leaves_the_mode_as_it_was_even_after_an_error(
    tiny_backbones: Backbones, monkeypatch: pytest.MonkeyPatch, training: bool
) -> None:
    with adapter(tiny_backbones["bert"], "text-classification", LoraMethod(rank=2, dropout=0.5)) as adapted:
        adapted.train(training)
        modes = [(name, module.training) for name, module in adapted.named_modules()]
        answers = [adapted.predict(TEXTS) for _ in range(2)]
        assert answers[0] == answers[1]  # no dropout
        monkeypatch.setattr(type(adapted.task), "outputs", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            adapted.predict(TEXTS)
        assert [(name, module.training) for name, module in adapted.named_modules()] == modes
        assert all(not logits.is_inference() for logits in [adapted(batch_of(adapted).inputs)])


# -- training mode


@pytest.mark.parametrize(
    ("family", "kind", "head"),
    [
        ("bert", "text-classification", HeadSettings(kind="mlp", dropout=0.3)),
        ("distilbert", "question-answering", FAMILY),
        ("llama", "token-classification", HeadSettings(kind="linear", dropout=0.3)),
        ("bart", "text-classification", HeadSettings(kind="attention", dropout=0.3)),
        ("t5", "token-classification", HeadSettings(kind="linear", dropout=0.3)),
    ],
    ids=["bert", "distilbert", "llama", "bart", "t5"],
)
@pytest.mark.parametrize(
    "method",
    [LoraMethod(rank=2, dropout=0.5), BottleneckMethod(dropout=0.5), NoMethod()],
    ids=["lora", "pfeiffer", "none"],
)
def test_training_mode_is_the_heads_and_the_methods_and_never_the_trunks(
    tiny_backbones: Backbones, family: str, kind: str, head: HeadSettings, method: Any
) -> None:
    trunk = tiny_backbones[family].trunk
    of_trunk = {id(module) for module in trunk.modules()}
    with adapter(tiny_backbones[family], kind, method, head) as adapted:
        dropouts = [module for module in adapted.module.modules() if isinstance(module, torch.nn.Dropout)]
        assert adapted.train() is adapted
        assert adapted.training
        assert [module for module in dropouts if module.training == (id(module) in of_trunk)] == []
        assert len([module for module in dropouts if module.training]) >= 1 + 2 * (method.kind != "none")
        assert not any(module.training for module in trunk.modules() if id(module) in of_trunk)
        batch = batch_of(adapted)
        disturb(adapted, 0.2)
        assert not torch.equal(adapted(batch.inputs), adapted(batch.inputs))
        adapted.eval()
        assert not any(module.training for module in adapted.modules())
        assert torch.equal(adapted(batch.inputs), adapted(batch.inputs))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_without_dropout_of_its_own_training_mode_computes_what_evaluation_does(
    tiny_backbones: Backbones, family: str
) -> None:
    head = HeadSettings(kind="linear", pooling="mean")
    with adapter(tiny_backbones[family], "text-classification", LORA, head) as adapted:
        disturb(adapted, 0.2)
        batch = batch_of(adapted)
        expected = adapted(batch.inputs)
        adapted.train()
        assert torch.equal(adapted(batch.inputs), adapted(batch.inputs))
        # Training may use another kernel for the same attention, and so round in another way.
        assert torch.allclose(adapted(batch.inputs), expected, rtol=0, atol=1e-5)


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
        (lambda state: state.update({f"{PREFIX}mystery": torch.zeros(1)}), "mystery: not a part"),
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


def test_two_adapters_at_once_are_refused_and_the_first_still_answers(tiny_backbones: Backbones) -> None:
    with adapter(tiny_backbones["bert"], "text-classification", LORA) as adapted:
        disturb(adapted)
        expected = adapted.predict(TEXTS)
        with pytest.raises(SiteError, match="carries an adapter already"):
            build(tiny_backbones["bert"], prepared("token-classification"), LORA, FAMILY, 0)
        assert adapted.predict(TEXTS) == expected


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
