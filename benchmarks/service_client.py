"""A client of a service that asks without a pause, for benchmarks/service.py: a process without torch.

    python benchmarks/service_client.py '{"port": 18765, "clients": 8, "seconds": 4, "tasks": 32, "first": 0}'

Threads with a connection each, HTTP by hand. Prints [[seconds, failed], …] of every request.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import threading
import time

WORDS = (
    *("my", "card", "was", "lost", "and", "the", "bank", "will", "send", "a", "new", "one"),
    *("where", "is", "the", "nearest", "station", "when", "does", "the", "train", "leave"),
)


def text(number: int) -> str:
    """4 to 20 words, others for every number."""
    chance = random.Random(number)
    return " ".join(chance.choice(WORDS) for _ in range(chance.randint(4, 20)))


def task_of(number: int, tasks: int, zipf: bool) -> int:
    """The task of a request: in turn, or by Zipf's law (weight 1 / rank)."""
    if not zipf:
        return number % tasks
    return random.Random(number).choices(range(tasks), [1 / (rank + 1) for rank in range(tasks)])[0]


def main() -> None:
    """Ask until the time is over."""
    given = json.loads(sys.argv[1])
    path, tasks, zipf = given.get("path", "/v1/predict"), given["tasks"], given.get("zipf", False)
    bodies = []
    for number in range(512):
        if path.endswith("all"):
            body: dict[str, object] = {"row": text(number), "tasks": [f"t{n}" for n in range(8)]}
        else:
            body = {"rows": [{"task": f"t{task_of(number, tasks, zipf)}", "text": text(number)}]}
        bodies.append(json.dumps(body))
    found: list[tuple[float, bool]] = []
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    until = time.monotonic() + given["seconds"]

    def ask(thread: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", given["port"])
        number = given["first"] + thread * 37
        while time.monotonic() < until:
            number += 1
            started = time.perf_counter()
            connection.request("POST", path, bodies[number % len(bodies)], {"content-type": "application/json"})
            reply = connection.getresponse()
            raw = reply.read()
            found.append((time.perf_counter() - started, reply.status != 200 or b'"error"' in raw))

    running = [threading.Thread(target=ask, args=(thread,)) for thread in range(given["clients"])]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
