"""How long does a command take from a cold start: those that need only facts, and the first answer of `predict`?

    OMP_NUM_THREADS=1 python benchmarks/cold_start.py             # some five minutes on one busy core

Each command is a process of its own; they take turns, and the first turn, which fills the caches of files, does not
count. Times are CPU seconds of the process and its children, so that the machine's other work is left out; wall seconds
stand beside them. `predict` answers one text by a LoRA of rank 8 with a head of 77 labels on all-MiniLM-L6-v2; its peer
loads the same checkpoint with AutoTokenizer and AutoModel and runs one forward of the same text in the same format.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from host_adapters import METHODS, MINILM, OWN, saved, write

import adapterkit as ak
from adapterkit.backbone.files import local_copy

TEXT = "my card was lost"
BARE = """
import sys, torch
from transformers import AutoModel, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModel.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
with torch.inference_mode():
    print(model(**tokenizer([sys.argv[2]], return_tensors="pt")).last_hidden_state.mean().item())
"""
COMMAND = "-m", "adapterkit"


def commands(artifact: Path, checkpoint: Path) -> dict[str, tuple[str, ...]]:
    """Name -> what python is given."""
    return {
        "python": ("-c", "pass"),
        "import adapterkit": ("-c", "import adapterkit"),
        "--help": (*COMMAND, "--help"),
        "recipes": (*COMMAND, "recipes"),
        "inspect": (*COMMAND, "inspect", str(artifact)),
        "push, bad name": (*COMMAND, "push", str(artifact), "bad-name"),
        "train, output exists": (*COMMAND, "train", "banking77", f"output={artifact}"),
        "import torch": ("-c", "import torch"),
        "import AutoModel": ("-c", "import torch; from transformers import AutoModel"),
        "import Host": ("-c", "from adapterkit.host import Host"),
        "bare transformers": ("-c", BARE, str(checkpoint), TEXT),
        "predict": (*COMMAND, "predict", str(artifact), "--backbone-dtype", "float32"),
    }


def run(words: Sequence[str]) -> tuple[float, float]:
    """CPU and wall seconds of a process."""
    begin = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert child.stdin is not None
    child.stdin.write(TEXT.encode())
    child.stdin.close()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - begin


def measure(tasks: Mapping[str, Sequence[str]], repeats: int) -> dict[str, Any]:
    """Name -> median seconds."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    for turn in range(repeats + 1):
        for name, words in tasks.items():
            seconds = run(words)
            if turn:
                found[name].append(seconds)
    medians = {
        name: [statistics.median(column) for column in zip(*times, strict=True)] for name, times in found.items()
    }
    return {name: {"cpu s": round(cpu, 3), "wall s": round(wall, 3)} for name, (cpu, wall) in medians.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", default="", help="names, with commas between them")
    chosen = parser.parse_args()
    checkpoint = local_copy(MINILM)
    if checkpoint is None:
        raise SystemExit("make setup installs the checkpoint that this measures on")
    with tempfile.TemporaryDirectory() as folder:
        backbone = ak.Backbone.load(MINILM, dtype="float32")
        artifact = saved(Path(folder), backbone, METHODS["query and value"], OWN, 1)[0]
        asked = commands(artifact, checkpoint)
        names = chosen.only.split(",") if chosen.only else list(asked)
        seconds = measure({name: asked[name] for name in names}, chosen.repeats)
    ratios = {}
    if {"predict", "bare transformers"} <= seconds.keys():
        ratios = {
            kind: round(seconds["predict"][kind] / seconds["bare transformers"][kind], 2)
            for kind in ("cpu s", "wall s")
        }
    write("cold_start", {"repeats": chosen.repeats, "seconds": seconds, "predict / bare transformers": ratios})


if __name__ == "__main__":
    main()
