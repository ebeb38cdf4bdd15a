"""What does mounting one more adapter cost, in time and in memory, with few and with a thousand mounted?

    OMP_NUM_THREADS=1 python benchmarks/host_mounts.py            # a minute on one busy core

LoRA of rank 8 with a head of 77 labels on all-MiniLM-L6-v2, from artifacts on disk (a few folders, mounted under many
names), every check included. The machine's work on other things is left out: times are CPU seconds of the process, with
wall seconds beside them for the thousand. A swap does the same work in memory that the process already has, so that
the difference is what the system takes for fresh memory. Memory is what the process grew by, over the bytes of the
adapters' own numbers in the host's formats (fp32 here). PEFT loads the same artifacts with `load_adapter`, after its
logits were compared with the host's.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from host_adapters import FAMILY, LABELS, METHODS, MINILM, OWN, saved, write
from peft import PeftModel
from transformers import AutoModelForSequenceClassification

import adapterkit as ak
from adapterkit.backbone.files import local_copy
from adapterkit.recipe import LoraMethod

FOLDERS = 16
TEXTS = [f"my card was lost, {number} times" for number in range(4)]


def resident_bytes() -> int:
    """What the process holds; memory that it freed and kept for later is given back first."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    # What the system moved out meanwhile is the process's all the same.
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("VmRSS", "VmSwap")))


def thousand(backbone: ak.Backbone, folder: Path, method: LoraMethod, count: int) -> dict[str, Any]:
    """Mount so many, one after the other."""
    places = saved(folder, backbone, method, OWN, FOLDERS)
    with ak.Host(backbone, slots=count + 1) as host:
        host.mount("warm", places[0])
        before = resident_bytes()
        begin, cpu = time.perf_counter(), []
        for number in range(count):
            start = time.process_time()
            host.mount(f"adapter {number}", places[number % FOLDERS])
            cpu.append(time.process_time() - start)
        wall = time.perf_counter() - begin
        grown = resident_bytes() - before
        own = sum(status.size_bytes for status in host.status() if status.name != "warm")
        swaps = []
        for number in range(200):
            start = time.process_time()
            host.swap(f"adapter {number}", places[(number + 1) % FOLDERS])
            swaps.append(time.process_time() - start)
    return {
        "mounts": count,
        "ms, median": round(1000 * statistics.median(cpu), 2),
        "ms, first 50": round(1000 * statistics.median(cpu[:50]), 2),
        "ms, last 50": round(1000 * statistics.median(cpu[-50:]), 2),
        "ms, swap": round(1000 * statistics.median(swaps), 2),
        "CPU seconds, all": round(sum(cpu), 2),
        "wall seconds, all": round(wall, 2),
        "parameters' bytes of one": own // count,
        "memory / parameters' bytes": round(grown / own, 3),
    }


def against_peft(backbone: ak.Backbone, folder: Path, method: LoraMethod, count: int) -> dict[str, Any]:
    """The same artifacts, with the family's head, which PEFT can load."""
    places = saved(folder, backbone, method, FAMILY, FOLDERS)
    plain = AutoModelForSequenceClassification.from_pretrained(
        local_copy(MINILM), num_labels=len(LABELS), dtype=torch.float32
    ).eval()
    inputs = backbone.tokenizer(TEXTS, return_tensors="pt", padding=True)
    theirs: list[float] = []
    ours: list[float] = []
    with ak.Host(backbone, slots=count) as host:
        model: Any = None
        for number in range(count):
            place = places[number % FOLDERS]
            start = time.process_time()
            if model is None:
                model = PeftModel.from_pretrained(plain, str(place), adapter_name="a0")
            else:
                model.load_adapter(str(place), adapter_name=f"a{number}")
            theirs.append(time.process_time() - start)
            start = time.process_time()
            host.mount(f"a{number}", place)
            ours.append(time.process_time() - start)
            if number in (0, 1):
                model.set_adapter(f"a{number}")
                with torch.inference_mode():
                    expected = model.eval()(**inputs).logits
                found = torch.stack(host.logits(inputs, [f"a{number}"] * len(TEXTS)))
                largest = float((found - expected).abs().max())
                if largest > 1e-5:
                    raise SystemExit(f"the host's logits and PEFT's differ by {largest:.1e}")
    last = statistics.median(theirs[-5:])
    return {
        "PEFT ms, 2nd": round(1000 * theirs[1], 1),
        f"PEFT ms, {count}th": round(1000 * last, 1),
        f"host ms, {count}th": round(1000 * statistics.median(ours[-5:]), 2),
        f"PEFT / host, {count}th": round(last / statistics.median(ours[-5:]), 1),
        "largest difference of logits": largest,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--mounts", type=int, default=1000)
    parser.add_argument("--peft", type=int, default=50, help="how many adapters PEFT loads")
    options = parser.parse_args()
    torch.set_num_threads(1)
    backbone = ak.Backbone.load(MINILM, dtype="float32", device="cpu")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, method in METHODS.items():
            found[name] = thousand(backbone, Path(folder), method, options.mounts)
            found[name] |= against_peft(backbone, Path(folder), method, options.peft)
    write("host_mounts", found)


if __name__ == "__main__":
    main()
