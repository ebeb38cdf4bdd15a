"""Which device, and which number format, a backbone is loaded on."""

import logging
import os
from functools import cache

import torch

from adapterkit.errors import DeviceError

logger = logging.getLogger(__name__)

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(wanted: str = "auto") -> torch.device:
    """The device of that name. "auto" is CUDA, then Apple's MPS, then the CPU. Under a launcher that starts one process
    per GPU, "auto" and "cuda" are the GPU of this process (LOCAL_RANK). Raises DeviceError: this machine has none."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return pick_device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise DeviceError(
            f"{wanted!r} is not the name of a device", remedy='Take "auto", "cpu", "cuda", "cuda:1" or "mps".'
        ) from error
    if device.type == "cuda":
        return _cuda(device.index if ":" in wanted else None)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("MPS was asked for, and this machine has none", remedy='Take device "auto" or "cpu".')
    if device.type not in ("cpu", "mps"):
        raise DeviceError(f"device {wanted!r} is of a type that adapterkit has not been tried on")
    return device


def _cuda(number: int | None) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = int(os.environ.get("LOCAL_RANK", "0")) % max(count, 1) if number is None else number
    if index >= count:
        found = "none" if count == 0 else f"{count}, numbered from 0"
        raise DeviceError(
            f"GPU {index} was asked for: CUDA devices that torch {torch.__version__} sees: {found}",
            remedy='Take device "auto" or "cpu", or install a torch build for this machine\'s GPU.',
        )
    return torch.device("cuda", index)


def pick_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The number format of that name. "auto" is bfloat16 where `bfloat16_is_fast`, else float32. Raises DeviceError:
    there is none of that name."""
    if wanted == "auto":
        return torch.bfloat16 if bfloat16_is_fast(device) else torch.float32
    if wanted not in DTYPES:
        raise DeviceError(
            f"{wanted!r} is not a number format for weights",
            remedy=f"Take one of auto, {', '.join(DTYPES)}, int8, nf4.",
        )
    return DTYPES[wanted]


@cache
def say_narrow() -> None:
    """Say once that a format was chosen in which answers depend a little on what stands beside them."""
    logger.warning(
        "dtype auto is bfloat16 on this machine: faster, with fewer digits. dtype=float32 has more; "
        "Host(…, exact=True) answers every row as if it came alone."
    )


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware: 4 to 5 times faster than float32 on such CPUs."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # oneDNN is what uses these instructions; a torch built without it multiplies bfloat16 slowly.
        onednn = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        return bool(onednn) and not cpu_features().isdisjoint(("avx512_bf16", "amx_bf16"))
    return False


def cpu_features() -> frozenset[str]:
    """The instruction sets of this CPU, as torch calls them."""
    return frozenset(name for name, there in torch.cpu.get_capabilities().items() if there is True)
