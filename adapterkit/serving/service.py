"""What every path of a service uses: who asks, what is read, and answers awaited until a deadline."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from adapterkit.errors import ServingError
from adapterkit.serving.figures import Figures
from adapterkit.serving.fleet import Fleet, Receipt
from adapterkit.serving.guarded import body_of, error_facts, key_of
from adapterkit.serving.keys import Key, Keys, Scope
from adapterkit.serving.receipts import signed
from adapterkit.serving.requests import Model, QueueFullError, RequestError, read
from adapterkit.serving.settings import Limits
from adapterkit.serving.traces import Traces
from adapterkit.serving.work import Done, Item, Work

PATIENCE_S = 0.03
"""How long a request waits before its connection is looked at."""


@dataclass
class Service:
    """All that a request needs: the fleet, the rows that wait, who may ask, how much, and what is counted."""

    fleet: Fleet
    keys: Keys
    limits: Limits
    figures: Figures
    work: Work
    signer: Any = None
    traces: Traces | None = None
    embedding: int = 0

    async def open(self, request: Request, scope: Scope, model: type[Model]) -> tuple[Key, Model]:
        """Who asks, and for what. Raises RequestError."""
        key = key_of(request, self.keys, scope)
        return key, read(model, await body_of(request, self.limits), self.limits)

    async def answer(
        self, request: Request, rows: Sequence[tuple[str, Any]], key: str, owner: Key, generation: Any = None
    ) -> list[Done]:
        """Answers to rows, each (task, row), or errors in their places. Raises RequestError: the deadline passed, or
        the client has gone; QueueFullError, ServingError: nothing was begun."""
        self._check_open()
        loop, sticky = asyncio.get_running_loop(), key or owner.name
        with nullcontext(list[Done]()) if self.traces is None else self.traces.asking(request, len(rows)) as told:
            items = [Item(task, row, sticky, owner.name, generation, loop.create_future()) for task, row in rows]
            self.work.submit(items)
            await self._await(request, items)
            told += [item.future.result() for item in items]
            return told

    async def _await(self, request: Request, items: Sequence[Item]) -> None:
        """Wait for answers. Where nobody does any more, what is not answered yet is given up."""
        loop = asyncio.get_running_loop()
        waiting: set[asyncio.Future[Any]] = {item.future for item in items}
        gone: asyncio.Task[None] | None = None
        until = loop.time() + self.limits.deadline_s
        try:
            # Most answers are there before it is worth looking whether somebody still waits for them.
            _, waiting = await asyncio.wait(waiting, timeout=min(PATIENCE_S, self.limits.deadline_s))
            while waiting:
                gone = gone or asyncio.ensure_future(_gone(request))
                _, waiting = await asyncio.wait(
                    {*waiting, gone}, timeout=until - loop.time(), return_when=asyncio.FIRST_COMPLETED
                )
                if gone.done():
                    raise RequestError(499, "gone", "the client has gone")
                waiting.discard(gone)
                if waiting and loop.time() >= until:
                    raise RequestError(504, "deadline", f"no answer within {self.limits.deadline_s:g} s")
        finally:
            if gone is not None:
                gone.cancel()
            for future in waiting:
                future.cancel()

    async def features(self, texts: Sequence[str], adapter: str | None) -> list[Any]:
        """Hidden states of texts, bounded like rows. Raises as `answer`."""
        self._check_open()
        if self.embedding + len(texts) > self.limits.queued_rows:
            raise QueueFullError(self.embedding, 1)
        self.embedding += len(texts)
        running = asyncio.get_running_loop().run_in_executor(None, self.fleet.host.features, texts, adapter)
        running.add_done_callback(lambda _: setattr(self, "embedding", self.embedding - len(texts)))
        await asyncio.wait({running}, timeout=self.limits.deadline_s)
        if not running.done():
            running.cancel()
            raise RequestError(504, "deadline", f"no answer within {self.limits.deadline_s:g} s")
        return running.result()

    def _check_open(self) -> None:
        if self.fleet.draining:
            raise ServingError("this service is being drained", remedy="Ask another replica.")

    def facts(self, done: Done) -> dict[str, Any]:
        """One answer as JSON."""
        if done.error is not None or done.receipt is None:
            return {"error": error_facts(done.error) if done.error else {"code": "internal", "message": "no receipt"}}
        confidence = done.answer.get("confidence") if isinstance(done.answer, Mapping) else None
        return {"answer": done.answer, "confidence": confidence, "receipt": self.receipt(done.receipt, done.answer)}

    def receipt(self, receipt: Receipt, answer: Any) -> dict[str, Any]:
        """A receipt as JSON, signed where the service has a key."""
        facts = dict(vars(receipt))
        return facts if self.signer is None else signed(self.signer, facts, answer)


async def _gone(request: Request) -> None:
    """Ends when the client has gone. The body was read, so all that can still come is that."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
