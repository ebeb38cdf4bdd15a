"""Whether a language model can learn to end: its projection to the vocabulary is frozen, and so is the end token's row.

A token can be put first only where its row stands apart from all others. In checkpoints that never saw their end token
its row is that of every other token that never came up, and no state of the model can tell it from them.

Axes: V vocabulary, D hidden width, N tokens.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from adapterkit.adapted import Adapted
from adapterkit.data import Rows
from adapterkit.tasks.protocol import Feature, GeneratingTask

LOOKED_AT = 16
"""Rows whose last tokens are looked at, and whose states tell how long states are."""
LAST = 4
"""Tokens at a row's end among which its end token stands: a line break may follow it."""
ENOUGH_NATS = 1.0
"""A lead over every other token that can be learned: odds of 2.7 to 1."""
ROUNDS = 64


class Lead(NamedTuple):
    """How far a token can be put ahead of all others, and the token that stands nearest to it."""

    nats: float
    nearest: int


def end_token_note(adapted: Adapted, rows: Rows) -> str:
    """What to tell before training where the tokens that end the rows cannot be learned; "" where they can.
    `rows`: usable training rows, of which the first are looked at."""
    module: Any = adapted.module
    task = adapted.task
    if not isinstance(task, GeneratingTask):
        return ""
    projection = module.get_output_embeddings()
    if not isinstance(projection, nn.Linear) or any(p.requires_grad for p in projection.parameters()):
        return ""
    special = set(adapted.backbone.tokenizer.added_tokens_decoder)
    features = task.encode(rows[:LOOKED_AT], adapted.vocabulary, "train").features
    ends = sorted({token for feature in features for token in list(feature.labels)[-LAST:]} & special)
    longest = _longest_state(adapted, projection, features) if ends else 0.0
    tokenizer, weight_VD = adapted.backbone.tokenizer, projection.weight.detach()
    problems, names = [], []
    for token in ends:
        lead = lead_of(weight_VD, token, longest)
        if lead.nats < ENOUGH_NATS:
            name, other = (tokenizer.convert_ids_to_tokens(number) for number in (token, lead.nearest))
            names.append(name)
            problems.append(f"{name!r} can be put no further than {max(lead.nats, 0.0):.2g} nats ahead of {other!r}")
    if not problems:
        return ""
    return (
        f"this checkpoint cannot learn to end: {'; '.join(problems)}, since their rows of the projection to the "
        "vocabulary, which is frozen, are alike. Answers will not stop; task.end_text names a text to end with instead"
        f", and head.tokens: [{', '.join(map(repr, names))}] trains their rows"
    )


def lead_of(weight_VD: Tensor, token: int, longest: float) -> Lead:
    """The most by which a state of a length can put a token ahead of every other: its margin, in nats.

    max over |h| ≤ longest of min over v of h·(w_token - w_v) is longest times the distance from w_token to the convex
    hull of the other rows. Wolfe's steps (1976): the row that is hardest to beat joins those that were, until the
    nearest point of their hull shows that the lead is enough, or that it is not.
    """
    own_D = weight_VD[token].float()
    nearest_D = own_D - (weight_VD.sum(dim=0, dtype=torch.float32) - own_D) / (len(weight_VD) - 1)
    hard: list[int] = []
    most = float("inf")
    for _ in range(ROUNDS):
        apart_V = own_D @ nearest_D - (weight_VD @ nearest_D.to(weight_VD.dtype)).float()
        apart_V[token] = torch.inf
        hardest = int(apart_V.argmin())
        length = float(nearest_D.norm())
        most = length * longest
        if most < ENOUGH_NATS or float(apart_V[hardest]) / length * longest >= ENOUGH_NATS or hardest in hard:
            break
        hard.append(hardest)
        nearest_D = _nearest(own_D - weight_VD[hard].float())
    squared_V = weight_VD.float().square().sum(dim=1) - 2 * (weight_VD @ weight_VD[token]).float()
    squared_V[token] = torch.inf
    return Lead(most, int(squared_V.argmin()))


def _nearest(corners_SD: Tensor) -> Tensor:
    """(D) the point of the corners' convex hull that is nearest to the origin."""
    from scipy.optimize import nnls  # which no other run needs

    corners = corners_SD.double().cpu().numpy()
    # Weights that add up to 1, as one more equation that counts far more than the others.
    one = 1e3 * max(1.0, float(np.abs(corners).max()))
    weights, _ = nnls(
        np.vstack([corners.T, np.full((1, len(corners)), one)]), np.append(np.zeros(corners.shape[1]), one)
    )
    return torch.from_numpy((weights / weights.sum()) @ corners).to(corners_SD)


def _longest_state(adapted: Adapted, projection: nn.Module, features: Sequence[Feature]) -> float:
    """The length of the longest state that the projection is given for some rows."""
    longest: list[float] = []
    handle = projection.register_forward_pre_hook(
        lambda _, states: longest.append(float(states[0].detach().float().norm(dim=-1).max()))
    )
    try:
        adapted.outputs(features, batch_size=len(features))
    finally:
        handle.remove()
    return max(longest)
