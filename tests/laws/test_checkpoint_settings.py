"""Law: a file beside the weights either changes no answer, or the checkpoint is refused as another one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from adapterkit.adapted import Adapted
from adapterkit.artifact import load
from adapterkit.backbone import Backbone
from adapterkit.errors import BackboneError, ContractError
from adapterkit.recipe import LoraMethod
from tests.laws.worlds import ROWS, adapter, disturb, write

Change = tuple[str, dict[str, Any]]

GENERATION: dict[str, Change] = {
    "repetition penalty": ("generation_config.json", {"repetition_penalty": 1.7}),
    "suppressed tokens": ("generation_config.json", {"suppress_tokens": list(range(20, 90))}),
    "no repeated pairs": ("generation_config.json", {"no_repeat_ngram_size": 2}),
    "another end token": ("generation_config.json", {"eos_token_id": 7}),
    "how settings were written": ("generation_config.json", {"transformers_version": "4.0", "output_scores": True}),
}
TOKENIZER: dict[str, Change] = {
    "cuts on the left": ("tokenizer_config.json", {"truncation_side": "left"}),
    "pads on the other side": ("tokenizer_config.json", {"padding_side": "left"}),
    "a chat template": (
        "tokenizer_config.json",
        {"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"},
    ),
    "a template in a file of its own": ("chat_template.jinja", {}),
    "spaces cleaned up": ("tokenizer_config.json", {"clean_up_tokenization_spaces": True}),
    "a shorter limit": ("tokenizer_config.json", {"model_max_length": 9}),
    "another unknown token": ("tokenizer_config.json", {"unk_token": "the"}),
    "another special token": ("tokenizer_config.json", {"sep_token": "dog"}),
    "an added token": ("added_tokens.json", {"quick": 40}),
    "a map of special tokens": ("special_tokens_map.json", {"unk_token": "dog", "sep_token": "dog"}),
    "how a tokenizer was written": ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"}),
}
SAME = {"how settings were written", "how a tokenizer was written"}
ONLY_GENERATED = {*GENERATION, "a chat template", "a template in a file of its own"}
REFUSED = {
    "causal-lm": {*GENERATION, *TOKENIZER} - SAME,
    "text-classification": {*TOKENIZER} - SAME - ONLY_GENERATED,
}
"""What is refused, so that a law that refuses everything does not pass."""


def apply(folder: Path, change: Change) -> None:
    name, fields = change
    path = folder / name
    if name.endswith(".jinja"):
        path.write_text("{{ messages }}")
        return
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **fields}))


def answers(adapted: Adapted, kind: str) -> tuple[Any, Any]:
    """What it reads and what it answers."""
    rows = [dict(row) for row in ROWS[kind][:3]]
    long = {**rows[0], "text": " ".join(str(row.get("text", "")) for row in ROWS[kind]) * 3}
    features = adapted.task.encode([*rows, long], adapted.vocabulary, "predict").features
    return [feature.inputs for feature in features], adapted.predict([*rows, long])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_backbones: Mapping[str, Any]) -> dict[str, tuple[Path, Any]]:
    """Kind -> an artifact, and what it answers on its own backbone."""
    found = {}
    for family, kind in (("gpt2", "causal-lm"), ("bert", "text-classification")):
        folder = tmp_path_factory.mktemp(family) / "artifact"
        with adapter(tiny_backbones[family], kind, LoraMethod(rank=2)) as adapted:
            disturb(adapted, size=0.3)
            write(folder, adapted)
            found[kind] = folder, answers(adapted, kind)
    return found


@pytest.mark.parametrize("name", {**GENERATION, **TOKENIZER})
@pytest.mark.parametrize(("family", "kind"), [("gpt2", "causal-lm"), ("bert", "text-classification")])
def test_a_file_beside_the_weights_changes_nothing_or_is_refused(
    family: str,
    kind: str,
    name: str,
    trained: dict[str, tuple[Path, Any]],
    tiny_folders: Mapping[str, Path],
    tmp_path: Path,
) -> None:
    folder = Path(shutil.copytree(tiny_folders[family], tmp_path / "checkpoint"))
    apply(folder, {**GENERATION, **TOKENIZER}[name])
    artifact, expected = trained[kind]
    refused = False
    try:
        with load(artifact, Backbone.load(folder, dtype="float32", device="cpu")) as adapted:
            assert answers(adapted, kind) == expected
    except (BackboneError, ContractError):
        refused = True
    assert refused == (name in REFUSED[kind])
