"""Where an answer ends: texts before stops, of ordinary and of special tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from adapterkit.tasks.continuing import StopsByRow, text_before


@pytest.fixture
def tokenizer(tiny_backbones: Mapping[str, Any]) -> Any:
    return tiny_backbones["qwen2"].tokenizer


@pytest.mark.parametrize(
    ("text", "stops", "left"),
    [
        ("one. two; three", [";", "."], "one"),
        ("one two", ["."], "one two"),
        ("in London<|im_end|>\n<|im_start|>user", ["<|im_end|>"], "in London"),
        ("in<|im_start|> London<|im_end|>", ["<|im_end|>"], "in London"),  # special tokens before it are not shown
        ("\n\nThe fox", ["\n\n"], ""),  # an answer may begin with its end
        (" the fox jumps", ["fox j"], "the"),  # a stop may end inside a token
        ("anything", [], "anything"),
    ],
)
def test_the_text_is_what_stands_before_the_first_stop(text: str, stops: list[str], left: str, tokenizer: Any) -> None:
    assert text_before(tokenizer(text)["input_ids"], stops, tokenizer) == left


def test_every_row_ends_at_its_own_limit_or_stop(tokenizer: Any) -> None:
    prompt, new = tokenizer("fox\n")["input_ids"], tokenizer("\nthe fox\n\n")["input_ids"]
    ids = torch.tensor([[*prompt, *new]] * 4)
    stops = [[], ["\n\n"], ["fox\n\nthe"], ["never", "x\n"]]
    ends = StopsByRow([len(new), 99, 99, 99], stops, len(prompt), tokenizer)
    assert ends(ids, None).tolist() == [True, True, False, True]
    # Two candidates of every row, as beams have them; a stop that began in the prompt is none.
    early = ids[:, : len(prompt) + 1].repeat_interleave(2, dim=0)
    assert ends(early, None).tolist() == [False] * 8
