"""What travels between devices in a step, how long it takes, and from how many devices on a step waits for it.

With N devices, T bytes that train (gradients in float32), W bytes that are frozen, m micro-batches, F operations of a
step, S operations a second and L bytes a second that a device sends while it receives as many:

    DDP   a device sends 2 (N - 1)/N · T         a ring: every piece of the gradient goes round twice
    FSDP  a device sends 2 (N - 1)/N · (m W + T) each layer is gathered in the forward and in the backward
    a step computes      F / (N S)               and waits from N = 1 + F L / (2 S · (T or m W + T)) on

Nothing is assumed to happen at the same time, and an exchange to cost nothing but its bytes.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Traffic:
    """What a way to spread a run sends in one step.

    Attributes:
        way: DDP or FSDP.
        device_bytes: that each device sends.
        all_bytes: that all send together.
        seconds: it takes.
        computing_seconds: of a device, in the same step.
        waits_from: devices from which on a step takes longer to exchange than to compute, with the same global batch.
    """

    way: str
    device_bytes: int
    all_bytes: int
    seconds: float
    computing_seconds: float
    waits_from: int


def traffic_of(
    trained_bytes: int,
    frozen_bytes: int,
    flops: int,
    *,
    devices: int,
    link_bytes: float,
    flops_per_second: float,
    micro_batches: int = 1,
) -> tuple[Traffic, ...]:
    """What each way sends.
    `flops`: of a step, on all devices together. `link_bytes`: that a device sends in a second."""
    found = []
    for way, sent in (("DDP", trained_bytes), ("FSDP", micro_batches * frozen_bytes + trained_bytes)):
        everything = 2 * (devices - 1) * sent
        waits = 1 + flops * link_bytes / (2 * sent * flops_per_second)
        each, computing = everything / devices, flops / devices / flops_per_second
        sends = Traffic(way, math.ceil(each), everything, each / link_bytes, computing, max(2, math.ceil(waits)))
        found.append(sends)
    return tuple(found)
