"""Training on a frozen backbone against PEFT and full fine-tuning: every figure that is asked, in one run.

    make bench-training                                  # short settings; some 8 minutes on one core of its own
    OMP_NUM_THREADS=1 ADAPTERKIT_DATA=… python benchmarks/training.py --full   # the race to 92 %, up to an hour

It runs the other benchmarks of this folder, each of which compares losses, gradients or states before it takes a time:
training_step.py (steps, the optimizer's share, saved activations), cached_trunk.py, padding.py, peak_memory.py and
time_to_accuracy.py. Whatever needs a real backbone or data set that is not there is left out and named. Writes
results/training.json after every part, and two pictures beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import peft
import torch
import training_step
import transformers
from peak_memory import measure as measure_memory
from pictures import curves_picture, figures_picture
from time_to_accuracy import FULL_BUDGET_S, SHORT, SHORT_BUDGET_S, race
from time_to_accuracy import measure as measure_curves

from adapterkit.backbone.files import local_copy
from adapterkit.backbone.hardware import bfloat16_is_fast

HERE = Path(__file__).resolve().parent
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
Figure = dict[str, Any]


def figure(what: str, asked: str, found: float, *, met: bool, note: str = "") -> Figure:
    row = {"what": what, "asked": asked, "measured": found, "met": met, "note": note}
    print(f"{'met ' if met else 'MISS'} {what}: {found} (asked {asked}) {note}".rstrip(), flush=True)
    return row


def at_most(what: str, limit: float, found: float, note: str = "") -> Figure:
    return figure(what, f"≤ {limit}", found, met=found <= limit, note=note)


def at_least(what: str, limit: float, found: float, note: str = "") -> Figure:
    return figure(what, f"≥ {limit}", found, met=found >= limit, note=note)


def steps(repeats: int) -> tuple[list[Figure], Any]:
    """A training step and what the optimizer takes of it."""
    narrow = training_step.NARROW if bfloat16_is_fast(torch.device("cpu")) else []
    wide = [case for case in training_step.FULL_SIZE if case.name in ("d=768", "d=768 auto sites", "d=256")]
    rows, figures = [training_step.measure(case, repeats) for case in [*wide, *narrow]], []
    for row in rows:
        name = row["case"]
        figures += [
            at_most(
                f"step / full fine-tuning, {name}",
                0.75 if name.startswith("d=768") and "bf16" not in name else 0.82,
                row["step / full"],
            ),
            at_most(f"step / PEFT, {name}", 0.80, row["step / peft"]),
        ]
        ms = row["ms"]
        row["optimizer's share"] = {
            variant: round(ms[f"{variant} update"] / ms[f"{variant} step"], 4)
            for variant in ("adapterkit", "peft", "full")
        }
        print("optimizer's share of a step:", row["optimizer's share"], flush=True)
    return figures, rows


def saved() -> tuple[list[Figure], Any]:
    """Bytes that autograd keeps for a step, in bf16."""
    rows = [training_step.memory(case) for case in training_step.MEMORY]
    figures = []
    for row in rows:
        limit = 0.40 if "dropout" in row["case"] else 0.60
        figures.append(at_most(f"saved activations / PEFT, bf16, {row['case']}", limit, row["saved / peft"]))
    return figures, rows


def child(script: str, *arguments: str) -> Any:
    """What a benchmark of this folder writes into the file that its last argument names."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        subprocess.run([sys.executable, str(HERE / script), *arguments, str(file)], check=True)
        return json.loads(file.read_text())


def cached() -> tuple[list[Figure], Any]:
    """Steps over kept states; losses were compared with those over computed ones."""
    found = child("cached_trunk.py", "--rounds", "7", "--rows", "200", "--equal-steps", "2", "--json")
    ratio = found["ratios"]
    figures = [
        at_least("times faster than PEFT on all layers, top 1 of 6 cached", 5.5, round(ratio["top 1 cached"], 2)),
        at_least("times faster than PEFT on all layers, top 2 of 6 cached", 2.7, round(ratio["top 2 cached"], 2)),
        at_least("times faster than uncached, head only cached", 50.0, round(ratio["head only cached"], 1)),
        at_most("losses over kept states differ by", 1e-5, max(found["loss_differences"].values())),
    ]
    return figures, found


def padding() -> tuple[list[Figure], Any]:
    """Forwards and steps at 70 % and at no padding."""
    found = child("padding.py", "--repeats", "5", "--out")
    figures = []
    for row in found["results"]:
        name, factor = f"{row['model']}, {row['what']}", row["times_faster"]["unpadded"]
        if row["padding"]:
            figures.append(at_least(f"times faster than padded, 70 % padding, {name}", 2.5, factor))
        else:
            figures.append(at_most(f"of the padded time, no padding, {name}", 1.02, round(1 / factor, 3)))
    return figures, found


def memory() -> tuple[list[Figure], Any]:
    """Peak memory of a run above the loaded model."""
    rows = measure_memory((0.0,))
    return [at_most("peak memory / PEFT with Trainer", 0.75, row["adapterkit / peft"]) for row in rows], rows


def curves(full: bool) -> tuple[list[Figure], Any]:
    """Accuracy over seconds."""
    rows = race(FULL_BUDGET_S) if full else measure_curves(SHORT, SHORT_BUDGET_S)
    return [], {"setting": "full" if full else "short", "variants": rows}


def machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "bf16 in hardware": bfloat16_is_fast(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "processes waiting": round(os.getloadavg()[0], 1),
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, peft)},
    }


def main() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="race to 92 %% on all rows; hours on a CPU")
    parser.add_argument("--only", nargs="*", help="parts: steps, saved, cached, padding, memory, curves")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    chosen = parser.parse_args()
    parts: dict[str, Callable[[], tuple[list[Figure], Any]]] = {
        "steps": lambda: steps(chosen.repeats),
        "saved": saved,
        "padding": padding,
        "cached": cached,
        "memory": memory,
        "curves": lambda: curves(chosen.full),
    }
    here = {"padding": local_copy(MINILM) is not None}
    here |= dict.fromkeys(("cached", "memory", "curves"), here["padding"] and "ADAPTERKIT_DATA" in os.environ)
    file = chosen.out / "training.json"
    result: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        if chosen.only and name not in chosen.only:
            continue
        if not here.get(name, True):
            print(f"left out: {name}, which needs all-MiniLM-L6-v2 and ADAPTERKIT_DATA with banking77/", flush=True)
            continue
        begun = time.perf_counter()
        figures, details = part()
        seconds = round(time.perf_counter() - begun, 1)
        result[name] = {"figures": figures, "details": details, "wall_seconds": seconds, "machine": machine()}
        file.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{name}: {seconds} s", flush=True)
    figures_picture([row for part in result.values() for row in part["figures"]], chosen.out / "training-figures.svg")
    if "curves" in result:
        curves_picture(result["curves"]["details"]["variants"], chosen.out / "training-curves.svg")


if __name__ == "__main__":
    main()
