"""All of the host's figures: runs its benchmarks one after the other, compares with what is asked, draws the curves.

    make bench-host                                               # under 8 minutes on 2 idle cores
    python benchmarks/host.py --no-adapterhub --only mounts,swaps

AdapterHub's environment is made first where it is missing, and not counted. Writes benchmarks/results/host.json, which
holds every figure asked beside the one found, and pictures of the curves beside it; each part has its own file there
with all its numbers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from host_adapters import RESULTS, write
from host_pictures import draw
from host_short import HEADS, ROW

from adapterkit.backbone.hardware import bfloat16_is_fast

HERE = Path(__file__).resolve().parent
PARTS: dict[str, tuple[str, ...]] = {
    "mixed": ("--threads", "1", "--repeats", "5"),
    "short": (),
    "sharing": ("--tokens", "128", "--repeats", "7"),
    "mounts": (),
    "swaps": ("--rounds", "4", "--calls", "25", "--slots", "8"),
    "compiled": (),
    "adapterhub": ("--repeats", "5"),
}


def section(report: dict[str, Any], name: str) -> dict[str, Any]:
    """A setting of the mixed batch, measured with one thread."""
    found: dict[str, Any] = report.get(f"{name}, 1 thread", {})
    return found


def at(section: dict[str, Any], table: str, **wanted: int) -> float:
    """The host's ratio in the row of a table that has these values."""
    (row,) = (row for row in section[table] if wanted.items() <= row.items())
    return float(row["host/plain"])


def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, float, Callable[[], float | None]]]:
    """What is asked: the figure, at most or at least, the bound, and how it is found."""
    mixed, sharing = found.get("mixed", {}), found.get("sharing", {})
    mounts, swaps, compiled = found.get("mounts", {}), found.get("swaps", {}), found.get("compiled", {})
    small, large = section(mixed, "fp32, d=256"), section(mixed, "bf16, d=768")
    cells = {cell["adapters"]: cell for cell in sharing.get("cells", []) if cell["tokens"] == 128}
    every, auto = mounts["every linear"] if mounts else {}, mounts["query and value"] if mounts else {}
    short = {case["case"]: case for case in found.get("short", {}).get("cases", [])}
    judged = large if large.get("bf16 in hardware") else {}
    yield "1 mixed / plain, fp32, d=256", "<=", 1.30, lambda: small["mixed"]["host/plain"]
    yield "1 mixed / plain, bf16, d=768", "<=", 1.15, lambda: judged["mixed"]["host/plain"]
    yield "1 extra / PEFT's extra, fp32, d=256", "<=", 0.333, lambda: small["mixed"]["extra / peft's extra"]
    yield "2 1,000 mounted / 32 mounted", "<=", 1.02, lambda: small["mounted"]["1000 / 32 mounted"]
    yield "3 mount, query and value, ms", "<=", 5, lambda: auto["ms, median"]
    yield "3 mount, every linear, ms", "<=", 5, lambda: every["ms, median"]
    yield "3 PEFT's 50th / ours, query and value", ">=", 100, lambda: auto["PEFT / host, 50th"]
    yield "3 PEFT's 50th / ours, every linear", ">=", 100, lambda: every["PEFT / host, 50th"]
    yield "1,000 mounts on MiniLM, CPU s", "<=", 5, lambda: auto["CPU seconds, all"]
    yield "memory / parameters' bytes", "<=", 1.05, lambda: every["memory / parameters' bytes"]
    yield "4 graphs after the first batch", "<=", 0, lambda: compiled["graphs after the first batch"]
    yield "5 of the limit, top third", ">=", 0.85, lambda: cells["top third"]["of the limit"]
    yield "5 heads only / one pass", "<=", 1.05, lambda: cells["heads only"]["predict_all / 1 plain pass"]
    yield "19 mixed / plain, bf16, d=768, 16 tokens", "<=", 1.0, lambda: at(judged, "over tokens", tokens=16)
    yield "19 mixed / plain, bf16, d=768, 64 tokens", "<=", 1.0, lambda: at(judged, "over tokens", tokens=64)
    yield "19 32 heads / plain, fp32, d=256, 16 tokens", "<=", 1.15, lambda: short["fp32, d=256"][HEADS]
    for name in short:
        yield f"19 one row of 16 tokens / plain, {name}", "<=", 1.1, partial(short[name].__getitem__, ROW)
    for name, found_there in (("fp32, d=256", small), ("bf16, d=768", judged)):
        yield (
            f"19 one adapter, 2,048 tokens / plain, {name}", "<=", 1.03,
            partial(at, found_there, "one adapter", rank=8),
        )  # fmt: skip
    yield "19 first answer, packed / unpacked", "<=", 1.1, lambda: found["short"]["first answer, packed / unpacked"]
    yield "p99 during swaps / without", "<=", 1.2, lambda: swaps["swaps"]["20 a second: p99 / p99 without"]
    yield "working set of 10 times the slots", ">=", 0.8, lambda: swaps["residency"]["throughput / all resident"]


def compare(found: dict[str, Any]) -> list[dict[str, Any]]:
    table = []
    for figure, sign, bound, find in rows(found):
        try:
            value = find()
        except (KeyError, TypeError):
            value = None
        held = None if value is None else (value <= bound if sign == "<=" else value >= bound)
        table.append({"figure": figure, "asked": f"{sign} {bound}", "found": value, "held": held})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--no-adapterhub", action="store_true")
    parser.add_argument(
        "--only", default=",".join(PARTS), help="parts, by comma; none compares what was measured before"
    )
    options = parser.parse_args()
    skipped = {"", "adapterhub"} if options.no_adapterhub else {""}
    chosen = [part for part in options.only.split(",") if part not in skipped]
    if unknown := set(chosen) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if "adapterhub" in chosen:
        make = "from host_adapterhub import environment; environment()"
        subprocess.run([sys.executable, "-c", make], cwd=HERE, check=False)
    seconds = {}
    for part in chosen:
        start = time.perf_counter()
        subprocess.run([sys.executable, str(HERE / f"host_{part}.py"), *PARTS[part]], check=True)
        seconds[part] = round(time.perf_counter() - start, 1)
    files = {part: RESULTS / f"host_{part}.json" for part in PARTS}
    found = {part: json.loads(file.read_text()) for part, file in files.items() if file.exists()}
    table = compare(found)
    if not bfloat16_is_fast(torch.device("cpu")):
        print("This processor has no fast bf16: rows in bf16 are not judged.")
    write("host", {"seconds": seconds, "figures": table, "adapterhub": found.get("adapterhub", {}).get("adapterhub")})
    draw(found.get("mixed", {}), RESULTS)
    for row in table:
        word = {True: "held", False: "MISSED", None: "not measured here"}[row["held"]]
        print(f"{row['figure']:<42} {row['asked']:>9} {row['found']!s:>9}  {word}")


if __name__ == "__main__":
    main()
