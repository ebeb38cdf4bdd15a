"""How often does torch compile again for new mixes, mounts and swaps?

    OMP_NUM_THREADS=1 python benchmarks/host_compiled.py          # a minute, the first compilation

A small random BERT (1 layer, d=64) under torch's own inductor, through `Host(compile=True)`. Graphs are counted by
Dynamo. It needs a C++ compiler. Every answer is compared with a host that does not compile, to 1e-5.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from host_adapters import METHODS, OWN, saved, write
from torch._dynamo.utils import counters
from transformers import BertConfig, BertModel, BertTokenizerFast

import adapterkit as ak


def small(folder: Path) -> ak.Backbone:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(59))]
    torch.manual_seed(0)
    BertModel(
        BertConfig(vocab_size=64, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, intermediate_size=128)
    ).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return ak.Backbone.load(str(folder), dtype="float32", device="cpu")


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n", 1)[0]).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        backbone = small(Path(folder))
        places = saved(Path(folder), backbone, METHODS["query and value"], OWN, 6)
        with ak.Host(backbone, compile=True) as compiled, ak.Host(backbone) as plain:
            found: dict[str, Any] = {}
            differences: list[float] = []

            def ask(step: str, names: Sequence[str], first: int) -> None:
                """Rows of many lengths, as many as there are names."""
                rows = [(name, {"text": " ".join(map(str, range(first + 2 * row)))}) for row, name in enumerate(names)]
                before, start = counters["stats"]["unique_graphs"], time.perf_counter()
                answers = compiled.predict(rows)
                found[step] = {
                    "graphs compiled": counters["stats"]["unique_graphs"] - before,
                    "seconds": round(time.perf_counter() - start, 2),
                }
                differences.extend(
                    abs(answer["probabilities"][label] - value)
                    for answer, expected in zip(answers, plain.predict(rows), strict=True)
                    for label, value in expected["probabilities"].items()
                )

            for host in (compiled, plain):
                for number in range(4):
                    host.mount(f"a{number}", places[number])
            ask("first batch", ["a0", "a1", "a2"], 3)
            ask("another mix", ["a3", "a3", "a0", "a1", "a2"], 5)
            ask("one adapter for all", ["a1"] * 4, 4)
            for host in (compiled, plain):
                host.mount("a4", places[4])
            ask("after a mount", ["a4", "a0"], 9)
            for host in (compiled, plain):
                host.swap("a0", places[5])
            ask("after a swap", ["a0", "a4", "a0", "a2"], 6)
            for host in (compiled, plain):
                host.unmount("a1")
            ask("after an unmount", ["a0", "a2"], 2)
    found["graphs after the first batch"] = sum(step["graphs compiled"] for step in list(found.values())[1:])
    found["largest difference"] = max(differences)
    if found["largest difference"] > 1e-5:
        raise SystemExit(f"a compiled host answers otherwise, by {found['largest difference']:.1e}")
    write("host_compiled", found)


if __name__ == "__main__":
    main()
