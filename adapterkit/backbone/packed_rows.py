"""How the rows of a batch stand one behind the other, and how they attend.

Axes: B rows, T tokens of the longest row, N tokens of all rows, P places of the packed batch (N, and little padding),
D any width, H heads, d head width, G rows of a group, L tokens of its longest row.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Self

import torch
from torch import Tensor

from adapterkit.backbone.attention import attend
from adapterkit.backbone.dropout import draw

SPARE_PLACES: Mapping[str, int] = {"cpu": 16, "cuda": 4096}
"""Places that may stay padding before another group is opened, by device: what a group costs in every layer beside the
work of a token. On a GPU a token costs next to nothing; its number was not measured."""

Run = tuple[int, int]
"""A row as (first, tokens): where it begins in the flattened batch, and how many tokens follow each other there."""


@dataclass(frozen=True)
class LengthGroup:
    """G rows of nearly the same length as one rectangle (G, L) from place `start`. `seen` (G, L) is False where there
    is padding; None where there is none."""

    start: int
    rows: int
    tokens: int
    seen: Tensor | None

    def rectangle(self, of_places: Tensor) -> Tensor:
        """(H, G·L, …) as (G, H, L, …)."""
        return of_places.reshape(-1, self.rows, self.tokens, *of_places.shape[2:]).transpose(0, 1)


@dataclass(frozen=True)
class PackedRows:
    """The groups of a packed batch, in the order of their places."""

    groups: tuple[LengthGroup, ...]
    _masks: dict[tuple[int, int | None, bool], Tensor | None] = field(default_factory=dict)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        dropout: float,
        scaling: float | None,
        causal: bool,
        window: int | None,
        position_bias: Tensor | None,
    ) -> Tensor:
        """Every row attends to itself: (1, H, P, d) to (1, P, H, d). Keys and values may have fewer heads.

        A causal token sees itself and what is before it only, in a window those that are less than this far away. The
        bias of positions (1, H, L, L) is that of the longest row.
        """
        attended = []
        # Once for all groups: another process may have other ones.
        drawn = draw(query.shape[:-1]) if dropout else None
        for number, group in enumerate(self.groups):
            places = slice(group.start, group.start + group.rows * group.tokens)
            q, k, v = (group.rectangle(packed[0, :, places]) for packed in (query, key, value))
            bias = None if position_bias is None else position_bias[:, :, : group.tokens, : group.tokens]
            mask = self._mask(number, window, causal, query.device)
            own = drawn and drawn.of(group.rectangle(drawn.numbers[0, :, places]))
            found_GHLd = attend(q, k, v, mask, dropout, scaling, causal, bias, own)
            attended.append(found_GHLd.transpose(1, 2).flatten(0, 1))
        return (attended[0] if len(attended) == 1 else torch.cat(attended))[None]

    def _mask(self, number: int, window: int | None, causal: bool, device: torch.device) -> Tensor | None:
        """True where a token is seen, (G or 1, 1, L or 1, L), the same in all layers; None where `causal` says it."""
        group = self.groups[number]
        if window is not None and window >= group.tokens:
            window = None
        key = number, window, causal
        if key not in self._masks:
            # Padding stands behind a row's tokens, where a causal one does not look.
            seen = None if group.seen is None or causal else group.seen[:, None, None, :]
            if window is not None:
                place_L = torch.arange(group.tokens, device=device)
                away_LL = place_L[:, None] - place_L
                near = (away_LL < window) & ((away_LL >= 0) if causal else (away_LL > -window))
                seen = near[None, None] if seen is None else seen & near
            self._masks[key] = seen
        return self._masks[key]


@dataclass(frozen=True)
class PackedLayout:
    """Where the tokens of a padded batch (B, T) go in the packed one.

    `positions` (1, P) has the number of a token in its row, `source` (P,) the place in the flattened batch that each
    packed place takes (any where there is padding), `place` and `target` (N,) every token's place in the packed batch
    and in the flattened one. `longest` is L of the longest row; `lanes` the packed places of each lane, one behind the
    other (see `heads.lanes`).
    """

    shape: tuple[int, int]
    rows: PackedRows
    longest: int
    positions: Tensor
    source: Tensor
    place: Tensor
    target: Tensor
    lanes: tuple[int, ...]

    @classmethod
    def of(
        cls,
        runs: Sequence[Run],
        shape: tuple[int, int],
        device: torch.device,
        spare: int | None = None,
        lanes: Sequence[int] | None = None,
    ) -> Self:
        """The layout of rows that stand at `runs` in a batch of this shape. `spare`: places of padding that a group may
        have, instead of `SPARE_PLACES`. `lanes`: rows of the padded batch in each lane; None for one lane."""
        spare = SPARE_PLACES.get(device.type, SPARE_PLACES["cuda"]) if spare is None else spare
        by_lane = [
            _grouped(sorted((run for run in inside if run[1]), key=lambda run: -run[1]), spare)
            for inside in _by_lane(runs, shape, lanes or [shape[0]])
        ]
        groups, start = [], 0
        sources, positions, places = [], [], []
        for members in chain.from_iterable(by_lane):
            tokens = members[0][1]
            first_G1 = torch.tensor([first for first, _ in members], device=device)[:, None]
            length_G1 = torch.tensor([length for _, length in members], device=device)[:, None]
            place_L = torch.arange(tokens, device=device)
            seen_GL = place_L < length_G1
            sources.append(torch.where(seen_GL, first_G1 + place_L, first_G1).flatten())
            positions.append(torch.where(seen_GL, place_L, 0).flatten())
            places.append(seen_GL.flatten())
            full = members[-1][1] == tokens
            groups.append(LengthGroup(start, len(members), tokens, None if full else seen_GL))
            start += len(members) * tokens
        source_P, seen_P = torch.cat(sources), torch.cat(places)
        place_N = seen_P.nonzero()[:, 0]
        return cls(
            shape,
            PackedRows(tuple(groups)),
            max(group.tokens for group in groups),
            torch.cat(positions)[None],
            source_P,
            place_N,
            source_P[place_N],
            tuple(sum(len(members) * members[0][1] for members in inside) for inside in by_lane),
        )

    def packed(self, padded_BT: Tensor) -> Tensor:
        """(B, T, …) as (1, P, …)."""
        return padded_BT.flatten(0, 1).index_select(0, self.source)[None]

    def places(self, at_BT: Tensor) -> Tensor:
        """The packed places of the tokens where `at_BT` is true, in the order of the padded batch."""
        place_BT = self.target.new_zeros(at_BT.numel()).index_copy(0, self.target, self.place)
        return place_BT[at_BT.flatten()]

    def padded(self, packed_1P: Tensor) -> Tensor:
        """(1, P, …) as (B, T, …), zero where there is padding."""
        found = packed_1P[0]
        if len(self.place) < len(self.source):
            found = found.index_select(0, self.place)
        rows, tokens = self.shape
        flat = found.new_zeros(rows * tokens, *found.shape[1:])
        return flat.index_copy(0, self.target, found).reshape(rows, tokens, *found.shape[1:])


def _by_lane(runs: Sequence[Run], shape: tuple[int, int], lanes: Sequence[int]) -> list[list[Run]]:
    ends = list(accumulate(lanes))
    found: list[list[Run]] = [[] for _ in lanes]
    for run in runs:
        found[bisect_right(ends, run[0] // shape[1])].append(run)
    return found


def _grouped(runs: Sequence[Run], spare: int) -> list[list[Run]]:
    """Rows, sorted from long to short, cut into groups with at most `spare` places of padding each."""
    groups: list[list[Run]] = []
    left = 0
    for run in runs:
        if groups and (missing := groups[-1][0][1] - run[1]) <= left:
            groups[-1].append(run)
            left -= missing
        else:
            groups.append([run])
            left = spare
    return groups


def runs_of(inputs: Mapping[str, Tensor]) -> list[Run] | None:
    """Where the rows of a batch stand; with `position_ids`, where its documents stand. None for padding on the left.

    Args:
        inputs: attention_mask (…, T) and, for documents that share rows, position_ids (…, T), which begin at 0 in each.
    """
    mask_BT = inputs["attention_mask"].flatten(0, -2).bool()
    tokens = mask_BT.shape[1]
    length_B = mask_BT.sum(1)
    if not torch.equal(mask_BT, torch.arange(tokens, device=mask_BT.device) < length_B[:, None]):
        return None
    lengths = length_B.tolist()
    if "position_ids" not in inputs:
        return [(row * tokens, length) for row, length in enumerate(lengths)]
    begins = ((inputs["position_ids"].flatten(0, -2) == 0) & mask_BT).flatten().nonzero()[:, 0].tolist()
    ends = [row * tokens + length for row, length in enumerate(lengths)]
    return [
        (begin, min(behind, ends[begin // tokens]) - begin)
        for begin, behind in zip(begins, [*begins[1:], len(lengths) * tokens], strict=True)
    ]
