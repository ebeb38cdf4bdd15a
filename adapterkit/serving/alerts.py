"""What somebody should know at once, told to web addresses: from a thread of its own, a few times over, and no more."""

import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from adapterkit.serving.beside import Beside

logger = logging.getLogger(__name__)

WAITING = 256
TRIES = 3
TIMEOUT_S = 5.0


class Alerts:
    """Sends JSON objects to addresses of the web. Nobody waits for it, and what cannot be sent is counted.
    `pause_s`: before the second try; each further one waits twice as long."""

    def __init__(self, addresses: Sequence[str], pause_s: float = 1.0) -> None:
        self._addresses, self._pause_s = tuple(addresses), pause_s
        self._telling = Beside[Mapping[str, Any]]("adapterkit-alerts", self._tell, waiting=WAITING, together=1)
        self.sent = self._failed = 0
        if self._addresses:
            self._telling.start()

    @property
    def lost(self) -> int:
        """How many could not be sent."""
        return self._failed + self._telling.left_out * len(self._addresses)

    def send(self, found: Mapping[str, Any]) -> None:
        """Let one object wait to be sent."""
        if self._addresses:
            self._telling.offer(found)

    def stop(self) -> None:
        """Send no more than what waits."""
        if self._addresses:
            self._telling.stop(patience_s=0.0)

    def _tell(self, found: Sequence[Mapping[str, Any]]) -> None:
        for body in (json.dumps(each).encode() for each in found):
            for address in self._addresses:
                told = self._told(address, body)
                self.sent, self._failed = self.sent + told, self._failed + (not told)

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
