"""Tokens whose rows of the projection to the vocabulary are an adapter's own, as PEFT's trainable tokens have them.

The projection is frozen and often tied to the embedding, so that a token which the checkpoint never learned to say (its
end, mostly) cannot be learned. Only what is said changes here and not what is read, so the trunk stays everybody's.

Axes: V vocabulary, D hidden width, S tokens with a row of their own.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adapterkit.errors import HeadError

ENDING = "token_adapter.trainable_tokens_delta"
"""Where PEFT's files have these rows, below the projection. They are whole rows, whatever their name says."""


class TokenRows(nn.Module):
    """A projection to the vocabulary, with rows of its own for some tokens."""

    def __init__(self, projection: nn.Linear, tokens: Sequence[int]) -> None:
        super().__init__()
        self.base_layer = projection
        self.token_adapter = nn.Module()
        rows_SD = projection.weight.detach()[list(tokens)].float()
        self.token_adapter.register_parameter("trainable_tokens_delta", nn.Parameter(rows_SD))
        self.register_buffer("tokens", torch.tensor(tokens, device=rows_SD.device), persistent=False)

    def forward(self, states: Tensor) -> Tensor:
        """(…, D) to (…, V)."""
        logits: Tensor = self.base_layer(states)
        own: Any = self.token_adapter.trainable_tokens_delta
        found = nn.functional.linear(states.to(own.dtype), own)
        return logits.index_copy(-1, self.get_buffer("tokens"), found.to(logits.dtype))


def put_token_rows(model: nn.Module, tokenizer: Any, names: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    """Give some tokens rows of their own, which begin as the projection's. Returns its path, and the tokens' numbers.
    Raises HeadError: a token that the vocabulary lacks, or a projection that PEFT's trainable tokens cannot stand for.
    """
    known = tokenizer.get_vocab()
    problems = [f"head.tokens: {name!r:.60} is no token of this vocabulary" for name in names if name not in known]
    generator: Any = model
    projection = generator.get_output_embeddings()
    fits = type(projection) is nn.Linear and projection.bias is None
    if not fits:
        found = type(projection).__name__ + " with a bias" * isinstance(projection, nn.Linear)
        problems.append(f"projection: found {found}, expected a linear without a bias")
    elif projection.weight.requires_grad:
        problems.append("projection: all of it is trained, since the checkpoint has none")
    if problems:
        raise HeadError(
            "These tokens cannot have rows of their own",
            problems,
            "Name tokens as the tokenizer writes them; task.end_text ends answers without one.",
        )
    path = next(path for path, module in model.named_modules() if module is projection)
    tokens = tuple(known[name] for name in names)
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, TokenRows(projection, tokens))
    return path, tokens
