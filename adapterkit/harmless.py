"""Lines that libraries log while they are imported, and that say nothing to a user of adapterkit.

transformers imports torchao, and PEFT bitsandbytes, wherever they are installed, whether a recipe uses them or not. On
a machine without a GPU both then say what they would be missing.
"""

import logging
import sys

LINES = {
    "torchao": "Failed to load ",  # kernels for GPUs
    "torchao.kernel.intmm": "Warning: Detected no triton",
    "torch.utils._pytree": "%s is an Enum subclass and is now natively supported",  # of torchao's own
    "bitsandbytes.backends.cpu.ops": "Failed to load CPU gemm_4bit_forward",  # adapterkit has its own product for nf4
}
"""Logger -> how the line begins."""


class _Harmless(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if not str(record.msg).startswith(LINES[record.name]):
            return True
        return record.name.startswith("torchao") and bool(sys.modules["torch"].cuda.is_available())


def leave_out_harmless_lines() -> None:
    """Drop these lines, and no other, however the libraries come to be imported."""
    for name in LINES:
        logging.getLogger(name).addFilter(_Harmless())
