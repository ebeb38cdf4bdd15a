"""How the next token of every row is chosen.

Sampling adds Gumbel noise to the filtered scores and takes the largest, which draws from their softmax (Gumbel 1954).
The noise of a row comes from a generator of its own, so that what a row draws depends neither on its neighbours nor on
other threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from adapterkit.errors import GenerationError

SEEDS = 2**63


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen: by so many beams (None: what each task says), or at a temperature above 0 by a
    draw, among the `top_k` likeliest, or those that together have the probability `top_p` (Holtzman et al. 2020). With
    a seed, row i of a call draws the same whatever stands beside it; None draws anew every time."""

    beams: int | None = None
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        bounds = (
            ("num_beams", self.beams, self.beams is None or self.beams >= 1, "at least 1"),
            ("temperature", self.temperature, 0 <= self.temperature < float("inf"), "0 or more"),
            ("top_k", self.top_k, self.top_k is None or self.top_k >= 1, "at least 1"),
            ("top_p", self.top_p, self.top_p is None or 0 < self.top_p <= 1, "more than 0 and at most 1"),
            ("seed", self.seed, self.seed is None or 0 <= self.seed < SEEDS, "0 to 2^63 - 1"),
        )
        problems = [f"{name}: found {value}, expected {wanted}" for name, value, fits, wanted in bounds if not fits]
        if not self.temperature:
            idle = [name for name in ("top_k", "top_p", "seed") if getattr(self, name) is not None]
            problems += [f"{name}: has no meaning at temperature 0, where nothing is drawn" for name in idle]
        elif self.beams is not None and self.beams > 1:
            problems.append(f"num_beams: found {self.beams} at temperature {self.temperature}, expected one of the two")
        if problems:
            raise GenerationError("these settings cannot be honoured", problems)

    def seeds(self, rows: int) -> list[int]:
        """One for every row of a call."""
        generator = torch.Generator()
        if self.seed is None:
            generator.seed()
        else:
            generator.manual_seed(self.seed)
        return [int(seed) for seed in torch.randint(SEEDS - 1, (rows,), generator=generator)]

    def draws(self, seeds: Sequence[int], device: torch.device) -> list[LogitsProcessor]:
        """What changes the scores of rows with these seeds, so that the largest is a draw; nothing at temperature 0."""
        if not self.temperature:
            return []
        chosen: list[LogitsProcessor] = [TemperatureLogitsWarper(float(self.temperature))]
        if self.top_k is not None:
            chosen.append(TopKLogitsWarper(self.top_k))
        if self.top_p is not None:
            chosen.append(TopPLogitsWarper(float(self.top_p)))
        return [*chosen, GumbelNoise(seeds, device)]


class GumbelNoise(LogitsProcessor):  # type: ignore[misc]
    """Adds every row's own Gumbel noise, so that the largest score is a draw from the softmax."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        noise = torch.empty_like(scores, dtype=torch.float32)
        for row, generator in zip(noise, self._generators, strict=True):
            row.exponential_(generator=generator)
        return scores - noise.log()
