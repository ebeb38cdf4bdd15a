"""What a step needs and for what, the ways to make it need less, and the cheapest of them that fits.

All formulas of the planner stand here; what they work on is counted, not derived (see `dry_step`):

    resident   = weights + adapter + gradients + optimizer
    step       = activations + logits + working
    plain      = resident + step / (devices · accumulate)
    checkpoint = resident + (boundaries + one layer's activations + logits + working) / (devices · accumulate)
    FSDP       = cut / devices + gathered + resident - cut + step / (devices · accumulate)

Gradient checkpointing keeps what enters each layer and computes the rest again (Chen et al. 2016): one more forward
through the layers that learn. FSDP keeps 1 / devices of what it cuts, layers and the ends of the vocabulary, and
gathers one of them beside its part while it is used, and the next meanwhile (Zhao et al. 2023); what trains stays
whole. AdamW keeps two moments for every trained number (Loshchilov & Hutter 2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

FSDP_OVERHEAD = 1.25
"""Assumed cost of gathering weights in every step, as a factor on the step's time."""
USABLE = 0.9
"""Share of a device's memory that a plan may fill: the rest is for the driver, fragments and the plan's own error."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one device, by what they are for.

    Attributes:
        weights: of the frozen backbone, and of a borrowed head.
        adapter: what is trained, method and head.
        gradients: of what is trained.
        optimizer: its moments.
        activations: what autograd keeps for the backward, but for what belongs to `logits`.
        logits: what is as wide as the classes or the vocabulary.
        working: what lives for a moment only, at the step's fullest.
    """

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    working: int

    @property
    def resident(self) -> int:
        """What is there all the time."""
        return self.weights + self.adapter + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        """All of it."""
        return self.resident + self.activations + self.logits + self.working

    def uses(self) -> dict[str, int]:
        """What for -> bytes."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def largest(self) -> str:
        """What takes most."""
        return max(self.__dataclass_fields__, key=lambda name: int(getattr(self, name)))

    def shared(self, ways: int) -> Memory:
        """With a step's rows cut into so many micro-batches."""
        activations, logits, working = (
            math.ceil(size / ways) for size in (self.activations, self.logits, self.working)
        )
        return replace(self, activations=activations, logits=logits, working=working)


@dataclass(frozen=True)
class StepNeeds:
    """What strategies are made from: the memory of one device that does a whole step at once, and the operations, of
    the forward those below the lowest adapted layer and those from there up."""

    memory: Memory
    rows: int
    """Features in the step, the most micro-batches into which it can be cut."""
    flops: int
    below_flops: int
    above_flops: int
    layers: int
    """How many learn, or lie above one that does."""
    cut_bytes: int
    """Frozen weights of which FSDP leaves each device a part."""
    gathered_bytes: int
    """Of the two neighbours among them, whole, that take most."""
    boundary_bytes: int
    """What enters one layer."""
    cacheable: str
    """ "" where the states below can be kept, else why not."""
    checkpointed: bool = False
    """Whether the recipe asks for gradient checkpointing, so that no way without it counts."""
    checkpointable: bool = True
    """Whether the layers can be computed again one by one."""


@dataclass(frozen=True)
class Strategy:
    """A way to do a step.

    Attributes:
        name: as in "DDP, cached trunk".
        memory: of one device.
        accumulate: micro-batches into which a device's rows are cut, one after the other.
        cost: the step's time, the plain step on one device being 1.
        fits: whether `memory` does.
        how: what to set.
    """

    name: str
    memory: Memory
    accumulate: int
    cost: float
    fits: bool
    how: str


def strategies_for(step: StepNeeds, *, devices: int, memory_bytes: int) -> tuple[Strategy, ...]:
    """Every way there is, the cheapest first."""
    ways = [False, True] if step.below_flops and not step.cacheable else [False]
    again = [False, True] if step.layers >= 2 and step.checkpointable else [False]
    found = [
        _strategy(step, devices, int(USABLE * memory_bytes), cached, checkpointed, sharded)
        for cached in ways
        for checkpointed in ([True] if step.checkpointed else again)
        for sharded in ([False, True] if devices > 1 and not cached else [False])
    ]
    return tuple(sorted(found, key=lambda way: way.cost))


def choose(ways: tuple[Strategy, ...]) -> Strategy | None:
    """The cheapest that fits; None where there is none."""
    return next((way for way in ways if way.fits), None)


def _strategy(step: StepNeeds, devices: int, usable: int, cached: bool, checkpointed: bool, sharded: bool) -> Strategy:
    whole, flops = step.memory, step.flops - (step.below_flops if cached else 0)
    if checkpointed:
        kept = step.layers * step.boundary_bytes + math.ceil(whole.activations / max(1, step.layers))
        whole = replace(whole, activations=min(whole.activations, kept))
        flops += step.above_flops
    if sharded:
        own = math.ceil(step.cut_bytes / devices) + step.gathered_bytes
        whole = replace(whole, weights=whole.weights - step.cut_bytes + own)
    # The fewest micro-batches that fit, or all that there can be.
    most, room = max(1, math.ceil(step.rows / devices)), usable - whole.resident
    needed = (whole.total - whole.resident) / devices
    accumulate = most if room <= 0 else min(most, max(1, math.ceil(needed / room)))
    memory = whole.shared(devices * accumulate)
    return Strategy(
        name=_name(devices, cached, checkpointed, sharded),
        memory=memory,
        accumulate=accumulate,
        cost=flops / max(1, step.flops) / devices * (FSDP_OVERHEAD if sharded else 1.0),
        fits=memory.total <= usable,
        how=_how(devices, cached, checkpointed, sharded, accumulate),
    )


def _name(devices: int, cached: bool, checkpointed: bool, sharded: bool) -> str:
    first = "FSDP" if sharded else "DDP" if devices > 1 else "one device"
    more = [", cached trunk"] if cached else []
    more += [", gradient checkpointing"] if checkpointed else []
    return first + "".join(more)


def _how(devices: int, cached: bool, checkpointed: bool, sharded: bool, accumulate: int) -> str:
    config = "--config_file recipes/accelerate/fsdp2_2x8.yaml " if sharded else ""
    words = [f"accelerate launch {config}--num_processes {devices}"] if devices > 1 else []
    words += ["training.cache=auto"] if cached else []
    words += ["training.gradient_checkpointing=true"] if checkpointed else []
    words += [f"training.accumulate={accumulate}"] if accumulate > 1 else []
    return ", ".join(words) or "nothing to set"
