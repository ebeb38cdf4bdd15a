"""How long an input may be, and how states are pooled."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from adapterkit.backbone.limits import max_tokens, pooling
from adapterkit.errors import BackboneError


class Trunk(nn.Module):
    def __init__(self, padding_idx: int | None) -> None:
        super().__init__()
        self.position_embeddings = nn.Embedding(514, 1, padding_idx=padding_idx)


@pytest.mark.parametrize(
    ("tokenizer", "positions", "padding_idx", "expected"),
    [
        (512, 512, None, 512),
        (256, 512, None, 256),
        (10**30, 512, None, 512),
        (10**30, 514, 1, 512),  # RoBERTa: two of the 514 positions are never used
        (256, 514, 1, 256),
        (10**30, None, None, None),
        (512, -1, None, 512),
        (None, 512, None, 512),
        ("much", 512, None, 512),
        (0, 512, None, 512),
    ],
)
def test_the_smallest_limit_binds(
    tokenizer: int | str | None, positions: int | None, padding_idx: int | None, expected: int | None
) -> None:
    found = max_tokens(
        Trunk(padding_idx),
        SimpleNamespace(model_max_length=tokenizer),
        SimpleNamespace(max_position_embeddings=positions),
    )
    assert found == expected


def sentence_transformers(folder: Path, settings: dict[str, Any], path: str = "1_Pooling") -> Path:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    modules = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": path, "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "first"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "cls"}, "first"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "mean"),  # joined: none of ours
        ({"pooling_mode_max_tokens": True}, "mean"),
        ({}, "mean"),
    ],
)
def test_pooling_is_what_the_checkpoint_says(tmp_path: Path, settings: dict[str, Any], expected: str) -> None:
    assert pooling(sentence_transformers(tmp_path, settings), causal=False) == expected


def test_pooling_goes_by_family_where_nothing_is_said(tmp_path: Path) -> None:
    assert pooling(tmp_path, causal=True) == "last"
    assert pooling(tmp_path, causal=False) == "mean"
    (tmp_path / "modules.json").write_text('{"not": "a list"}')
    assert pooling(tmp_path, causal=False) == "mean"


def test_a_pooling_file_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "config.json").write_text('{"pooling_mode": "cls"}')
    assert pooling(sentence_transformers(inner, {}, path=".."), causal=False) == "mean"


def test_a_damaged_modules_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[")
    with pytest.raises(BackboneError, match=r"modules\.json"):
        pooling(tmp_path, causal=False)
