"""What does onnxruntime take for an exported adapter, over our bare backbone in torch?

    OMP_NUM_THREADS=1 python benchmarks/onnx_export.py        # a minute

all-MiniLM-L6-v2 in fp32 with a rank-8 LoRA and a linear head, merged and not, one thread; the variants take turns. The
answers must be the adapter's to 1e-4 before anything is timed.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from host_adapters import METHODS, MINILM, OWN, alternating, saved, write

import adapterkit as ak
from adapterkit.artifact import load

SIZES = ((1, 16), (8, 32), (32, 64))


def session(folder: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(folder / "model.onnx"), options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    backbone = ak.Backbone.load(MINILM, dtype="float32")
    cells = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = saved(Path(scratch), backbone, METHODS["query and value"], OWN, 1)[0]
        sessions = {
            "merged": session(ak.export(folder, Path(scratch) / "merged", to="onnx", backbone=backbone)),
            "unmerged": session(ak.export(folder, Path(scratch) / "un", to="onnx", backbone=backbone, unmerged=True)),
            "int8": session(ak.export(folder, Path(scratch) / "int8", to="onnx", backbone=backbone, quantise="int8")),
        }
        for rows, tokens in SIZES:
            ids = torch.randint(1000, 2000, (rows, tokens), generator=torch.Generator().manual_seed(1))
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
            arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
            with load(folder, backbone) as adapted, torch.inference_mode():
                expected = adapted(inputs)
            for name in ("merged", "unmerged"):
                far = float((torch.from_numpy(sessions[name].run(None, arrays)[0]) - expected).abs().max())
                if far > 1e-4 * float(expected.abs().max().clamp(min=1)):
                    raise SystemExit(f"{name}: differs by {far:.1e}")

            def bare(inputs: dict[str, torch.Tensor] = inputs) -> None:
                with torch.inference_mode():
                    backbone.trunk(**inputs)

            variants: dict[str, Any] = {"bare": bare}
            for name, one in sessions.items():
                variants[name] = lambda one=one, arrays=arrays: one.run(None, arrays)
            seconds = alternating(variants, repeats)
            cells.append(
                {"rows": rows, "tokens": tokens, "bare ms": round(1000 * seconds["bare"], 2)}
                | {f"{name} / bare": round(seconds[name] / seconds["bare"], 3) for name in sessions}
            )
    write("onnx_export", {"onnxruntime": onnxruntime.__version__, "cells": cells})


if __name__ == "__main__":
    main()
