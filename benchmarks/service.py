"""What does HTTP cost beside the host alone, beside what people build without adapterkit, and under swaps?

    OMP_NUM_THREADS=1 python benchmarks/service.py               # under five minutes on two cores
    OMP_NUM_THREADS=1 python benchmarks/service.py --only tasks  # one part of it

LoRA of rank 8 on query and value with a head of 77 labels, on all-MiniLM-L6-v2 in fp32, texts of 4 to 20 words. The
service runs in this process on loopback; clients are processes of their own without torch that keep their connections.
First every answer must equal the host's to 1e-5. What was loaded is taken out of Python's collector, as `serve` does.

ratio    64 clients with one row each on 32 tasks, against `Host.predict` on batches of the size that the service made
         (as its own figures count them), both in rows a second of wall time; one client, against the same rows asked of
         the host in this process; `predict_all` for 8 tasks, against eight single rows one after the other. In turns.
         Beside wall time stands CPU time of the server's process, which says the same on a machine that is busy.
clients  requests a second and percentiles for 1 to 64 clients
tasks    the same for 1 to 256 tasks, and for 256 tasks by Zipf's law on 26 slots against 256 slots
swaps    the 99th percentile of 16 clients, with and without a task being swapped twenty times a second
peers    16 clients on 8 tasks: this service, and benchmarks/service_peers.py; memory in RSS of the server's process
"""

from __future__ import annotations

import argparse
import gc
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import uvicorn
from host_adapters import METHODS, MINILM, OWN, conditions, percentile, saved, write
from service_client import text

import adapterkit as ak
from adapterkit.manifest import open_manifest
from adapterkit.serving.app import create_app
from adapterkit.serving.fleet import Fleet

PORT = 18_765
TASKS, MANY, FEW_SLOTS = 32, 256, 26
SECONDS = 4.0
HERE = Path(__file__).resolve().parent


def asked(number: int) -> dict[str, str]:
    """The row of one request."""
    return {"task": f"t{number % TASKS}", "text": text(number)}


def load(clients: int, seconds: float = SECONDS, **more: Any) -> tuple[list[float], float]:
    """Seconds of every request of so many clients, and requests a second. Stops where one was not answered."""
    processes = min(2, clients)
    workers = []
    for n in range(processes):
        share = clients // processes + (n < clients % processes)
        given = {"port": PORT, "clients": share, "seconds": seconds, "tasks": TASKS, "first": n * 7919, **more}
        command = [sys.executable, str(HERE / "service_client.py"), json.dumps(given)]
        workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for worker in workers:
        assert worker.stdout
        worker.stdout.readline()
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    found = [pair for worker in workers for pair in json.loads(worker.communicate()[0])]
    if any(wrong for _, wrong in found):
        raise SystemExit(f"{sum(wrong for _, wrong in found)} of {len(found)} requests were not answered")
    return [took for took, _ in found], len(found) / seconds


def facts(clients: int, seconds: float = 3.0, **more: Any) -> dict[str, float]:
    """Requests a second and percentiles."""
    took, per_s = load(clients, seconds, **more)
    return {"requests/s": round(per_s, 1)} | {
        f"p{n} ms": round(percentile(took, n / 100) * 1e3, 1) for n in (50, 95, 99)
    }


@contextmanager
def served(fleet: Fleet, port: int = PORT) -> Iterator[None]:
    """The service, on loopback, in a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(create_app(fleet), port=port, log_level="error", access_log=False))
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
    alone = [
        fleet.hosts[0].predict([(fleet.routes[row["task"]].arms["stable"].mounted, row["text"])])[0] for row in rows
    ]
    largest = max(
        abs(found["answer"]["probabilities"][label] - value)
        for found, expected in zip(answers, alone, strict=True)
        for label, value in expected["probabilities"].items()
    )
    if largest > 1e-5:
        raise SystemExit(f"the service and the host differ by {largest:.1e}")
    return float(largest)


def host_load(fleet: Fleet, batch_rows: int, seconds: float = SECONDS) -> tuple[int, float]:
    """Rows of the host alone in batches of this size, and rows a second."""
    rows = [(fleet.routes[r["task"]].arms["stable"].mounted, r["text"]) for r in map(asked, range(512))]
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        place = done % (len(rows) - batch_rows)
        fleet.hosts[0].predict(rows[place : place + batch_rows])
        done += batch_rows
    return done, done / (time.perf_counter() - started)


def median_ms(seconds: Sequence[float]) -> float:
    return statistics.median(seconds) * 1e3


def ratio(fleet: Fleet) -> dict[str, Any]:
    """Against the host alone, in turns."""
    found: dict[str, list[float]] = {}
    for _ in range(3):
        rows, batches = figure("adapterkit_batch_rows_sum"), figure("adapterkit_batch_rows_count")
        busy, (took, per_s) = cpu_seconds(lambda: load(64))
        # Every row of a batch observes the batch's size, so the mean over rows is Σn²/Σn.
        size = (figure("adapterkit_batch_rows_sum") - rows) / (figure("adapterkit_batch_rows_count") - batches)
        host_busy, (host_rows, host_per_s) = cpu_seconds(partial(host_load, fleet, max(1, round(size))))
        alone: list[float] = []

        def ask(alone: list[float] = alone) -> None:
            for number in range(100):
                row = asked(number)
                started = time.perf_counter()
                fleet.hosts[0].predict([(fleet.routes[row["task"]].arms["stable"].mounted, row["text"])])
                alone.append(time.perf_counter() - started)

        alone_busy, _ = cpu_seconds(ask)
        one_busy, (one, _) = cpu_seconds(lambda: load(1, 2.0))
        every_busy, (every, _) = cpu_seconds(lambda: load(1, 2.0, path="/v1/predict_all"))
        each = one_busy / len(one)
        for name, value in {
            "service / host alone, rows a second, 64 clients": per_s / host_per_s,
            "the same, rows per CPU second of the server": (len(took) / busy) / (host_rows / host_busy),
            "added ms at one client": median_ms(one) - median_ms(alone),
            "the same, CPU ms of the server": (each - alone_busy / len(alone)) * 1e3,
            "8 tasks on one text / 8 requests": statistics.median(every) / (8 * statistics.median(one)),
            "the same, CPU of the server": every_busy / len(every) / (8 * each),
        }.items():
            found.setdefault(name, []).append(round(value, 3))
    return dict(found)


def cpu_seconds(act: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of this process, which other programs on the machine do not change, and what an act gave."""
    started = time.process_time()
    given = act()
    return time.process_time() - started, given


def swaps(fleet: Fleet, folders: Sequence[Path]) -> dict[str, Any]:
    """The 99th percentile while a task is swapped, over that without."""
    still, moving = [], []
    for _ in range(3):
        still.append(percentile(load(16)[0], 0.99))
        stop = threading.Event()

        def swap(stop: threading.Event = stop) -> None:
            number = 0
            while not stop.wait(0.05):
                number += 1
                folder = folders[TASKS if number % 2 else 0]
                fleet.mount("t0", str(folder), open_manifest(folder))

        thread = threading.Thread(target=swap)
        thread.start()
        moving.append(percentile(load(16)[0], 0.99))
        stop.set()
        thread.join()
    return {"p99 with swaps / without": [one / other for one, other in zip(moving, still, strict=True)]}


def tasks(fleet: Fleet, backbone: ak.Backbone, folders: Sequence[Path]) -> dict[str, Any]:
    """More and more tasks, and more than there are slots."""
    found: dict[str, Any] = {str(count): facts(64, tasks=count) for count in (1, 8, 32, MANY)}
    ratios = []
    with ak.Host(backbone, slots=FEW_SLOTS) as host:
        few = mounted(host, folders[:MANY])
        with served(few, PORT + 1):
            load(16, 2.0, tasks=MANY, zipf=True, port=PORT + 1)
            for _ in range(3):
                resident = load(16, 3.0, tasks=MANY, zipf=True)[1]
                ratios.append(resident / load(16, 3.0, tasks=MANY, zipf=True, port=PORT + 1)[1])
    return {"tasks, 64 clients": found, f"{MANY} tasks by Zipf: all resident / {FEW_SLOTS} slots": ratios}


def peers(fleet: Fleet) -> dict[str, Any]:
    """The same load on what people build without adapterkit."""
    size_mib = round(psutil.Process().memory_info().rss / 2**20)
    found = {"adapterkit": {**facts(16, tasks=8), "RSS MiB": size_mib, "processes for 8 tasks": 1}}
    for number, kind in enumerate(("lock", "names", "pipeline"), 2):
        port = PORT + number
        command = [sys.executable, str(HERE / "service_peers.py"), kind, str(port), "8"]
        server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            for _ in range(600):
                try:
                    http.client.HTTPConnection("127.0.0.1", port).request("GET", "/")
                    break
                except OSError:
                    time.sleep(0.1)
            load(4, 1.0, tasks=8, port=port)
            measured = facts(16, tasks=8, port=port)
            size_mib = round(psutil.Process(server.pid).memory_info().rss / 2**20)
            found[kind] = {**measured, "RSS MiB": size_mib, "processes for 8 tasks": 8 if kind == "pipeline" else 1}
        finally:
            server.kill()
            server.wait()
    return {"peers, 16 clients, 8 tasks": found}


def mounted(host: ak.Host, folders: Sequence[Path]) -> Fleet:
    """A fleet of tasks t0, t1, …"""
    fleet = Fleet(host)
    for number, folder in enumerate(folders):
        fleet.mount(f"t{number}", str(folder), open_manifest(folder))
    return fleet


def main() -> None:
    """Measure, and write the result after every part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="*", choices=["ratio", "clients", "swaps", "tasks", "peers"])
    only = parser.parse_args().only or ["ratio", "clients", "swaps", "tasks", "peers"]
    kept = HERE / "results" / "service.json"
    before: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    found = {name: value for name, value in before.items() if name not in conditions()}
    backbone = ak.Backbone.load(MINILM, dtype="float32", device="cpu")
    with tempfile.TemporaryDirectory() as scratch, ak.Host(backbone, slots=MANY) as host:
        count = MANY if "tasks" in only else TASKS
        folders = saved(Path(scratch), backbone, METHODS["query and value"], OWN, count + 1)
        fleet = mounted(host, folders[:count])
        gc.collect()
        gc.freeze()
        with served(fleet):
            found["largest difference"] = check(fleet)
            load(8, 2.0)  # warm-up
            parts: dict[str, Callable[[], dict[str, Any]]] = {
                "ratio": lambda: ratio(fleet),
                "clients": lambda: {"clients, 32 tasks": {str(n): facts(n) for n in (1, 4, 16, 64)}},
                "peers": lambda: peers(fleet),
                "swaps": lambda: swaps(fleet, folders),
                "tasks": lambda: tasks(fleet, backbone, folders),
            }
            for name in only:
                found |= parts[name]()
                write("service", found)


if __name__ == "__main__":
    main()
