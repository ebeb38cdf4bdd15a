"""Do swaps slow down the calls that run meanwhile, and what does a working set of ten times the slots cost?

    OMP_NUM_THREADS=1 python benchmarks/host_swaps.py             # a minute on two cores

LoRA of rank 8 on query and value with a head of 77 labels, on all-MiniLM-L6-v2 in fp32. Swaps: batches of 16 rows for
32 adapters, in rounds without and with a second thread that swaps one of them after the other, 20 times a second. Wall
milliseconds of each call, 99th percentile over all rounds: a core for each thread is needed, so that on a busy machine
the figure says more about the machine. What was loaded is taken out of Python's collector (`gc.freeze`), as the
documentation advises for services: a full collection of half a million objects stops every thread for a third of a
second, and comes once in some hundred calls, with swaps or without. Before anything is timed, a mixed batch must equal
each row alone to 1e-5.

Residency: calls of 128 rows, adapters drawn by Zipf's law (weight 1 / rank), ten times as many mounted as there are
slots, against a host that holds them all; calls in turns, CPU seconds of the process.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from host_adapters import METHODS, MINILM, OWN, alternating, percentile, saved, write

import adapterkit as ak

ROWS, FOLDERS = 16, 32
CALL = 128
"""Rows of a call under Zipf traffic."""
SENTENCE = "my card was lost and the bank will send a new one where is the nearest station when does the train leave"
WORDS = SENTENCE.split(" ")


def text(number: int) -> str:
    """Texts of 4 to 20 words."""
    return " ".join(WORDS[(number * 7 + place) % len(WORDS)] for place in range(4 + number % 17))


def check(host: ak.Host, rows: Sequence[tuple[str, str]]) -> float:
    """Largest difference of a probability between a mixed call and each row alone."""
    mixed = host.predict(rows)
    alone = [host.predict([row])[0] for row in rows]
    largest = max(
        abs(found["probabilities"][label] - value)
        for found, expected in zip(mixed, alone, strict=True)
        for label, value in expected["probabilities"].items()
    )
    if largest > 1e-5:
        raise SystemExit(f"a mixed batch and its rows alone differ by {largest:.1e}")
    return float(largest)


class Swapper:
    """Swaps names one after the other in a thread of its own.

    Attributes:
        swaps: how many it has made.
    """

    def __init__(self, host: ak.Host, places: Sequence[Path], pause_s: float) -> None:
        self.swaps = 0
        self._host, self._places, self._pause_s = host, places, pause_s

    @contextmanager
    def running(self) -> Any:
        stop = threading.Event()

        def run() -> None:
            while not stop.wait(self._pause_s):
                self._host.swap(f"a{self.swaps % ROWS}", self._places[(self.swaps + 1) % len(self._places)])
                self.swaps += 1

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def swaps(backbone: ak.Backbone, places: Sequence[Path], rounds: int, calls: int) -> dict[str, Any]:
    with ak.Host(backbone, slots=ROWS) as host:
        for number in range(ROWS):
            host.mount(f"a{number}", places[number])
        rows = [(f"a{number}", text(number)) for number in range(ROWS)]
        largest = check(host, rows)
        swapper = Swapper(host, places, 0.05)
        times: dict[str, list[float]] = {"without": [], "20 a second": []}
        busy_s = 0.0

        def measure(name: str) -> None:
            for _ in range(calls):
                start = time.perf_counter()
                host.predict(rows)
                times[name].append(time.perf_counter() - start)

        measure("without")
        times["without"].clear()
        gc.collect()
        gc.freeze()
        for _ in range(rounds):
            measure("without")
            begin = time.perf_counter()
            with swapper.running():
                measure("20 a second")
            busy_s += time.perf_counter() - begin
        gc.unfreeze()
    found: dict[str, Any] = {"calls of each": rounds * calls, "largest difference": largest}
    for name, seconds in times.items():
        found[f"{name}: ms, median and p99"] = [
            round(1000 * statistics.median(seconds), 1),
            round(1000 * percentile(seconds, 0.99), 1),
        ]
    found["20 a second: swaps a second"] = round(swapper.swaps / busy_s, 1)
    found["20 a second: p99 / p99 without"] = round(
        percentile(times["20 a second"], 0.99) / percentile(times["without"], 0.99), 3
    )
    return found


def residency(backbone: ak.Backbone, places: Sequence[Path], slots: int, repeats: int) -> dict[str, Any]:
    count = 10 * slots
    weights = torch.tensor([1 / (rank + 1) for rank in range(count)])
    generator = torch.Generator().manual_seed(0)
    with ak.Host(backbone, slots=slots) as few, ak.Host(backbone, slots=count) as all_there:
        for host in (few, all_there):
            for number in range(count):
                host.mount(f"a{number}", places[number % len(places)])
        largest = check(few, [(f"a{number}", text(number)) for number in range(0, count, count // 8)])

        def call(host: ak.Host, state: torch.Tensor) -> None:
            generator.set_state(state)
            drawn = torch.multinomial(weights, CALL, replacement=True, generator=generator).tolist()
            host.predict([(f"a{number}", text(place)) for place, number in enumerate(drawn)], batch_size=ROWS)

        state = [generator.get_state()]

        def step() -> None:
            call(all_there, state[0])

        def with_few() -> None:
            call(few, state[0])
            state[0] = generator.get_state()

        # Both hosts answer the same call, one after the other; the next turn has another.
        seconds = alternating({"all resident": step, "a tenth resident": with_few}, repeats)
    return {
        "slots": slots,
        "adapters": count,
        "largest difference": largest,
        "rows a second, all resident": round(CALL / seconds["all resident"], 1),
        "rows a second, a tenth": round(CALL / seconds["a tenth resident"], 1),
        "throughput / all resident": round(seconds["all resident"] / seconds["a tenth resident"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=20, help="calls in a round of each kind")
    parser.add_argument("--slots", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    backbone = ak.Backbone.load(MINILM, dtype="float32", device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        places = saved(Path(folder), backbone, METHODS["query and value"], OWN, FOLDERS)
        found = {
            "swaps": swaps(backbone, places, options.rounds, options.calls),
            "residency": residency(backbone, places, options.slots, 7),
        }
    write("host_swaps", found)


if __name__ == "__main__":
    main()
