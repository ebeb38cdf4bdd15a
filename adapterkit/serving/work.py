"""The rows that wait for the host: batched over all tasks and requests, in turn over keys, given up when nobody waits.

A batch is whatever waits when the host is free: a row that comes alone waits for nothing, and under load batches grow
by themselves. Computed and generated answers have a thread each, since one text takes as long as many labels.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapterkit.errors import AdapterkitError, NotMountedError, ServingError
from adapterkit.serving.fleet import Fleet, Receipt, Route
from adapterkit.serving.quoting import wordless
from adapterkit.serving.requests import QueueFullError
from adapterkit.serving.settings import Limits

logger = logging.getLogger(__name__)

Observe = Callable[["Item", "Done"], None]


@dataclass(eq=False)
class Item:
    """One row that waits for the answer of a task."""

    task: str
    row: Any
    key: str
    """Who asks, for sticky splits."""
    owner: str
    """Whose turn it takes while it waits: the name of the API key."""
    generation: Mapping[str, Any] | None
    """Settings of `Host.generate`; None asks for an answer."""
    future: asyncio.Future[Done]
    """What the request awaits."""
    since: float = field(default_factory=time.monotonic)
    """When it came, in seconds of a clock that only goes forward."""

    @property
    def characters(self) -> int:
        """How long the row is, roughly."""
        return len(self.row) if isinstance(self.row, str) else sum(len(str(value)) for value in self.row.values())


@dataclass(frozen=True)
class Done:
    """An answer with its receipt, or why there is none."""

    answer: Any
    receipt: Receipt | None
    error: AdapterkitError | None = None
    batch_rows: int = 0
    """How many rows the host answered together with it."""


Found = dict[int, Done]
"""By place in a batch."""


class Work:
    """The queue of a service and the two threads that work it off, which tell `observe` of every answer."""

    def __init__(self, fleet: Fleet, limits: Limits, observe: Observe | None = None) -> None:
        self._fleet, self._limits, self._observe = fleet, limits, observe
        self._lock = threading.Lock()
        self._changed = {generates: threading.Condition(self._lock) for generates in (False, True)}
        self._waiting: dict[bool, OrderedDict[str, deque[Item]]] = {False: OrderedDict(), True: OrderedDict()}
        self._counts = {False: 0, True: 0}
        self._rows_per_s = 100.0
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, args=(generates,), name=name, daemon=True)
            for generates, name in ((False, "adapterkit-answers"), (True, "adapterkit-texts"))
        ]

    def start(self) -> None:
        """Begin to answer."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Answer what waits, and end."""
        with self._lock:
            self._stopping = True
            for changed in self._changed.values():
                changed.notify()
        for thread in self._threads:
            thread.join()

    @property
    def waiting(self) -> int:
        """How many rows wait."""
        return sum(self._counts.values())

    def submit(self, items: Sequence[Item]) -> None:
        """Let rows wait for their answers: all of them or none.
        Raises QueueFullError: too many wait; ServingError: the service is stopping."""
        with self._lock:
            if self._stopping:
                raise ServingError("this service is stopping", remedy="Ask another replica.")
            if self.waiting + len(items) > self._limits.queued_rows:
                raise QueueFullError(self.waiting, max(1, round(self.waiting / self._rows_per_s)))
            for item in items:
                route = self._fleet.routes.get(item.task)
                generates = item.generation is not None or (route is not None and route.generates)
                self._waiting[generates].setdefault(item.owner, deque()).append(item)
                self._counts[generates] += 1
                self._changed[generates].notify()  # the other thread sleeps on

    def _run(self, generates: bool) -> None:
        while True:
            with self._lock:
                while not self._counts[generates] and not self._stopping:
                    self._changed[generates].wait()
                if not self._counts[generates]:
                    return
                batch = self._take(generates)
            if not batch:
                continue
            started = time.monotonic()
            try:
                found = self._answer(batch, generates)
            except Exception as error:  # noqa: BLE001 - logged, without its words
                logger.error("a batch of %d rows was not answered: %s", len(batch), wordless(error))
                found = [_failed(error, batch)] * len(batch)
            took = max(time.monotonic() - started, 1e-4)
            self._rows_per_s += 0.2 * (len(batch) / took - self._rows_per_s)
            pairs = list(zip(batch, found, strict=True))
            if self._observe is not None:
                for item, done in pairs:
                    self._observe(item, done)
            _give(pairs)

    def _take(self, generates: bool) -> list[Item]:
        """The next batch: one row of each owner in turn, without those that nobody waits for. The lock is held."""
        queues, batch, characters = self._waiting[generates], list[Item](), 0
        while queues and len(batch) < self._limits.batch_rows:
            owner, queue = queues.popitem(last=False)
            item = queue[0]
            if not item.future.cancelled():
                if batch and characters + item.characters > self._limits.batch_characters:
                    queues[owner] = queue
                    queues.move_to_end(owner, last=False)
                    break
                characters += item.characters
                batch.append(item)
            queue.popleft()
            self._counts[generates] -= 1
            if queue:
                queues[owner] = queue
        return batch

    def _answer(self, batch: Sequence[Item], generates: bool) -> list[Done]:
        """Answer rows by what is routed now; those whose version was taken off in between, by what is routed then."""
        found: Found = {}
        for _ in range(3):
            open_ = [place for place in range(len(batch)) if place not in found]
            if not open_:
                break
            routed = self._address(batch, open_, found)
            by_settings: dict[str, list[int]] = {}
            for place in routed:
                by_settings.setdefault(repr(batch[place].generation), []).append(place)
            for places in by_settings.values():
                self._ask(batch, places, routed, found)
        lost = _failed(NotMountedError("the task was taken off while this row waited"), batch)
        return [found.get(place, lost) for place in range(len(batch))]

    def _address(self, batch: Sequence[Item], places: Sequence[int], found: Found) -> dict[int, tuple[Route, str]]:
        routed = {}
        for place in places:
            try:
                routed[place] = self._fleet.find(batch[place].task, batch[place].key)
            except AdapterkitError as error:
                found[place] = _failed(error, batch)
        return routed

    def _ask(
        self, batch: Sequence[Item], places: Sequence[int], routed: Mapping[int, tuple[Route, str]], found: Found
    ) -> None:
        rows = [(routed[place][0].arms[routed[place][1]].mounted, batch[place].row) for place in places]
        settings = batch[places[0]].generation
        try:
            ask = self._fleet.host.answers if settings is None else self._fleet.host.texts
            answers = ask(rows, errors="return", batch_size=self._limits.batch_rows, **(settings or {}))
        except Exception as error:
            if len({name for name, _ in rows}) == 1:
                raise  # whoever asked for this version alone logs it and answers for it
            logger.warning("%d rows failed, their versions are asked one by one: %s", len(rows), wordless(error))
            for name in dict.fromkeys(name for name, _ in rows):  # a version that fails costs no other its answers
                own = [place for place, (other, _) in zip(places, rows, strict=True) if other == name]
                try:
                    self._ask(batch, own, routed, found)
                except Exception as error:  # noqa: BLE001 - logged, without its words
                    logger.error("%s did not answer: %s", name, wordless(error))
                    found |= dict.fromkeys(own, _failed(error, batch))
            return
        for place, answered in zip(places, answers, strict=True):
            route, arm = routed[place]
            if isinstance(answered.answer, NotMountedError):
                continue  # it was taken off between routing and answering: asked again
            if isinstance(answered.answer, AdapterkitError):
                found[place] = _failed(answered.answer, batch)
            elif answered.mounted is not None:
                receipt = self._fleet.receipt(route, arm, answered.mounted)
                found[place] = Done(answered.answer, receipt, None, len(batch))


def _failed(error: Exception, batch: Sequence[Item]) -> Done:
    shown = error if isinstance(error, AdapterkitError) else ServingError("the answer could not be computed")
    return Done(None, None, shown, len(batch))


def _give(pairs: Sequence[tuple[Item, Done]]) -> None:
    """Hand answers to the requests that await them, in their own thread, woken once; those that have gone get none."""

    def give(own: Sequence[tuple[Item, Done]]) -> None:
        for item, done in own:
            if not item.future.done():
                item.future.set_result(done)

    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Item, Done]]] = {}
    for item, done in pairs:
        by_loop.setdefault(item.future.get_loop(), []).append((item, done))
    for loop, own in by_loop.items():
        loop.call_soon_threadsafe(give, own)
