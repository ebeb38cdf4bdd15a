"""Law 7 over generation configs as checkpoints ship them: a row's text is the one that transformers gives it alone."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, GenerationConfig

from adapterkit import Backbone, Host
from adapterkit.backbone import generation_rules
from adapterkit.errors import BackboneError
from adapterkit.host.engine.heads import Templates
from adapterkit.recipe import HeadSettings, LoraMethod
from tests import tiny
from tests.laws.worlds import adapter, disturb, prepared, write

PROMPTS = ["Ada", "the quick brown fox jumps over the lazy dog", "we walk , we walk , we walk", "jump"]
LIMITS = [4, 9, 6, 2]
CONFIGS: dict[str, dict[str, Any]] = {
    "BART's": {"forced_eos_token_id": "eos", "forced_bos_token_id": "bos", "no_repeat_ngram_size": 3, "min_length": 6},
    "a least length": {"min_length": 12},
    "a least answer": {"min_new_tokens": 3},
    "no repeats": {"repetition_penalty": 1.8, "no_repeat_ngram_size": 2},
    "nothing of the text": {"encoder_repetition_penalty": 1.7, "encoder_no_repeat_ngram_size": 2},
    "no such tokens": {
        "suppress_tokens": [5, 6, 7],
        "begin_suppress_tokens": "first",
        "bad_words_ids": [[11], [12, 13]],
    },
    "rather these": {"sequence_bias": [[[20], 2.5], [[21, 22], -4.0]], "renormalize_logits": True},
    "short": {"exponential_decay_length_penalty": [1, 1.5], "remove_invalid_values": True},
    "sampling by default": {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20, "num_beams": 4},
}
"""What checkpoints ask for -> their fields; words stand for tokens."""


def backbone_with(source: Path, folder: Path, fields: Mapping[str, Any]) -> Backbone:
    """A tiny backbone whose checkpoint ships these fields."""
    shutil.copytree(source, folder)
    tokens = {"eos": AutoTokenizer.from_pretrained(folder).eos_token_id, "bos": 30, "first": [9, 10]}
    asked = {name: tokens.get(value, value) if isinstance(value, str) else value for name, value in fields.items()}
    path = folder / "generation_config.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**kept, **asked}))
    return Backbone.load(folder, dtype="float32", device="cpu")


def alone(adapted: Any, prompt: str, limit: int, beams: int) -> str:
    """The text of transformers' own generate for one prompt, with the checkpoint's own config."""
    task, tokenizer = adapted.task, adapted.backbone.tokenizer
    (feature,) = task.encode([{next(iter(task.columns)): prompt}], adapted.vocabulary, "predict").features
    inputs = {name: torch.tensor([ids]) for name, ids in feature.inputs.items()}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a least length beyond the limit
        ids = adapted.module.generate(**inputs, max_new_tokens=limit, do_sample=False, num_beams=beams)[0].tolist()
    start = 1 if adapted.backbone.is_encoder_decoder else len(feature.inputs["input_ids"])
    return str(tokenizer.decode(ids[start:], skip_special_tokens=True)).strip()


@pytest.mark.parametrize(
    ("family", "name"), [*product(["llama", "bart"], CONFIGS), *product(["gpt2", "t5"], ["BART's", "no repeats"])]
)
def test_a_row_s_text_is_the_one_that_transformers_gives_it_alone(
    tiny_folders: Mapping[str, Path], tmp_path: Path, family: str, name: str
) -> None:
    backbone = backbone_with(tiny_folders[family], tmp_path / family, CONFIGS[name])
    kind = "seq2seq-lm" if family in tiny.ENCODER_DECODERS else "causal-lm"
    beams = 3 if name in ("BART's", "short") else 1
    task = prepared(kind, beams=beams)
    with adapter(backbone, kind, LoraMethod(sites="all-linear", rank=4), task=task) as adapted:
        disturb(adapted, 0.3)
        write(tmp_path / "adapter", adapted, dtype="float32")
        expected = [alone(adapted, prompt, limit, beams) for prompt, limit in zip(PROMPTS, LIMITS, strict=True)]
        rows = [{next(iter(task.columns)): prompt} for prompt in PROMPTS]
        together = [answer["text"] for answer in adapted.predict(rows)]
        assert together == [alone(adapted, prompt, 8, beams) for prompt in PROMPTS]
    with Host(backbone) as host:
        host.mount("it", tmp_path / "adapter")
        asked = [("it", prompt) for prompt in PROMPTS]
        assert host.generate(asked, max_new_tokens=LIMITS) == expected
    assert len(set(expected)) > 1


def test_beams_that_never_stop_early_do_not_look_at_their_neighbours_limits(
    tiny_folders: Mapping[str, Path], tmp_path: Path
) -> None:
    fields = {"early_stopping": "never", "length_penalty": 2.0}
    backbone = backbone_with(tiny_folders["llama"], tmp_path / "llama", fields)
    with adapter(backbone, "causal-lm", LoraMethod(sites="all-linear", rank=4)) as adapted:
        disturb(adapted, 0.3)
        write(tmp_path / "adapter", adapted, dtype="float32")
        expected = [alone(adapted, prompt, limit, 3) for prompt, limit in zip(PROMPTS, LIMITS, strict=True)]
    with Host(backbone) as host:
        host.mount("it", tmp_path / "adapter")
        asked = [("it", prompt) for prompt in PROMPTS]
        assert host.generate(asked, max_new_tokens=LIMITS, num_beams=3) == expected


def test_what_cannot_be_had_row_by_row_is_refused_by_name(tiny_folders: Mapping[str, Path], tmp_path: Path) -> None:
    fields = {"num_return_sequences": 3, "guidance_scale": 1.5, "num_beams": 3, "max_time": 2.0}
    backbone = backbone_with(tiny_folders["llama"], tmp_path / "llama", fields)
    refused = [
        "num_return_sequences: found 3, expected null",
        "guidance_scale: found 1.5, expected null",
        "max_time: found 2.0, expected null",
    ]
    with pytest.raises(BackboneError, match="every row by itself") as caught, adapter(backbone, "causal-lm"):
        pass
    assert list(caught.value.problems) == refused
    # A host builds its heads itself.
    with pytest.raises(BackboneError, match="every row by itself") as caught:
        Templates(backbone).get("causal-lm", 0, HeadSettings(kind="family"))
    assert list(caught.value.problems) == refused
    with adapter(backbone, "text-classification"):
        pass  # what does not generate does not ask


def test_a_config_that_transformers_refuses_is_named(tiny_folders: Mapping[str, Path], tmp_path: Path) -> None:
    backbone = backbone_with(tiny_folders["llama"], tmp_path / "llama", {"max_new_tokens": -1})
    with pytest.raises(BackboneError, match="cannot be read"), adapter(backbone, "causal-lm"):
        pass


CALLERS = (
    *("max_length", "max_new_tokens", "num_beams", "do_sample", "temperature", "top_k", "top_p", "min_p", "top_h"),
    *("typical_p", "epsilon_cutoff", "eta_cutoff", "stop_strings"),
)
"""Fields that the task or the caller says: lengths, beams and sampling; stops are found by `stops_of`."""

UNHEARD = (
    *("cache_implementation", "cache_config", "max_cache_len", "compile_config", "disable_compile", "low_memory"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
    *("is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold"),
    *("max_matching_ngram_size", "assistant_lookbehind", "target_lookbehind", "assistant_ensemble_weight"),
    *("prefill_chunk_size", "continuous_batching_config", "transformers_version"),
)
"""Fields that say how something is computed or handed out, and not what."""


def test_every_field_of_transformers_generation_config_is_known() -> None:
    known = {
        *generation_rules.RULES,
        *generation_rules.SHARED,
        *generation_rules.OF_BEAMS,
        *generation_rules.REFUSED,
        *CALLERS,
        *UNHEARD,
    }
    fields = {name for name in vars(GenerationConfig()) if not name.startswith("_")}
    assert fields == known
