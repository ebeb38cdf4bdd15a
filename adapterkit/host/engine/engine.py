"""The heart of a host: forwards of the backbone in which every row carries its own adapter.

A forward runs on a view of the trunk that is leased to it alone, so that there is neither a lock around it nor state
that two threads share. What is mounted meanwhile changes nothing of a forward in flight: it holds the adapters' tensors
themselves, and those are never written again.
"""

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from adapterkit.backbone import Backbone
from adapterkit.backbone.cut import can_be_cut, layers_of
from adapterkit.backbone.packed_weights import Packing, pack, plain_source
from adapterkit.backbone.sites import Side
from adapterkit.errors import RoutingError
from adapterkit.host.engine import route
from adapterkit.host.engine.idle_work import without_idle_work
from adapterkit.host.engine.route import Carried
from adapterkit.host.engine.shared_modules import check_unused, view_of
from adapterkit.host.engine.structure import FusionPiece
from adapterkit.host.engine.view import CompiledView, LayerRange, Placed, Span, View


class Engine:
    """Runs a backbone with another adapter in every row. Threads may share one engine: each forward in flight holds a
    view of its own, of modules, and no tensor that the backbone does not have."""

    def __init__(
        self,
        backbone: Backbone,
        *,
        compile: bool = False,  # noqa: A002
        merge: bool = False,
        compiler: str | Any = "inductor",
        packed: Packing = "auto",
    ) -> None:
        """Arguments and errors as for `Host`; `compiler` is torch's name of the backend, or a backend."""
        if compile and merge:
            raise ValueError(
                "a compiled host has one graph for every batch, and merges nothing: leave one of the two off"
            )
        self.backbone = backbone
        self._compile = compile
        self._merge = merge
        self._compiler = compiler
        self._trunk = backbone.trunk
        if packed == "auto" and not compile and not merge:
            check_unused(self._trunk)
            pack(self._trunk, [site.path for site in backbone.known_sites.sites if site.linear])
        else:
            self._trunk = plain_source(self._trunk)
        self._pristine = view_of(self._trunk)
        self._free: deque[View] = deque()
        self._known: dict[Placed, Tensor] = {}
        self._lock = threading.Lock()

    order = staticmethod(route.order)

    def mixes(self, adapters: Sequence[Carried]) -> bool:
        """Whether rows that carry these can share a forward."""
        kinds = set(adapters) if self._positional else set()
        return len(kinds) <= 1 or all(
            self._positional.isdisjoint(packed.structure.paths) for carried in kinds for packed in carried
        )

    @cached_property
    def _positional(self) -> frozenset[str]:
        """See `Sites`."""
        return self.backbone.known_sites.positional

    @contextmanager
    def routed(self, adapters: Sequence[Carried]) -> Iterator[nn.Module]:
        """A trunk in whose forwards every row carries its own adapter; `adapters` are given in `order`.

        It is an instance of the trunk's class, for any number of forwards in this thread, over exactly these rows or
        over each of them repeated in place (beams, choices). Its encoder and its decoder work by themselves too.
        """
        with self._leased(adapters) as view:
            yield view.trunk

    @contextmanager
    def routed_range(self, adapters: Sequence[Carried], span: Span) -> Iterator[LayerRange]:
        """Some layers of such a trunk, for one batch that changes between two layers. Only where it can be cut."""
        with self._leased(adapters) as view:
            yield view.range(span)

    @cached_property
    def can_be_cut(self) -> bool:
        """Whether some layers of the trunk can run alone. A compiled one would be compiled anew for each range."""
        if self._compile or not can_be_cut(self._pristine):
            return False
        _, layers = layers_of(self._pristine)
        return len(layers) == self.layer_count

    @property
    def side(self) -> Side:
        """The side that reads the text."""
        return "encoder" if "encoder" in self.backbone.known_sites.layer_count else "decoder"

    @property
    def layer_count(self) -> int:
        """How many layers that side has, 0 where they are not known."""
        return self.backbone.known_sites.layer_count.get(self.side, 0)

    @contextmanager
    def _leased(self, adapters: Sequence[Carried]) -> Iterator[View]:
        try:
            view = self._free.pop()
        except IndexError:
            view = self._new_view()
        try:
            view.take_up(adapters)
            yield view
        finally:
            view.lay_down()
            self._free.append(view)

    def _new_view(self) -> View:
        trunk = view_of(self._pristine)
        if self._compile:
            return CompiledView(trunk, self._compile_module, self._learn)
        return View(without_idle_work(trunk), merge=self._merge, positional=self._positional)

    def _compile_module(self, module: nn.Module) -> None:
        module.compile(dynamic=True, backend=self._compiler)

    def _learn(self, adapters: Sequence[Carried]) -> Mapping[Placed, Tensor]:
        """All structures seen so far, with their zeros; a new one makes torch compile once more.
        Raises RoutingError: an adapter reads positions, or is a fusion."""
        found = {(place, one.structure): one.flat for carried in adapters for place, one in enumerate(carried)}
        new = {placed: torch.zeros_like(flat) for placed, flat in found.items() if placed not in self._known}
        for _, structure in new:
            reads_positions = not self._positional.isdisjoint(structure.paths)
            if reads_positions or any(isinstance(piece, FusionPiece) for piece in structure.pieces):
                what = "what reads positions" if reads_positions else "a fusion"
                raise RoutingError(f"a compiled host cannot carry {what}", remedy="Use compile=False.")
        if new:
            with self._lock:
                self._known = {**self._known, **{key: zeros for key, zeros in new.items() if key not in self._known}}
        return self._known
