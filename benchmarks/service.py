"""What does HTTP cost beside the host alone, and what do eight tasks on one text cost beside eight requests?

    OMP_NUM_THREADS=1 python benchmarks/service.py     # some three minutes on two cores

LoRA of rank 8 on query and value with a head of 77 labels, 32 of them on all-MiniLM-L6-v2 in fp32, texts of 4 to 20
words. The service runs in this process on loopback; clients are processes of their own that keep their connections and
speak HTTP by hand, so that little of what is measured is theirs. First every answer must equal the host's to 1e-5.

Throughput: 64 clients with one row each, against `Host.predict` on batches of the size that the service made (as its
own figures count them), both in rows a second of wall time. Latency: one client, against the same rows asked of the
host in the service's process. Eight tasks: `predict_all` on one text, against eight single rows one after the other.
Swaps: the 99th percentile of 16 clients, with and without a task being swapped twenty times a second.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from host_adapters import METHODS, MINILM, OWN, percentile, saved, write
from host_swaps import text

import adapterkit as ak
from adapterkit.manifest import open_manifest
from adapterkit.serving.app import create_app
from adapterkit.serving.fleet import Fleet

PORT = 8765
TASKS = 32
SECONDS = 8.0


def asked(number: int) -> dict[str, str]:
    """The row of one request."""
    return {"task": f"t{number % TASKS}", "text": text(number)}


def client(worker: int, threads: int, seconds: float, path: str, results: Any) -> None:
    """Ask until the time is over, from several threads with a connection each; (seconds, error) of every request."""
    found: list[tuple[float, bool]] = []
    until = time.monotonic() + seconds

    def ask(thread: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        number = worker * 7919 + thread * 104_729
        while time.monotonic() < until:
            number += 1
            body = (
                {"row": text(number), "tasks": [f"t{n}" for n in range(8)]}
                if "all" in path
                else {"rows": [asked(number)]}
            )
            started = time.perf_counter()
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
            reply = connection.getresponse()
            raw = reply.read()
            found.append((time.perf_counter() - started, reply.status != 200 or b'"error"' in raw))

    running = [threading.Thread(target=ask, args=(thread,)) for thread in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    results.put(found)


def load(clients: int, seconds: float = SECONDS, path: str = "/v1/predict") -> tuple[list[float], float]:
    """Seconds of every request of so many clients, and requests a second. Stops where one was not answered."""
    context = multiprocessing.get_context("spawn")
    results, processes = context.Queue(), min(2, clients)
    shares = [clients // processes + (n < clients % processes) for n in range(processes)]
    workers = [
        context.Process(target=client, args=(n, share, seconds, path, results)) for n, share in enumerate(shares)
    ]
    for worker in workers:
        worker.start()
    found = [pair for _ in workers for pair in results.get()]
    for worker in workers:
        worker.join()
    if any(wrong for _, wrong in found):
        raise SystemExit(f"{sum(wrong for _, wrong in found)} of {len(found)} requests were not answered")
    return [took for took, _ in found], len(found) / seconds


@contextmanager
def served(fleet: Fleet) -> Iterator[None]:
    """The service, on loopback, in a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(create_app(fleet), port=PORT, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield
    server.should_exit = True
    thread.join()


def figure(name: str) -> float:
    """One of the service's own figures."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return next(float(line.split(" ")[1]) for line in lines if line.startswith(name + " "))


def check(fleet: Fleet) -> float:
    """Largest difference of a probability between the service and the host."""
    rows = [asked(number) for number in range(64)]
    connection = http.client.HTTPConnection("127.0.0.1", PORT)
    connection.request("POST", "/v1/predict", json.dumps({"rows": rows}))
    answers = json.loads(connection.getresponse().read())["answers"]
    alone = [fleet.host.predict([(fleet.routes[row["task"]].arms["stable"].mounted, row["text"])])[0] for row in rows]
    largest = max(
        abs(found["answer"]["probabilities"][label] - value)
        for found, expected in zip(answers, alone, strict=True)
        for label, value in expected["probabilities"].items()
    )
    if largest > 1e-5:
        raise SystemExit(f"the service and the host differ by {largest:.1e}")
    return largest


def host_rows_per_s(fleet: Fleet, batch_rows: int, seconds: float = SECONDS) -> float:
    """Rows a second of the host alone, in batches of this size."""
    rows = [(fleet.routes[r["task"]].arms["stable"].mounted, r["text"]) for r in map(asked, range(4096))]
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        place = done % (len(rows) - batch_rows)
        fleet.host.predict(rows[place : place + batch_rows])
        done += batch_rows
    return done / (time.perf_counter() - started)


def median_ms(seconds: Sequence[float]) -> float:
    return statistics.median(seconds) * 1e3


def main() -> None:
    """Measure, in turns, and write the result."""
    backbone = ak.Backbone.load(MINILM, dtype="float32", device="cpu")
    with tempfile.TemporaryDirectory() as scratch, ak.Host(backbone, slots=64) as host:
        folders = saved(Path(scratch), backbone, METHODS["query and value"], OWN, TASKS + 1)
        fleet = Fleet(host)
        for number, folder in enumerate(folders[:TASKS]):
            fleet.mount(f"t{number}", str(folder), open_manifest(folder))
        with served(fleet):
            found: dict[str, Any] = {"largest difference": check(fleet)}
            load(8, 2.0)  # warm-up
            ratios, added, shares = [], [], []
            for _ in range(3):
                rows, batches = figure("adapterkit_batch_rows_sum"), figure("adapterkit_batch_rows_count")
                _, per_s = load(64)
                # Every row of a batch observes the batch's size, so the mean over rows is Σn²/Σn.
                size = (figure("adapterkit_batch_rows_sum") - rows) / (figure("adapterkit_batch_rows_count") - batches)
                ratios.append(per_s / host_rows_per_s(fleet, max(1, round(size))))
                alone = []
                for number in range(200):
                    row = asked(number)
                    started = time.perf_counter()
                    host.predict([(fleet.routes[row["task"]].arms["stable"].mounted, row["text"])])
                    alone.append(time.perf_counter() - started)
                one, _ = load(1, 4.0)
                added.append(median_ms(one) - median_ms(alone))
                every, _ = load(1, 4.0, "/v1/predict_all")
                shares.append(statistics.median(every) / (8 * statistics.median(one)))
            found |= {
                "service / host alone, rows a second, 64 clients": ratios,
                "added ms at one client": added,
                "8 tasks on one text / 8 requests": shares,
                "latency": {},
            }
            for clients in (1, 4, 16, 64):
                took, per_s = load(clients, 5.0)
                found["latency"][str(clients)] = {
                    "requests/s": round(per_s, 1),
                    **{f"p{n} ms": round(percentile(took, n / 100) * 1e3, 1) for n in (50, 95, 99)},
                }
            still, moving = [], []
            for _ in range(3):
                still.append(percentile(load(16, 4.0)[0], 0.99))
                stop = threading.Event()

                def swap(stop: threading.Event = stop) -> None:
                    number = 0
                    while not stop.wait(0.05):
                        number += 1
                        folder = folders[TASKS if number % 2 else 0]
                        fleet.mount("t0", str(folder), open_manifest(folder))

                thread = threading.Thread(target=swap)
                thread.start()
                moving.append(percentile(load(16, 4.0)[0], 0.99))
                stop.set()
                thread.join()
            found["p99 with swaps / without"] = [one / other for one, other in zip(moving, still, strict=True)]
    write("service", found)


if __name__ == "__main__":
    main()
