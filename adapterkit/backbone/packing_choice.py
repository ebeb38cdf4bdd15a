"""Whether oneDNN's layout of a frozen weight is the faster one on this machine: measured once, and remembered."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from adapterkit.backbone.hardware import cpu_features
from adapterkit.own_folder import cache_folder, keep_text, kept_text

NARROWEST = 128
"""A linear with fewer inputs or outputs stays plain: its products are shorter than the call."""

TOKENS = (16, 128)
"""With how many tokens the layouts are compared where a host asks."""

_TURNS = 5
_DTYPES = (torch.float32, torch.bfloat16)
_WORDS = {"packed": True, "plain": False}
_known: dict[str, bool] = {}

Layout = Callable[[Tensor], Tensor]
Product = Callable[[Tensor, Tensor, None], Tensor]


def pays(
    weight_OI: Tensor, layout: Layout, product: Product, tokens: Sequence[int] = TOKENS, gain: float = 0.0
) -> bool:
    """Whether products of (N, I) with a weight of this shape and number format are faster in another layout: over all
    these numbers of tokens together, by `gain` as a share of the time at least."""
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not available or min(weight_OI.shape) < NARROWEST or weight_OI.dtype not in _DTYPES:
        return False
    machine = [torch.__version__, torch.get_num_threads(), *sorted(cpu_features())]
    facts = json.dumps([*weight_OI.shape, *weight_OI.stride(), str(weight_OI.dtype), *tokens, gain, *machine])
    key = hashlib.sha256(facts.encode()).hexdigest()
    if key not in _known:
        _known[key] = _remembered(key, lambda: _is_faster(weight_OI, layout, product, tokens, gain))
    return _known[key]


@torch.no_grad()
def _is_faster(weight_OI: Tensor, layout: Layout, product: Product, tokens: Sequence[int], gain: float) -> bool:
    weights = (weight_OI.detach(), layout(weight_OI))
    seconds = [0.0, 0.0]
    for count in tokens:
        x_NI = torch.ones(count, weight_OI.shape[1], dtype=weight_OI.dtype)
        best = [float("inf"), float("inf")]
        for _ in range(_TURNS):
            for which, weight in enumerate(weights):
                begun = time.perf_counter()
                product(x_NI, weight, None)
                best[which] = min(best[which], time.perf_counter() - begun)
        seconds = [total + more for total, more in zip(seconds, best, strict=True)]
    return seconds[1] < (1 - gain) * seconds[0]


def _remembered(key: str, measure: Callable[[], bool]) -> bool:
    """What was measured before on this machine."""
    path = cache_folder() / "packed" / key
    kept = kept_text(path, 8)
    if kept not in _WORDS:
        kept = "packed" if measure() else "plain"
        keep_text(path, kept)
    return _WORDS[kept]
