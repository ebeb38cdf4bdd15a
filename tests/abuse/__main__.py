"""The full abuse of everything that is read from a disk or a stranger.

    python -m tests.abuse                                 everything, some 7 minutes on two cores
    python -m tests.abuse artifacts --count 500           some of it
    python -m tests.abuse artifacts --first 4711 --count 1    one attempt again

Ends with status 1 where something is broken. The counts go into benchmarks/results/abuse.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.abuse.running import SUBJECTS, run

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "abuse.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.abuse")
    parser.add_argument("subjects", nargs="*", choices=[*SUBJECTS, []], help="what to abuse; everything by default")
    parser.add_argument("--count", type=int, help="attempts at each; default: as many as the full run makes")
    parser.add_argument("--first", type=int, default=0, help="number of the first attempt")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    broken = 0
    for name in asked.subjects or SUBJECTS:
        count, started = asked.count or SUBJECTS[name][2], time.monotonic()
        numbers = range(asked.first, asked.first + count)
        outcome = run(name, numbers, asked.processes, lambda done, of=f"{name}: %d of {count:,}": _progress(of % done))
        _progress("")
        facts: dict[str, Any] = {
            "date": time.strftime("%Y-%m-%d"),
            "attempts": count,
            "counts": dict(sorted(outcome.counts.items())),
            "findings": len(outcome.findings),
            "seconds": round(time.monotonic() - started),
            "longest attempt, seconds": round(outcome.longest_seconds, 2),
            "peak of a process, MiB": outcome.peak_mib,
        }
        print(f"{name}: {json.dumps(facts)}")
        for finding in outcome.findings[:50]:
            print(f"  {finding}")
        broken += len(outcome.findings)
        if asked.count is None and asked.first == 0:
            found[name] = facts
            RESULTS.write_text(json.dumps(dict(sorted(found.items())), indent=1) + "\n")
    return min(broken, 1)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
