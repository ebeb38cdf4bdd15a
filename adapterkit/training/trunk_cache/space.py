"""What kept states are states of. Two runs share rows only where all of this is the same."""

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import version

import torch

from adapterkit.adapted import Adapted
from adapterkit.backbone.attention import implementation

FORMAT = 2


@dataclass(frozen=True)
class Space:
    """What rows of one folder have in common: of which backbone and tokenizer they are, below which layer, and what
    computed them. The backbone's name is for people and does not count."""

    backbone: str
    fingerprint: str
    tokenizer: str
    """Digest of how it reads text."""
    layer: int
    """The layer that the states enter, or the number of layers."""
    pooling: str
    """ "mean", "first" or "last" where a row is pooled to one vector, else ""."""
    width: int
    dtype: str
    """Of the kept numbers."""
    computed_in: tuple[str, str]
    """Formats of weights and of products."""
    attention: str
    device: str

    @property
    def digest(self) -> str:
        """32 hexadecimal digits over all that counts, and over the versions of what computed it."""
        made_by = {"format": FORMAT, "torch": torch.__version__, "transformers": version("transformers")}
        content = {**asdict(self), "backbone": None, **made_by}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def numpy_dtype(self) -> str:
        """An unsigned integer of the numbers' size: numpy has no bfloat16."""
        return f"<u{self.itemsize}"

    @property
    def itemsize(self) -> int:
        """Bytes per number."""
        return self.torch_dtype.itemsize

    @property
    def torch_dtype(self) -> torch.dtype:
        """The numbers' type."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype


def space_of(adapted: Adapted, layer: int, pooling: str, dtype: torch.dtype) -> Space:
    """The space of an adapter's states below `layer`."""
    backbone = adapted.backbone
    return Space(
        backbone=backbone.name,
        fingerprint=backbone.fingerprint,
        tokenizer=backbone.contract.tokenizer,
        layer=layer,
        pooling=pooling,
        width=backbone.hidden_size,
        dtype=str(dtype).removeprefix("torch."),
        computed_in=(backbone.quantised or str(backbone.dtype), str(adapted.compute_dtype)),
        attention=implementation(backbone.config),
        device=backbone.device.type,
    )
