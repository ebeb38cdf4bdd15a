"""A view of the trunk that carries one batch at a time: every module gets its work, and loses it afterwards.

Axes: B rows, T tokens, D hidden width.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import takewhile
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from adapterkit.backbone.cut import above, below, entering
from adapterkit.host.engine.assembly import Packed
from adapterkit.host.engine.gathering import Gathering
from adapterkit.host.engine.products import (
    Addition,
    AffineAddition,
    BottleneckAddition,
    FusionAddition,
    Held,
    InputAddition,
    LoraAddition,
    Merged,
    ModuleWork,
    Rows,
    RowWeights,
    Shrunk,
    Weights,
)
from adapterkit.host.engine.route import Carried, row_runs
from adapterkit.host.engine.shared_modules import bare, host_module, owns_output, product
from adapterkit.host.engine.structure import AffinePiece, BottleneckPiece, InputPiece, LoraPiece, Piece, Structure

Placed = tuple[int, Structure]
"""A structure, and its place among what a row carries."""
Given = tuple[str, dict[str, Any], ModuleWork | None, bool]
"""The path of a module, its attributes, its work, and whether it records."""
MOST_KNOWN = 8
"""Of how many adapters that own batches a view remembers the work; some 20 KB each."""
Span = tuple[str, int, int | None]
"""The path of a model in the trunk ("" for the trunk itself), its first layer, and the layer before which it ends."""


class LayerRange:
    """Layers `low` to `high` of a model, with what lies below the lowest or above the highest of them, so that a batch
    may change between two layers. It shares its layers with the model, and so whatever a view was given to do in them.
    """

    def __init__(self, model: nn.Module, low: int, high: int | None) -> None:
        """`model`: a trunk, or the encoder of one. `low`: 0 begins with the embeddings. `high`: the layer before which
        it ends; None for all that follows, with the final norm and the pooler."""
        self._entered = above(model, low) if low else None
        opened = model if self._entered is None else self._entered
        self._run = opened if high is None else below(opened, high)

    def __call__(self, states_BTD: Tensor | None, **inputs: Any) -> Any:
        """The states that enter layer `high`, (B, T, D), or the model's own output.
        `states_BTD`: what enters layer `low`; None where that is 0. `inputs`: as the whole model takes them."""
        if self._entered is None or states_BTD is None:
            return self._run(**inputs)
        with entering(self._entered, states_BTD):
            return self._run(**inputs)


class View:
    """A view of the trunk, an instance of its class, with memory for the tensors of a batch's adapters."""

    def __init__(self, trunk: nn.Module, *, merge: bool = False, positional: AbstractSet[str] = frozenset()) -> None:
        """`trunk`: the view's modules, not hosted yet. `merge`: whether the LoRA of an adapter that owns a batch may be
        folded into copies of the weights. `positional`: see `Sites`; there a batch is one adapter's."""
        self.trunk = trunk
        self._positional = positional
        self._merge = merge
        self._copies: dict[Any, Tensor] = {}
        self.gathering = Gathering()
        self._modules: dict[str, nn.Module] = {path: module for path, module in trunk.named_modules() if path}
        self._busy: set[str] = set()
        # Weak: an adapter that is gone takes its numbers along.
        self._known: WeakKeyDictionary[Packed, tuple[list[Given], Shrunk]] = WeakKeyDictionary()
        self._shrunk: Shrunk | None = None
        self._residuals: dict[str, Tensor] = {}
        self._ranges: dict[Span, LayerRange] = {}

    def range(self, span: Span) -> LayerRange:
        """Some of the view's layers, which do the work that the view was given."""
        found = self._ranges.get(span)
        if found is None:
            model, low, high = span
            found = self._ranges[span] = LayerRange(self.trunk.get_submodule(model), low, high)
        return found

    def take_up(self, adapters: Sequence[Carried]) -> None:
        """Give every module its work for a batch of rows that carry these, in `route.order`."""
        first = adapters[0] if adapters else ()
        owned = all(carried is first or carried == first for carried in adapters)
        positional = bool(self._positional) and any(
            not self._positional.isdisjoint(packed.structure.paths) for packed in first
        )
        if owned and len(first) == 1 and not self._merge and not positional:
            self._take_up_one(first[0], len(adapters))
            return
        # Who owns a batch with positions owns what is not of any row too: what positions give.
        whole = owned and positional
        found = row_runs(adapters, self.gathering.collect)
        runs = ((None if whole else rows, structure, weights) for rows, structure, weights in found)
        self.give(runs, None if whole else len(adapters), Shrunk())

    def _take_up_one(self, packed: Packed, rows: int) -> None:
        """One adapter's batch, as it was given before if it was."""
        known = self._known.get(packed)
        if known is None:
            weights, shrunk = Weights(packed.structure, [packed.flat], self.gathering.collect), Shrunk()
            self.give([(None, packed.structure, weights)], rows, shrunk)
            if len(self._known) == MOST_KNOWN:
                self._known.clear()
            works = [(path, self._modules[path].__dict__) for path in sorted(self._busy)]
            known = [(path, module, module["work"], module["records"]) for path, module in works], shrunk
            self._known[packed] = known
        given, self._shrunk = known
        for path, module, work, records in given:
            if work is not None:
                work.rows = rows
            module["work"], module["records"] = work, records
            self._busy.add(path)

    def give(self, runs: Iterable[tuple[Rows, Structure, Held]], rows: int | None, shrunk: Shrunk | None) -> None:
        """Give every module the additions of these runs of rows, in place of those that it had."""
        self.lay_down()
        additions: dict[str, list[Addition[Any]]] = {}
        for run, structure, weights in runs:
            first = 0
            for piece in structure.pieces:
                for path, addition in self._additions(run, weights, first, piece, shrunk):
                    additions.setdefault(path, []).append(addition)
                first += len(piece.shapes)
        for path, found in additions.items():
            module = self._hosted(path)
            # Stable: all updates of a linear first, in order, then what stands behind it.
            ordered = sorted(found, key=lambda addition: addition.behind)
            merged = self._merged(module, ordered, rows)
            work = ModuleWork(rows, ordered, in_place=owns_output(module), merged=merged)
            if work.residual is not None:
                self._hosted(work.residual).__dict__["records"] = True
            module.__dict__["work"] = work

    def _additions(
        self, run: Rows, weights: Held, first: int, piece: Piece, shrunk: Shrunk | None
    ) -> Iterator[tuple[str, Addition[Any]]]:
        """What a piece adds, by path of the module."""
        if isinstance(piece, LoraPiece):
            for member, path in enumerate(piece.paths):
                yield path, LoraAddition(run, weights, first, piece, member, shrunk)
        elif isinstance(piece, AffinePiece):
            yield piece.path, AffineAddition(run, weights, first, piece)
        elif isinstance(piece, InputPiece):
            bare_product = partial(product, self._hosted(piece.path))
            yield piece.path, InputAddition(run, weights, first, piece, bare_product)
        else:
            norm = None if piece.norm is None else partial(bare, self._hosted(piece.norm))
            if isinstance(piece, BottleneckPiece):
                yield piece.path, BottleneckAddition(run, weights, first, piece, norm)
            else:
                yield piece.path, FusionAddition(run, weights, first, piece, norm)

    def _merged(self, module: nn.Module, additions: Sequence[Addition[Any]], rows: int | None) -> Merged | None:
        """The updates that a linear may fold into its weight: those that come first and are for all rows."""
        if not self._merge or not owns_output(module):
            return None
        whole = takewhile(lambda addition: isinstance(addition, LoraAddition) and addition.rows == (0, rows), additions)
        found = [addition for addition in whole if isinstance(addition, LoraAddition) and addition.weights.count == 1]
        return Merged(cast(Any, module), found, self._copies) if found else None

    def lay_down(self) -> None:
        """Forget the batch: nothing of it is left, whatever happened in between."""
        for path in self._busy:
            self._modules[path].__dict__.update(work=None, records=False)
        self._busy.clear()
        self._residuals.clear()
        if self._shrunk is not None:
            self._shrunk.forget()
            self._shrunk = None
        self.gathering.reset()

    def _hosted(self, path: str) -> nn.Module:
        module = self._modules[path]
        host_module(module, path, self._residuals)
        self._busy.add(path)
        return module


class CompiledView(View):
    """A view whose forwards torch compiles; its trunk is an instance of the trunk's own class.

    What is compiled depends on which structures there are, and not on which rows have them: every structure is applied
    to every row, with zeros for the rows that have another one. So mixes, mounts and swaps compile nothing again.
    """

    def __init__(
        self,
        trunk: nn.Module,
        compile_module: Callable[[nn.Module], None],
        learn: Callable[[Sequence[Carried]], Mapping[Placed, Tensor]],
    ) -> None:
        """`compile_module`: compiles a module in place. `learn`: what rows carry -> all structures that the host has
        seen, with the zeros (P,) of a row that has another one."""
        super().__init__(trunk)
        self._learn = learn
        self._zeros: Mapping[Placed, Tensor] = {}
        self._row_weights: dict[Placed, RowWeights] = {}
        halves = [half for name in ("encoder", "decoder") if (half := getattr(trunk, name, None)) is not None]
        encoder_decoder = bool(getattr(trunk.config, "is_encoder_decoder", False))
        for module in [trunk, *(halves if encoder_decoder else [])]:
            compile_module(module)

    def take_up(self, adapters: Sequence[Carried]) -> None:
        """As `View.take_up`, in any order."""
        self._zeros = self._learn(adapters)
        if tuple(self._row_weights) != tuple(self._zeros):
            self._row_weights = {placed: RowWeights(placed[1]) for placed in self._zeros}
            self.give(((None, structure, weights) for (_, structure), weights in self._row_weights.items()), None, None)
        for (place, structure), weights in self._row_weights.items():
            zeros = self._zeros[place, structure]
            own = [carried[place] if len(carried) > place else None for carried in adapters]
            flats = [one.flat if one is not None and one.structure is structure else zeros for one in own]
            weights.flats = torch.stack(flats)

    def lay_down(self) -> None:
        """Forget the batch; the additions stay, for they hold nothing of it."""
        self._residuals.clear()
        for placed, weights in self._row_weights.items():
            weights.flats = self._zeros[placed][None]
