"""The heart of a host: forwards of the backbone in which every row carries its own adapter.

A forward runs on a view of the trunk that is leased to it alone, so that there is neither a lock around it nor state
that two threads share. What is mounted meanwhile changes nothing of a forward in flight: it holds the adapters' tensors
themselves, and those are never written again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

from adapterkit.backbone import Backbone
from adapterkit.host import route
from adapterkit.host.fusing import FusionStep
from adapterkit.host.hosted import bare, host_module, owns_output, view_of
from adapterkit.host.products import AffineStep, BottleneckStep, LoraStep, Shrunk, Step, Weights, Work
from adapterkit.host.route import Layers, Segment
from adapterkit.host.structure import AffinePiece, BottleneckPiece, LoraPiece, Piece


class View:
    """A view of the trunk with the work of one batch at a time.

    Attributes:
        trunk: an instance of the trunk's own class.
    """

    def __init__(self, trunk: nn.Module) -> None:
        """
        Args:
            trunk: the view's modules, not hosted yet.
        """
        self.trunk = trunk
        self._modules = {path: module for path, module in trunk.named_modules() if path}
        self._busy: dict[str, nn.Module] = {}
        self._residuals: dict[str, Tensor] = {}

    def take_up(self, segments: Sequence[Segment], rows: int) -> None:
        """Give every module its work for a batch of so many rows."""
        shrunk = Shrunk()
        steps: dict[str, list[tuple[int, Step]]] = {}
        for segment in segments:
            for structure, weights in segment.layers:
                first = 0
                for piece in structure.pieces:
                    for path, rank, step in self._steps(piece, segment, weights, first, shrunk):
                        steps.setdefault(path, []).append((rank, step))
                    first += len(piece.shapes)
        for path, found in steps.items():
            module = self._hosted(path)
            # Stable: all updates of a linear first, in order, then what stands behind it.
            ordered = [step for _, step in sorted(found, key=lambda pair: pair[0])]
            module.__dict__["work"] = Work(rows, ordered, in_place=owns_output(module))

    def _steps(
        self, piece: Piece, segment: Segment, weights: Weights, first: int, shrunk: Shrunk
    ) -> Iterator[tuple[str, int, Step]]:
        low, high = segment.low, segment.high
        if isinstance(piece, LoraPiece):
            for member, path in enumerate(piece.paths):
                yield path, 0, LoraStep(low, high, weights, first, piece, member, shrunk)
        elif isinstance(piece, AffinePiece):
            yield piece.path, 0, AffineStep(low, high, weights, first, piece)
        else:
            residual = norm = None
            if piece.residual is not None:
                self._hosted(piece.residual).__dict__["residuals"] = self._residuals
                residual = partial(self._residuals.__getitem__, piece.residual)
            if piece.norm is not None:
                norm = partial(bare, self._hosted(piece.norm))
            if isinstance(piece, BottleneckPiece):
                yield piece.path, 1, BottleneckStep(low, high, weights, first, piece, residual, norm)
            else:
                yield piece.path, 1, FusionStep(low, high, weights, first, piece, residual, norm)

    def _hosted(self, path: str) -> nn.Module:
        module: nn.Module = self._modules[path]
        host_module(module, path)
        self._busy[path] = module
        return module

    def lay_down(self) -> None:
        """Forget the batch: nothing of it is left, whatever happened in between."""
        for module in self._busy.values():
            module.__dict__.pop("work", None)
            module.__dict__.pop("residuals", None)
        self._busy.clear()
        self._residuals.clear()


class Engine:
    """Runs a backbone with another adapter in every row.

    Threads may share one engine. Each forward in flight holds a view of its own: modules, and no tensor that the
    backbone does not have.
    """

    def __init__(self, backbone: Backbone, *, compile: bool = False) -> None:  # noqa: A002
        """
        Args:
            backbone: bare; it is left as it is.
            compile: let torch compile the views' forwards.

        Raises:
            SiteError: an adapter is attached to the backbone.
        """
        self.backbone = backbone
        self._pristine = view_of(backbone.trunk)
        self._free: deque[View] = deque()

    def order(self, adapters: Sequence[Layers]) -> list[int]:
        """A stable permutation of a batch's rows after which `routed` is cheapest."""
        return route.order(adapters)

    @contextmanager
    def routed(self, adapters: Sequence[Layers]) -> Iterator[nn.Module]:
        """A trunk in whose forwards every row carries its own adapter.

        Args:
            adapters: what each row of the batch carries, in `order`.

        Yields:
            An instance of the trunk's class, for any number of forwards in this thread, over exactly these rows or
            over each of them repeated in place (beams, choices). Its encoder and its decoder work by themselves too.
        """
        view = self._lease()
        try:
            view.take_up(list(route.segments(adapters)), len(adapters))
            yield view.trunk
        finally:
            view.lay_down()
            self._free.append(view)

    def _lease(self) -> View:
        try:
            return self._free.pop()
        except IndexError:
            return View(view_of(self._pristine))
