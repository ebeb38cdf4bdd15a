"""Where rows end, for those classes of transformers that look for it among the tokens.

A decoder's class for whole texts takes the state at the last token that is not the pad token, BART's and T5's the one
at the last end token. A text may hold these tokens itself: it may end with the unknown token that a tokenizer without a
pad token pads with, or say "</s>" in the middle. The class is shown marks in the place of the tokens, made from the
attention mask, and the trunk below it reads the tokens.

Axes: B rows, T tokens.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class RowEnds:
    """The mark that a class takes for the last token of a row, and the one for every other token."""

    end: int
    elsewhere: int

    @classmethod
    def of(cls, config: Any) -> Self | None:
        """Those of the class for whole texts with this config; None where it looks for no token."""
        text = config.get_text_config()
        if getattr(config, "is_encoder_decoder", False):
            return None if text.eos_token_id is None else cls(text.eos_token_id, text.eos_token_id + 1)
        return None if text.pad_token_id is None else cls(text.pad_token_id + 1, text.pad_token_id)

    def marked(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inputs with marks in the place of the tokens; as they are where there is no attention mask."""
        if "attention_mask" not in inputs:
            return dict(inputs)
        mask_BT = inputs["attention_mask"]
        place_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
        last_B1 = (place_T * (mask_BT != 0)).amax(dim=1, keepdim=True)
        marks_BT = torch.where(place_T == last_B1, self.end, self.elsewhere)
        return {**inputs, "input_ids": marks_BT.to(inputs["input_ids"].dtype)}


@contextmanager
def telling_ends(model: nn.Module, ends: RowEnds | None, inputs: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yields what to call a model with, whose trunk reads the tokens meanwhile."""
    if ends is None:
        yield inputs
        return
    owner: Any = model
    tokens_BT = inputs["input_ids"]
    marked = ends.marked(inputs)
    if hasattr(owner, "_shift_right") and "decoder_input_ids" not in inputs:  # T5's class makes them, and not its trunk
        marked["decoder_input_ids"] = owner._shift_right(tokens_BT)
    trunk: nn.Module = getattr(owner, str(owner.base_model_prefix))

    def reads_tokens(_: nn.Module, args: tuple[Any, ...], settings: dict[str, Any]) -> Any:
        return ((tokens_BT, *args[1:]), settings) if args else (args, {**settings, "input_ids": tokens_BT})

    handle = trunk.register_forward_pre_hook(reads_tokens, with_kwargs=True)
    try:
        yield marked
    finally:
        handle.remove()
