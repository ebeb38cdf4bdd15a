"""What short calls cost, heads, tokenizer and answers included, against transformers' own class with one head.

    OMP_NUM_THREADS=1 python benchmarks/host_short.py            # some 2 minutes on one busy core

`32 heads`: 32 rows of 16 tokens, each with an adapter and a family head of its own, through `Host.logits`; plain is one
forward of `BertForSequenceClassification` over the same tensors. `one row`: a text of 16 tokens through `Host.predict`,
one adapter; plain is tokenizer, forward, softmax and the label's name. `first answer`: a process of its own that loads,
mounts and answers, packed (which was measured on this machine before) and not. Adapters are LoRA of rank 8 on every
linear with random weights. Logits are compared with PEFT's of the same artifacts before anything is timed. Variants
take turns; CPU seconds of the process, medians.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from host_adapters import FAMILY, LABELS, METHODS, alternating, saved, write
from peft import PeftModel
from training_step import Case, checkpoint_of
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import adapterkit as ak
from adapterkit.backbone.hardware import bfloat16_is_fast

ROWS, TOKENS = 32, 16
HEADS, ROW = "32 heads, 16 tokens / plain", "one row, 16 tokens / plain"
TEXT = " ".join(map(str, range(TOKENS - 2)))
CASES = [
    Case("fp32, d=256", 256, 6, ROWS, TOKENS),
    Case("bf16, d=768", 768, 6, ROWS, TOKENS, dtype=torch.bfloat16),
]


def measure(case: Case, folder: Path, repeats: int) -> dict[str, Any]:
    """Both ratios of one shape."""
    checkpoint = checkpoint_of(case, folder)
    dtype = str(case.dtype).removeprefix("torch.")
    artifacts = saved(
        folder, ak.Backbone.load(checkpoint, dtype=dtype, device="cpu"), METHODS["every linear"], FAMILY, ROWS
    )
    host = ak.Host(ak.Backbone.load(checkpoint, dtype=dtype, device="cpu"))
    for number, artifact in enumerate(artifacts):
        host.mount(str(number), artifact)
    plain: Any = AutoModelForSequenceClassification.from_pretrained(
        checkpoint, num_labels=len(LABELS), dtype=case.dtype
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    ids = torch.randint(5, 64, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))
    batch, names = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, [str(row) for row in range(ROWS)]
    difference = check_equal(case, host.logits(batch, names), batch, checkpoint, artifacts)

    @torch.inference_mode()
    def plain_logits() -> Any:
        return plain(**batch).logits

    @torch.inference_mode()
    def plain_answer() -> Any:
        logits = plain(**tokenizer([TEXT], return_tensors="pt", truncation=True)).logits
        probability, label = logits.float().softmax(-1).max(-1)
        return LABELS[int(label)], float(probability)

    heads = alternating({"plain": plain_logits, "host": lambda: host.logits(batch, names)}, repeats)
    row = alternating({"plain": plain_answer, "host": lambda: host.predict([("0", TEXT)])}, 10 * repeats)
    return {
        "case": case.name,
        "largest difference from PEFT": difference,
        HEADS: round(heads["host"] / heads["plain"], 3),
        "32 heads, ms": {name: round(1e3 * value, 2) for name, value in heads.items()},
        ROW: round(row["host"] / row["plain"], 3),
        "one row, ms": {name: round(1e3 * value, 2) for name, value in row.items()},
    }


def first_answers(folder: Path, repeats: int) -> dict[str, float]:
    """CPU seconds of a process until its first answer, packed and not."""
    checkpoint = checkpoint_of(CASES[0], folder)
    (artifact,) = saved(folder, ak.Backbone.load(checkpoint, dtype="float32"), METHODS["every linear"], FAMILY, 1)
    code = (
        "import sys, time, adapterkit as ak; backbone = ak.Backbone.load(sys.argv[1], dtype='float32');"
        "host = ak.Host(backbone, packed=sys.argv[3]);"
        "host.mount('a', sys.argv[2]); host.predict([('a', '1 2 3')]); print(time.process_time())"
    )

    def seconds(packed: str) -> float:
        words = [sys.executable, "-c", code, checkpoint, str(artifact), packed]
        return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1])

    found = [(seconds("auto"), seconds("off")) for _ in range(repeats + 1)][1:]
    return {name: statistics.median(each) for name, each in zip(("auto", "off"), zip(*found, strict=True), strict=True)}


@torch.inference_mode()
def check_equal(case: Case, found: Any, batch: dict[str, Any], checkpoint: str, artifacts: list[Path]) -> float:
    """The largest difference from plain PEFT with the first and the last artifact. Stops where it is no rounding."""
    largest = 0.0
    for row in (0, ROWS - 1):
        base = AutoModelForSequenceClassification.from_pretrained(
            checkpoint, num_labels=len(LABELS), dtype=torch.float32
        )
        model: Any = PeftModel.from_pretrained(base, artifacts[row]).eval()
        expected = model(**{name: tensor[row : row + 1] for name, tensor in batch.items()}).logits[0]
        largest = max(largest, float((found[row] - expected).abs().max() / expected.abs().max()))
    if largest > (1e-4 if case.dtype == torch.float32 else 0.1):
        raise SystemExit(f"{case.name}: the host's logits differ from PEFT's by {largest:.1e}")
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--only", default="", help="cases whose name begins so")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for case in CASES:
        if not case.name.startswith(options.only) or (
            case.dtype == torch.bfloat16 and not bfloat16_is_fast(torch.device("cpu"))
        ):
            continue
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(case, Path(folder), options.repeats))
    with tempfile.TemporaryDirectory() as folder:
        first = first_answers(Path(folder), 3)
    ratio = round(first["auto"] / first["off"], 3)
    write("host_short", {"cases": found, "first answer, packed / unpacked": ratio, "first answer, CPU seconds": first})


if __name__ == "__main__":
    main()
