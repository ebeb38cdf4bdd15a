"""Adapters between adapterkit and its neighbours, both ways, against what the neighbours themselves answer.

    python -m tests.interop                    everything, some minutes; the first time 1.5 GB of environments
    python -m tests.interop peft onnx          some of it

What a neighbour needs that cannot be installed here is skipped with the reason. Ends with status 1 where something is
wrong. The results go into benchmarks/results/interop.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

from tests.interop import adapterhub, peft, plain, sentence, servers
from tests.interop.environments import MissingError
from tests.interop.worlds import Result, Worlds

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "interop.json"
PIECES: Mapping[str, tuple[str, Callable[[Worlds], Iterator[Result]]]] = {
    "peft": ("folders that PEFT saved, imported", peft.imports),
    "adapterhub": ("folders that AdapterHub saved, imported", adapterhub.imports),
    "to-adapterhub": ("our exports, loaded by AdapterHub", adapterhub.exports),
    "sentence": ("folders that sentence-transformers and SetFit saved, imported", sentence.imports),
    "to-sentence": ("our exports, loaded by sentence-transformers", sentence.exports),
    "plain": ("our artifacts, loaded by PEFT and transformers without adapterkit", plain.loads),
    "onnx": ("our exports, run by onnxruntime", plain.onnx_models),
    "gguf": ("our flat LoRAs, converted by llama.cpp", servers.gguf),
    "vllm": ("our flat LoRAs, read by vLLM's own loader", servers.vllm),
}
"""Name -> what is tried, and what tries it."""


def tried(name: str, worlds: Worlds) -> dict[str, Any]:
    what, cases = PIECES[name]
    started, found = time.monotonic(), []
    facts: dict[str, Any] = {"what": what, "date": time.strftime("%Y-%m-%d")}
    try:
        for result in cases(worlds):
            found.append(result)
            if result.outcome == "wrong":
                print(f"{name}: {result.case}: {result.detail}", flush=True)
    except MissingError as error:
        return {**facts, "skipped": str(error)}
    counts = Counter(result.outcome for result in found)
    return {
        **facts,
        "seconds": round(time.monotonic() - started),
        "cases": len(found),
        **{outcome: counts[outcome] for outcome in ("equal", "refused", "wrong")},
        "each": {result.case: f"{result.outcome}: {result.detail[:160]}" for result in found},
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.interop")
    parser.add_argument("pieces", nargs="*", choices=[*PIECES, []], help="what to try; everything by default")
    asked = parser.parse_args().pieces or list(PIECES)
    warnings.simplefilter("ignore")  # heads that are initialised, and the like, are what is tried here
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as scratch:
        worlds = Worlds(Path(scratch))
        for name in asked:
            results[name] = facts = tried(name, worlds)
            said = facts.get("skipped") or ", ".join(
                f"{facts[key]} {key}" for key in ("cases", "equal", "refused", "wrong")
            )
            print(f"{facts['what']}: {said}", flush=True)
            RESULTS.write_text(
                json.dumps(results, indent=1, sort_keys=True).replace(scratch, "…") + "\n", encoding="utf-8"
            )
    return 1 if any(facts.get("wrong") for facts in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
