"""Trunks without padding equal the padded ones of transformers, for every family, whatever the lengths."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapterkit.backbone.attention import use_own_attention
from adapterkit.backbone.packed_rows import PackedLayout, runs_of
from adapterkit.backbone.unpadded import POSITIONS, find_reading_layers, unpadded_view
from tests import tiny
from tests.backbone.test_recognise import model

TOLERANCE = 1e-5
"""Rows are summed in another order."""

MODELS = (*tiny.FAMILIES, "mistral")
LENGTHS = [40, 3, 17, 17, 1, 20]


def batch(backbone: Any, lengths: list[int], seed: int = 0) -> dict[str, Tensor]:
    """Random tokens, padded on the right; the pad token also stands among the tokens."""
    generator = torch.Generator().manual_seed(seed)
    tokens = max(lengths)
    ids = torch.randint(0, backbone.config.vocab_size, (len(lengths), tokens), generator=generator)
    mask = (torch.arange(tokens) < torch.tensor(lengths)[:, None]).long()
    inputs = {"input_ids": ids.masked_fill(mask == 0, backbone.tokenizer.pad_token_id), "attention_mask": mask}
    if "token_type_ids" in backbone.tokenizer.model_input_names:
        inputs["token_type_ids"] = torch.randint(0, 2, ids.shape, generator=generator) * mask
    if backbone.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.randint(3, 50, (len(lengths), 5), generator=generator)
    return inputs


def layout_of(inputs: Mapping[str, Tensor], spare: int) -> PackedLayout:
    runs = runs_of(inputs)
    assert runs is not None
    rows, tokens = inputs["input_ids"].shape
    return PackedLayout.of(runs, (rows, tokens), torch.device("cpu"), spare)


def states(output: Any) -> Tensor:
    """The states of the stack that reads the text."""
    encoder: Tensor | None = getattr(output, "encoder_last_hidden_state", None)
    return output.last_hidden_state if encoder is None else encoder


def as_transformers(folder: Any) -> Any:
    return transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()


def without_padding(model: Any, inputs: Mapping[str, Tensor], spare: int) -> Any:
    stack = find_reading_layers(model)
    assert stack is not None
    return unpadded_view(model, stack, layout_of(inputs, spare))(**inputs)


@pytest.mark.parametrize("spare", [0, 16, 10_000], ids=["no padding", "some", "one group"])
@pytest.mark.parametrize("family", MODELS)
def test_states_equal_those_of_transformers_padded_batch(
    tiny_backbones: Mapping[str, Any], tiny_folders: Mapping[str, Any], family: str, spare: int
) -> None:
    backbone = tiny_backbones[family]
    inputs = batch(backbone, LENGTHS)
    with torch.no_grad():
        expected = as_transformers(tiny_folders[family])(**inputs)
        found = without_padding(backbone.trunk, inputs, spare)
    there = inputs["attention_mask"][..., None]
    assert torch.allclose(states(found) * there, states(expected) * there, rtol=0, atol=TOLERANCE)
    assert not (states(found) * (1 - there)).any()
    if backbone.is_encoder_decoder:
        assert torch.allclose(found.last_hidden_state, expected.last_hidden_state, rtol=0, atol=TOLERANCE)
    if "pooler_output" in expected and not any(name.startswith("pooler") for name in backbone.uninitialized):
        assert torch.allclose(found.pooler_output, expected.pooler_output, rtol=0, atol=TOLERANCE)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 48), min_size=1, max_size=7),
    spare=st.integers(0, 40),
    family=st.sampled_from(["bert", "roberta", "modernbert", "llama", "t5", "bart"]),
)
def test_any_lengths_in_any_groups(
    tiny_backbones: Mapping[str, Any], lengths: list[int], spare: int, family: str
) -> None:
    backbone = tiny_backbones[family]
    inputs = batch(backbone, lengths)
    with torch.no_grad():
        expected = states(backbone.trunk(**inputs))
        found = states(without_padding(backbone.trunk, inputs, spare))
    there = inputs["attention_mask"][..., None]
    assert torch.allclose(found * there, expected * there, rtol=0, atol=TOLERANCE)


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=9), spare=st.integers(0, 50))
def test_a_layout_holds_every_token_once_and_spares_little(lengths: list[int], spare: int) -> None:
    tokens = 30
    ids = torch.arange(len(lengths) * tokens).view(len(lengths), tokens)
    mask = (torch.arange(tokens) < torch.tensor(lengths)[:, None]).long()
    if not mask.any():
        return
    layout = layout_of({"input_ids": ids, "attention_mask": mask}, spare)
    packed = layout.packed(ids)
    assert torch.equal(layout.padded(packed), ids * mask)
    groups = layout.rows.groups
    places = sum(group.rows * group.tokens for group in groups)
    assert packed.shape == (1, places)
    assert sum(lengths) <= places <= sum(lengths) + spare * len(groups)
    assert torch.equal(layout.padded(layout.positions), torch.arange(tokens).expand_as(mask) * mask)
    assert layout.longest == max(lengths)


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama", "t5"])
def test_gradients_equal_those_of_the_padded_batch(tiny_backbones: Mapping[str, Any], family: str) -> None:
    backbone = tiny_backbones[family]
    inputs = batch(backbone, LENGTHS)
    gradients = []
    for leave_out in (False, True):
        embedding = backbone.trunk.get_input_embeddings()
        weight = embedding.weight
        handle = embedding.register_forward_hook(lambda module, args, output: output.requires_grad_())
        weight.requires_grad_(True)
        try:
            output = without_padding(backbone.trunk, inputs, 8) if leave_out else backbone.trunk(**inputs)
            there = inputs["attention_mask"][..., None]
            (states(output) * there).square().sum().backward()
            gradients.append(weight.grad.clone())
        finally:
            handle.remove()
            weight.grad = None
            weight.requires_grad_(False)
    scale = gradients[0].abs().max()
    assert torch.allclose(gradients[1] / scale, gradients[0] / scale, rtol=0, atol=TOLERANCE)


def test_documents_that_share_a_row_do_not_see_each_other(tiny_backbones: Mapping[str, Any]) -> None:
    for family in ("gpt2", "llama", "qwen2", "mistral"):
        backbone = tiny_backbones[family]
        documents = [batch(backbone, [length], seed=length)["input_ids"] for length in (5, 1, 9)]
        inputs = {
            "input_ids": torch.cat(documents, 1),
            "attention_mask": torch.ones(1, 15, dtype=torch.long),
            "position_ids": torch.tensor([[*range(5), 0, *range(9)]]),
        }
        with torch.no_grad():
            expected = torch.cat([backbone.trunk(input_ids=ids).last_hidden_state for ids in documents], 1)
            found = without_padding(backbone.trunk, inputs, 4).last_hidden_state
        assert torch.allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_padding_on_the_left_has_no_layout() -> None:
    assert runs_of({"attention_mask": torch.tensor([[0, 1, 1], [1, 1, 1]])}) is None
    assert runs_of({"attention_mask": torch.tensor([[1, 0, 0], [1, 1, 1]])}) == [(0, 1), (3, 3)]


def test_which_families_leave_padding_out_is_what_the_page_says(tiny_backbones: Mapping[str, Any]) -> None:
    found = {family: find_reading_layers(backbone.trunk) for family, backbone in tiny_backbones.items()}
    assert {family: stack and stack.positions for family, stack in found.items()} == {
        "bert": "counted",
        "roberta": "by token",
        "distilbert": "counted",
        "modernbert": "counted",
        "gpt2": "counted",
        "llama": "counted",
        "qwen2": "counted",
        "t5": "relative",
        "bart": "embedded",
    }
    page = (tiny.__file__.rsplit("/tests/", 1)[0]) + "/docs/concepts/padding.md"
    with open(page, encoding="utf-8") as text:
        listed = text.read()
    assert [name for name in POSITIONS if f"`{name}`" not in listed] == []
    there = {type(part).__name__ for backbone in tiny_backbones.values() for part in backbone.trunk.modules()}
    assert POSITIONS.keys() <= there | RELATIVES.keys() | {"MistralModel"}


def test_another_attention_and_another_family_stay_padded(tiny_folders: Mapping[str, Any]) -> None:
    assert find_reading_layers(as_transformers(tiny_folders["bert"])) is None
    ernie = model("ErnieConfig", {})
    use_own_attention(ernie)
    assert find_reading_layers(ernie) is None
    gemma = model("Gemma3TextConfig", {**_GROUPED, "head_dim": 8, "use_bidirectional_attention": True})
    use_own_attention(gemma)
    assert find_reading_layers(gemma) is None


_GROUPED = {"num_key_value_heads": 2, "pad_token_id": 0}
_SLIDING = {**_GROUPED, "head_dim": 8, "sliding_window": 8}
_BART = {"decoder_layers": 2, "pad_token_id": 1}
_T5 = {"d_kv": 8, "feed_forward_proj": "gated-gelu"}
RELATIVES: dict[str, tuple[str, dict[str, Any]]] = {
    "ElectraModel": ("ElectraConfig", {"embedding_size": 16}),
    "EuroBertModel": ("EuroBertConfig", _GROUPED),
    "XLMRobertaModel": ("XLMRobertaConfig", {"pad_token_id": 1}),
    "CamembertModel": ("CamembertConfig", {"pad_token_id": 1}),
    "GPTNeoXModel": ("GPTNeoXConfig", {}),
    "OPTDecoder": ("OPTConfig", {"word_embed_proj_dim": 16}),
    "PhiModel": ("PhiConfig", {"pad_token_id": 0}),
    "Phi3Model": ("Phi3Config", {**_GROUPED, "sliding_window": 8}),
    "Starcoder2Model": ("Starcoder2Config", {"num_key_value_heads": 2, "sliding_window": 8}),
    "ModernBertDecoderModel": (
        "ModernBertDecoderConfig",
        {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 1, "local_attention": 16},
    ),
    "Qwen3Model": ("Qwen3Config", {**_SLIDING, "use_sliding_window": True, "max_window_layers": 1}),
    "GemmaModel": ("GemmaConfig", {**_GROUPED, "head_dim": 8}),
    "Gemma3TextModel": ("Gemma3TextConfig", {**_SLIDING, "layer_types": ["sliding_attention", "full_attention"]}),
    "GraniteModel": ("GraniteConfig", {**_GROUPED, "residual_multiplier": 0.5, "attention_multiplier": 0.3}),
    "OlmoModel": ("OlmoConfig", _GROUPED),
    "Olmo2Model": ("Olmo2Config", _GROUPED),
    "SmolLM3Model": ("SmolLM3Config", _GROUPED),
    "MBartEncoder": ("MBartConfig", _BART),
    "MT5Stack": ("MT5Config", _T5),
}
"""Other classes that leave padding out: config and settings of a small model."""


@pytest.mark.parametrize("name", RELATIVES)
def test_relatives_leave_padding_out_too(name: str) -> None:
    plain, own = model(*RELATIVES[name]), model(*RELATIVES[name])
    plain.set_attn_implementation("eager")
    use_own_attention(own)
    stack = find_reading_layers(own)
    assert stack is not None
    assert type(own.get_submodule(stack.path)).__name__ == name
    pad = plain.config.pad_token_id or 0
    mask = (torch.arange(40) < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(3, 50, mask.shape, generator=torch.Generator().manual_seed(0)).masked_fill(mask == 0, pad)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if plain.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[:, :5]
    with torch.no_grad():
        expected = states(plain(**inputs))
        for spare in (0, 16, 10_000):
            found = states(without_padding(own, inputs, spare))
            assert torch.allclose(found * mask[..., None], expected * mask[..., None], rtol=0, atol=TOLERANCE)


def test_threads_run_batches_of_their_own_on_one_trunk(tiny_backbones: Mapping[str, Any]) -> None:
    backbone = tiny_backbones["bert"]
    batches = [batch(backbone, [7 + number, 20, 3], seed=number) for number in range(4)]
    with torch.no_grad():
        expected = [states(backbone.trunk(**inputs)) for inputs in batches]
    wrong: list[int] = []

    def work(number: int) -> None:
        there = batches[number]["attention_mask"][..., None]
        with torch.no_grad():
            for _ in range(5):
                found = states(without_padding(backbone.trunk, batches[number], 4))
                if not torch.allclose(found * there, expected[number] * there, rtol=0, atol=TOLERANCE):
                    wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert "forward" not in backbone.trunk.__dict__
