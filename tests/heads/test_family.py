"""Family heads against transformers' own classes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from adapterkit.adapted import PREFIX
from adapterkit.artifact import load
from adapterkit.backbone import Backbone
from adapterkit.errors import HeadError
from adapterkit.heads import build_head
from adapterkit.recipe import HeadSettings, LoraMethod
from tests import tiny
from tests.heads.references import answer, of_tokens, reference
from tests.laws.cases import KINDS
from tests.laws.worlds import adapter, batch_of, disturb, logits_of, prepared, write
from tests.methods.cases import bits
from tests.tasks.conftest import ROWS

Backbones = Mapping[str, Any]
FAMILY = HeadSettings(kind="family")

SAME_LENGTH = {
    # transformers lets padding and absent choices take part in these two losses; without any, there is one truth.
    "question-answering": ROWS["question-answering"][:1],
    "multiple-choice": [row for row in ROWS["multiple-choice"] if len(row["choices"]) == 3],
}
BOTH = [
    (kind, family) for kind, row in KINDS.items() for family in row.families if family not in row.own_only
]  # what transformers and adapterkit can both do

pytestmark = pytest.mark.filterwarnings("ignore:Some weights")


def rows_of(kind: str) -> list[dict[str, Any]]:
    return SAME_LENGTH.get(kind, ROWS[kind])


def trunk_bits(backbone: Backbone) -> dict[str, bytes]:
    return {name: bits(tensor) for name, tensor in backbone.trunk.state_dict().items()}


@pytest.mark.parametrize(("kind", "family"), BOTH)
def test_logits_and_loss_are_those_of_transformers(tiny_backbones: Backbones, kind: str, family: str) -> None:
    with adapter(tiny_backbones[family], kind, head=FAMILY) as adapted:
        disturb(adapted)
        batch = batch_of(adapted, rows_of(kind))
        logits = logits_of(adapted, batch)
        loss = adapted.task.loss(logits, batch)
        expected_logits, expected_loss = answer(reference(adapted), kind, batch)
    assert torch.allclose(of_tokens(logits, batch), of_tokens(expected_logits, batch), rtol=0, atol=1e-5)
    assert torch.allclose(loss.total / loss.weight, expected_loss, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize(
    ("problem", "labels"),
    [("multi-label", [["a"], ["a", "b"], []]), ("regression", [0.5, -1.0, 2.0])],
)
def test_other_problems_have_the_loss_of_transformers(
    tiny_backbones: Backbones, family: str, problem: str, labels: list[Any]
) -> None:
    texts = [row["text"] for row in ROWS["text-classification"]]
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    task = prepared("text-classification", rows, problem=problem)
    with adapter(tiny_backbones[family], "text-classification", head=FAMILY, task=task) as adapted:
        batch = batch_of(adapted, rows)
        logits = logits_of(adapted, batch)
        loss = task.loss(logits, batch)
        expected_logits, expected_loss = answer(reference(adapted), task.kind, batch)
    assert torch.allclose(of_tokens(logits, batch), of_tokens(expected_logits, batch), rtol=0, atol=1e-5)
    assert torch.allclose(loss.total / loss.weight, expected_loss, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "family"), BOTH)
def test_building_a_head_changes_no_bit_of_the_trunk(
    fresh_backbone: Callable[..., Backbone], kind: str, family: str
) -> None:
    """Initialising a projection that is tied to the embedding must not initialise the embedding."""
    backbone = fresh_backbone(family)
    before = trunk_bits(backbone)
    modules = [id(module) for module in backbone.trunk.modules()]
    chance = torch.random.get_rng_state()
    build_head(backbone, kind, prepared(kind).classes, FAMILY, seed=1)
    assert trunk_bits(backbone) == before
    assert [id(module) for module in backbone.trunk.modules()] == modules
    assert not any(parameter.requires_grad for parameter in backbone.trunk.parameters())
    assert torch.equal(torch.random.get_rng_state(), chance)


@pytest.mark.parametrize(("kind", "family"), BOTH)
def test_the_same_seed_gives_the_same_head_and_another_seed_another(
    tiny_backbones: Backbones, kind: str, family: str
) -> None:
    classes = prepared(kind).classes
    heads = [build_head(tiny_backbones[family], kind, classes, FAMILY, seed=seed) for seed in (0, 0, 1)]
    first, again, other = ({name: bits(tensor) for name, tensor in head.trained.items()} for head in heads)
    assert first == again
    # A head without a weight of its own is borrowed; biases start at zero whatever the seed, and ModernBERT's
    # classes go on from the checkpoint's own prediction head.
    drawn = [name for name, tensor in heads[0].trained.items() if tensor.dim() > 1 and name not in heads[0].loaded]
    assert [name for name in drawn if first[name] == other[name]] == []
    assert bool(drawn) == (kind not in ("masked-lm", "causal-lm", "seq2seq-lm"))


# -- language models


LANGUAGE_MODELS = [(kind, family) for kind, family in BOTH if kind in ("masked-lm", "causal-lm", "seq2seq-lm")]


@pytest.mark.parametrize(("kind", "family"), LANGUAGE_MODELS)
def test_a_language_models_head_is_borrowed_frozen_and_never_saved(
    tiny_backbones: Backbones, kind: str, family: str
) -> None:
    with adapter(tiny_backbones[family], kind, LoraMethod(rank=2)) as adapted:
        assert adapted.head_parameters() == {}
        assert not any(
            adapted.module.get_parameter(name).requires_grad for name in adapted.headed.loaded if "." in name
        )
        assert all(".lora_" in name for name in adapted.state())


def forget(backbone_folder: Path, folder: Path, words: tuple[str, ...]) -> Path:
    """A copy of a checkpoint without the tensors whose name holds one of the words."""
    folder.mkdir()
    for file in backbone_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not any(word in name for word in words)}
    assert len(kept) < len(tensors)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_checkpoint_without_a_language_models_head_gets_one_that_is_trained_and_saved(
    fresh_backbone: Callable[..., Backbone], tmp_path: Path
) -> None:
    backbone = fresh_backbone("bert-plain")
    with adapter(backbone, "masked-lm", LoraMethod(rank=2)) as adapted:
        embedding = adapted.backbone.trunk.get_input_embeddings().weight
        transform = "cls.predictions.transform"
        assert set(adapted.head_parameters()) == {
            f"{transform}.dense.weight",
            f"{transform}.dense.bias",
            f"{transform}.LayerNorm.weight",
            f"{transform}.LayerNorm.bias",
            "cls.predictions.bias",
        }
        assert adapted.module.get_output_embeddings().weight is embedding  # type: ignore[operator]
        assert not embedding.requires_grad
        disturb(adapted)
        write(tmp_path / "out", adapted)
        expected = logits_of(adapted)
        assert {name for name in adapted.state() if ".lora_" not in name} == {
            PREFIX + name for name in adapted.head_parameters()
        }
    with load(tmp_path / "out", backbone) as adapted:
        assert torch.equal(logits_of(adapted), expected)


@pytest.mark.parametrize(
    ("family", "words", "bias"),
    [
        ("distilbert", ("vocab_",), "vocab_projector.bias"),
        ("modernbert", ("head.", "decoder."), "decoder.bias"),
        ("roberta", ("lm_head.",), "lm_head.bias"),
    ],
)
def test_a_tied_projection_with_a_bias_trains_its_bias_and_leaves_the_embedding_alone(
    tiny_folders: Mapping[str, Path], tmp_path: Path, family: str, words: tuple[str, ...], bias: str
) -> None:
    folder = forget(tiny_folders[family], tmp_path / "bare", words)
    backbone = Backbone.load(str(folder), dtype="float32", device="cpu")
    before = trunk_bits(backbone)
    with adapter(backbone, "masked-lm", LoraMethod(rank=2)) as adapted:
        trained = adapted.head_parameters()
        assert bias in trained
        embedding = adapted.backbone.trunk.get_input_embeddings().weight
        assert adapted.module.get_output_embeddings().weight is embedding  # type: ignore[operator]
        assert all(parameter is not embedding for parameter in trained.values())
        batch = batch_of(adapted)
        adapted.task.loss(adapted(batch.inputs), batch).total.backward()
        assert embedding.grad is None
        assert all(parameter.grad is not None for parameter in trained.values())
        assert not any(name.endswith(("decoder.weight", "vocab_projector.weight")) for name in adapted.state())
    assert trunk_bits(backbone) == before


# -- poolers


def test_a_pooler_of_the_checkpoint_belongs_to_the_trunk(tiny_backbones: Backbones) -> None:
    with adapter(tiny_backbones["bert"], "text-classification") as adapted:
        assert set(adapted.head_parameters()) == {"classifier.weight", "classifier.bias"}
        assert adapted.module.bert.pooler is adapted.backbone.trunk.pooler  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["text-classification", "multiple-choice"])
def test_a_pooler_that_the_checkpoint_lacks_is_trained_and_saved_with_the_head(
    tiny_backbones: Backbones, tmp_path: Path, kind: str
) -> None:
    backbone = tiny_backbones["bert-without-pooler"]
    poolers = []
    for seed in (0, 1):
        with adapter(backbone, kind, LoraMethod(rank=2), seed=seed) as adapted:
            pooler = adapted.module.bert.pooler  # type: ignore[union-attr]
            assert pooler is not adapted.backbone.trunk.pooler
            assert {"bert.pooler.dense.weight", "bert.pooler.dense.bias"} <= set(adapted.head_parameters())
            disturb(adapted, seed=seed)
            write(tmp_path / str(seed), adapted, seed=seed)
            poolers.append((pooler.dense.weight, logits_of(adapted)))
    assert poolers[0][0] is not poolers[1][0]
    for seed, (_, expected) in enumerate(poolers):
        with load(tmp_path / str(seed), backbone) as adapted:
            assert torch.equal(logits_of(adapted), expected)


@pytest.mark.parametrize("kind", ["token-classification", "question-answering"])
def test_classes_for_tokens_have_no_pooler(tiny_backbones: Backbones, kind: str) -> None:
    for family in ("bert", "bert-without-pooler", "roberta"):
        with adapter(tiny_backbones[family], kind) as adapted:
            assert not any("pooler" in name for name, _ in adapted.module.named_modules())
            assert getattr(tiny_backbones[family].trunk, "pooler", None) is not None


# -- the rest


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_an_adapter_has_its_own_number_of_labels_whatever_the_config_says(
    tiny_backbones: Backbones, classes: int
) -> None:
    backbone = tiny_backbones["bert"]
    config = copy.deepcopy(backbone.config.to_dict())
    headed = build_head(backbone, "text-classification", classes, FAMILY, seed=0)
    assert headed.trained["classifier.weight"].shape == (classes, 32)
    assert backbone.config.to_dict() == config


def test_a_kind_that_the_family_lacks_is_refused_with_a_way_out(tiny_backbones: Backbones) -> None:
    with pytest.raises(HeadError) as caught:
        build_head(tiny_backbones["llama"], "multiple-choice", 1, FAMILY, seed=0)
    assert str(caught.value) == (
        "transformers has no multiple-choice class for llama\nUse head.kind=linear, or another backbone."
    )
    for family, kind in (("gpt2", "masked-lm"), ("bert", "causal-lm"), ("bert", "seq2seq-lm"), ("bart", "masked-lm")):
        with pytest.raises(HeadError) as caught:
            build_head(tiny_backbones[family], kind, 0, HeadSettings(), seed=0)
        assert str(caught.value).startswith(f"transformers has no {kind} class for {family}\n")


OTHERS = [
    *(("mistral", "causal-lm"), ("t5-gated", "seq2seq-lm"), ("mpnet", "token-classification"), ("mpnet", "masked-lm")),
    *(("deberta", "text-classification"), ("deberta-v2", "question-answering"), ("deberta-v2", "masked-lm")),
    *(("electra", "text-classification"), ("electra", "masked-lm"), ("electra", "multiple-choice")),
    *(("bloom", "causal-lm"), ("falcon", "token-classification"), ("gpt-j", "question-answering")),
    *(("gpt-neox", "text-classification"), ("gemma-2", "causal-lm"), ("deepseek", "causal-lm")),
]


@pytest.mark.parametrize(("family", "kind"), OTHERS)
def test_other_checkpoints_have_parity_too(tiny_backbones: Backbones, family: str, kind: str) -> None:
    with adapter(tiny_backbones[family], kind) as adapted:
        batch = batch_of(adapted, rows_of(kind))
        logits = logits_of(adapted, batch)
        loss = adapted.task.loss(logits, batch)
        expected_logits, expected_loss = answer(reference(adapted), kind, batch)
    assert torch.allclose(of_tokens(logits, batch), of_tokens(expected_logits, batch), rtol=0, atol=1e-5)
    assert torch.allclose(loss.total / loss.weight, expected_loss, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("classes", "goes_on"), [(3, True), (5, False)])
def test_a_head_goes_on_from_the_checkpoints_own_where_the_sizes_agree(
    tiny_folders: Mapping[str, Path], tmp_path: Path, classes: int, goes_on: bool
) -> None:
    """A backbone that was fine-tuned whole before: its classifier is a start, never a part of the backbone."""
    torch.manual_seed(0)
    tuned = transformers.BertForSequenceClassification.from_pretrained(tiny_folders["bert"], num_labels=3)
    tuned.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(tiny_folders["bert"]).save_pretrained(tmp_path)
    backbone = Backbone.load(str(tmp_path), dtype="float32", device="cpu")
    headed = build_head(backbone, "text-classification", classes, FAMILY, seed=0)
    weight = headed.trained["classifier.weight"]
    assert weight.shape == (classes, 32)
    assert weight.requires_grad
    assert ("classifier.weight" in headed.loaded) == goes_on
    assert (goes_on and torch.equal(weight, tuned.classifier.weight)) == goes_on


def test_building_a_head_is_silent(tiny_backbones: Backbones, caplog: pytest.LogCaptureFixture) -> None:
    for kind in ("masked-lm", "text-classification", "question-answering"):
        build_head(tiny_backbones["distilbert"], kind, prepared(kind).classes, FAMILY, seed=0)
    assert caplog.records == []


def test_a_config_without_a_pad_token_gets_the_tokenizers(fresh_backbone: Callable[..., Backbone]) -> None:
    backbone = fresh_backbone("bert")
    backbone.config.pad_token_id = None
    headed = build_head(backbone, "text-classification", 2, FAMILY, seed=0)
    assert headed.module.config.pad_token_id == backbone.tokenizer.pad_token_id  # type: ignore[union-attr]
    assert backbone.config.pad_token_id is None


@pytest.mark.parametrize(("kind", "family"), [("masked-lm", "roberta"), ("text-classification", "modernbert")])
def test_the_checkpoint_is_read_once_and_what_trains_is_nobody_elses(
    tiny_folders: Mapping[str, Path], kind: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = Backbone.load(tiny_folders[family], dtype="float32", device="cpu")
    loads = []
    plain = transformers.PreTrainedModel.from_pretrained.__func__  # type: ignore[attr-defined]

    def noting(cls: Any, *given: Any, **named: Any) -> Any:
        loads.append(cls)
        return plain(cls, *given, **named)

    monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", classmethod(noting))
    classes = prepared(kind).classes
    first, second = (build_head(backbone, kind, classes, FAMILY, seed=0) for _ in range(2))
    assert len(loads) == 1
    assert first.loaded == second.loaded
    assert first.loaded
    one, two = dict(first.module.named_parameters()), dict(second.module.named_parameters())
    assert all(torch.equal(one[name], two[name]) for name in first.loaded)
    shared = [name for name in first.loaded if one[name].data_ptr() == two[name].data_ptr()]
    # A language model's head is everybody's and never trains; any other begins from a copy.
    assert bool(shared) == (kind == "masked-lm")
    assert {one[name].requires_grad for name in first.loaded} == {kind != "masked-lm"}
