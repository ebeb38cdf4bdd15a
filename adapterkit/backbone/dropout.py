"""Dropout that is drawn by row and token, quickly, and again for the backward instead of being kept.

A mask is cut from one table of draws: each token reads as many of them, one behind the other, as it has values, from
where its own number says. A token's number follows from its row's and from its place in it, so that a row drops the
same values wherever it stands: in a batch of any size, in any process, padded or packed. Two values of a mask hang
together only where two tokens read the same draw, one in 65,536 of those at the same channel; dropping a value is one
comparison for a whole table, so that a mask costs what copying it costs.

On a CPU a draw is 16 bits of a small fast generator (SFC64). The table's seed is one draw of torch's own generator: a
run that is stopped and resumed, and a layer that is checkpointed and run again, draw the same masks.

Axes: N tokens, W values of each; a `lead` is a tensor's shape without its last axis.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, lru_cache
from inspect import unwrap
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_SEEDS = 2**63 - 1
_DRAWS = 1 << 16
_STARTS = 1 << 16
"""Places of a table at which a token may begin to read."""

_ROW, _HEAD, _TOKEN = (np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xD1B54A32D192ED03, 0x8CB92BA72F3D8DD7))


@dataclass(frozen=True, eq=False)
class Masks:
    """A table of 0 and 1 / (1 - probability), and where in it each token's mask of `width` values starts."""

    table: Tensor
    width: int
    starts: Tensor

    def __getitem__(self, rows: slice) -> Tensor:
        """The mask of some rows: (…, W), a tensor of its own."""
        starts, table = self.starts[rows], self.table
        if table.device.type != "cpu" or type(table) is not Tensor:  # one without content, of a plan
            return table.unfold(0, self.width, 1)[starts]
        # NumPy copies windows two to five times as fast as torch. It has no bfloat16, and asks for no numbers here.
        bits = table.view(_BITS[table.element_size()])
        windows = np.lib.stride_tricks.sliding_window_view(bits.numpy(), self.width)
        return torch.from_numpy(windows[starts.numpy()]).view(table.dtype)


@dataclass(frozen=True, eq=False)
class Draw:
    """What a mask is cut from: the table's seed, and the number of each token (int64, of a tensor's lead)."""

    seed: int
    numbers: Tensor

    def masks(self, width: int, probability: float, like: Tensor) -> Masks:
        """Masks of tokens with `width` values each, in the dtype and on the device of `like`: 0 for what is dropped and
        1 / (1 - probability) elsewhere. `probability`: that a value is dropped; on a CPU in steps of 2⁻¹⁶."""
        table = _filled(like.new_empty(_STARTS + width), probability, self.seed)
        # Multiply-shift hashing (Dietzfelbinger et al. 1997): the upper bits of an odd multiple, another per seed.
        starts = (self.numbers * (self.seed | 1) >> 48) & (_STARTS - 1)
        return Masks(table, width, starts.to(like.device))

    def mask_like(self, x: Tensor, probability: float) -> Tensor:
        """The mask of an x (…, W), one token of which has each number. See `masks`."""
        return self.masks(x.shape[-1], probability, x)[:].view(x.shape)

    def of(self, numbers: Tensor) -> "Draw":
        """The same table, for some of the tokens."""
        return Draw(self.seed, numbers)


_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def _filled(table: Tensor, probability: float, seed: int) -> Tensor:
    if table.device.type != "cpu":
        of_device = torch.Generator(table.device).manual_seed(seed)
        return table.bernoulli_(1.0 - probability, generator=of_device).div_(1.0 - probability)
    dropped = round(probability * _DRAWS)
    if dropped == _DRAWS:
        return table.zero_()
    generator = np.random.Generator(np.random.SFC64(seed))
    draws = generator.integers(0, 2**64, -(-len(table) // 4), dtype=np.uint64).view(np.int16)[: len(table)]
    torch.ge(torch.from_numpy(draws), dropped - _DRAWS // 2, out=table)
    return table.mul_(_DRAWS / (_DRAWS - dropped))


@dataclass
class _Rows:
    """The rows whose tokens are in work: a number of each, (B,), whether what computes calls torch's function to drop,
    and what is known of how they are packed."""

    keys: Any
    by_function: bool
    packed: tuple[Tensor, tuple[int, int]] | None = None
    found: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def numbers(self, lead: tuple[int, ...]) -> Tensor | None:
        """A number of each token of a tensor (B, …, T), or (1, …, P) where rows are packed; None where these are not
        the rows. Between rows and tokens may stand heads; rows that are cut into choices are so many times as many."""
        if lead not in self.found:
            heads = np.arange(math.prod(lead[1:-1]), dtype=np.uint64)[:, None]
            if self.packed is not None and lead[0] == 1 and lead[-1] == len(self.packed[0]):
                source_P, (rows, tokens) = self.packed
                row_P, token_P = np.divmod(source_P.cpu().numpy(), tokens)
                numbers = self._of(rows)[row_P] + heads * _HEAD + token_P.astype(np.uint64) * _TOKEN
            elif lead[0] % len(self.keys) == 0:
                tokens_T = np.arange(lead[-1] if len(lead) > 1 else 1, dtype=np.uint64)
                numbers = self._of(lead[0])[:, None, None] + heads * _HEAD + tokens_T * _TOKEN
            else:
                return None
            self.found[lead] = torch.from_numpy(_mixed(numbers).view(np.int64)).view(lead)
        return self.found[lead]

    def _of(self, count: int) -> Any:
        """A number for each of `count` rows, of which every feature has as many as another."""
        each = -(-count // len(self.keys))
        choice = np.arange(each, dtype=np.uint64)
        return _mixed(self.keys[:, None] + choice * _ROW).flatten()


def _mixed(numbers: Any) -> Any:
    """SplitMix64's finalizer (Steele, Lea and Flood 2014): every bit of a number changes half of the others."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))


@lru_cache(maxsize=8)
def _as_they_stand(lead: tuple[int, ...]) -> Tensor:
    """Numbers of tokens of which nothing is known but where they stand."""
    return torch.from_numpy(_mixed(np.arange(math.prod(lead), dtype=np.uint64)).view(np.int64)).view(lead)


_rows: _Rows | None = None
# Of the process and not of a thread: on a GPU, a layer's second computation runs in a thread of torch's own.


@contextmanager
def rows_draw(seed: int, rows: Sequence[int], by_function: bool = False) -> Iterator[None]:
    """Inside, whatever is dropped of these rows follows from the seed and each row's own number, whichever others are
    in work beside it. A forward and its backward belong inside.

    Args:
        seed: of the step.
        rows: the number of each row of the batch.
        by_function: whether layers of what computes call torch's function to drop; see `attention.drops_by_function`.
    """
    global _rows
    torch.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(seed + rows[0])  # of torch's fused attention, which draws by no row
    _rows = _Rows(_mixed(np.array(rows, dtype=np.uint64) * _ROW + np.uint64(seed)), by_function)
    try:
        with _by_rows():
            yield
    finally:
        _rows = None


def _by_rows() -> AbstractContextManager[Any]:
    return _FunctionalDropout() if _rows is not None and _rows.by_function else nullcontext()


def first_and_again() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """What a layer that is checkpointed computes in, and computes again in: torch runs a backward without the modes
    that it was called in."""
    return nullcontext(), _by_rows()


def note_packed(source_P: Tensor, shape: tuple[int, int]) -> None:
    """Let the rows in work be packed: each place of the packed batch takes the token at `source_P` of the flattened
    padded one, which has a `shape` of (B, T)."""
    if _rows is not None:
        _rows.packed = source_P, shape
        _rows.found.clear()


def draw(lead: Sequence[int]) -> Draw:
    """What the mask of a tensor (*lead, W) is cut from, with a seed from the global generator of the CPU."""
    seed, lead = int(torch.randint(_SEEDS, (), dtype=torch.int64)), tuple(lead)
    numbers = None if _rows is None else _rows.numbers(lead)
    return Draw(seed, _as_they_stand(lead) if numbers is None else numbers)


class QuickDropout(nn.Dropout):
    """`torch.nn.Dropout` with masks of this module; on a GPU where rows are known."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - its name in torch
        if not self.training:
            return input
        return super().forward(input) if self.inplace else _dropped(input, self.p)


def _dropped(x: Tensor, probability: float) -> Tensor:
    if not 0.0 < probability < 1.0 or x.dim() < 2 or (x.device.type != "cpu" and _rows is None):
        return F.dropout(x, probability)
    found: Tensor = _Dropped.apply(x, probability, draw(x.shape[:-1]))  # type: ignore[no-untyped-call]
    return found


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, probability: float, drawn: Draw) -> Tensor:
        ctx.settings = probability, drawn
        return drawn.mask_like(x, probability).mul_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        probability, drawn = ctx.settings
        return drawn.mask_like(grad, probability).mul_(grad), None, None


class _FunctionalDropout(TorchFunctionMode):
    """Lets torch's function drop as its layer does here: BART's layers have no layer for it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.dropout:
            return func(*args, **(kwargs or {}))
        return _by_function(*args, **(kwargs or {}))


def _by_function(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:  # noqa: A002
    return F.dropout(input, p, training, inplace) if inplace or not training else _dropped(input, p)


@cache
def calls_function(forward: Callable[..., Any], eager: bool) -> bool:
    """Whether a layer's forward, or a function that it calls by name, calls torch's function, as the names in their
    code say. `eager`: whether layers attend by transformers' function for that, which each of them names."""
    forward = unwrap(forward)
    known = getattr(forward, "__globals__", {})
    named = [name for name in _names_in(forward) if eager or name != "eager_attention_forward"]
    called = [known[name] for name in named if isinstance(known.get(name), FunctionType)]
    return any("dropout" in names and names & {"functional", "F"} for names in map(_names_in, (forward, *called)))


def _names_in(function: Any) -> set[str]:
    return set(getattr(getattr(function, "__code__", None), "co_names", ()))


def use_quick_dropout(model: nn.Module) -> None:
    """Let a model's dropout layers draw as this module does. For use nothing changes."""
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = QuickDropout
