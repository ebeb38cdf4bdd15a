"""What somebody should know at once, told to web addresses: from a thread of its own, a few times over, and no more."""

import json
import logging
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

logger = logging.getLogger(__name__)

WAITING = 256
TRIES = 3
TIMEOUT_S = 5.0


class Alerts:
    """Sends JSON objects to addresses of the web. Nobody waits for it, and what cannot be sent is counted.
    `pause_s`: before the second try; each further one waits twice as long."""

    def __init__(self, addresses: Sequence[str], pause_s: float = 1.0) -> None:
        self._addresses, self._pause_s = tuple(addresses), pause_s
        self._queue: queue.Queue[Mapping[str, Any] | None] = queue.Queue(WAITING)
        self.sent = self.lost = 0
        if self._addresses:
            threading.Thread(target=self._run, name="adapterkit-alerts", daemon=True).start()

    def send(self, found: Mapping[str, Any]) -> None:
        """Let one object wait to be sent."""
        if not self._addresses:
            return
        try:
            self._queue.put_nowait(found)
        except queue.Full:
            self.lost += len(self._addresses)

    def stop(self) -> None:
        """Send no more than what waits."""
        if self._addresses:
            self._queue.put(None)

    def _run(self) -> None:
        while (found := self._queue.get()) is not None:
            for address in self._addresses:
                if self._told(address, json.dumps(found).encode()):
                    self.sent += 1
                else:
                    self.lost += 1

    def _told(self, address: str, body: bytes) -> bool:
        problem: Exception | None = None
        for attempt in range(TRIES):
            if attempt:
                time.sleep(self._pause_s * 2 ** (attempt - 1))
            request = urllib.request.Request(address, body, {"content-type": "application/json"})
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S):
                    return True
            except (OSError, ValueError) as error:
                problem = error
                if isinstance(error, urllib.error.HTTPError):
                    error.close()
        logger.error("%s was not told: %s", address, problem)
        return False
