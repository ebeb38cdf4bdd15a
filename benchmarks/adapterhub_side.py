"""AdapterHub's half of `host_adapterhub.py`: runs in its own environment, without adapterkit, and prints JSON.

A random BERT of 6 layers, 32 rows, an adapter of its own for every row through `BatchSplit`, against the same model
before anything was added. The mixed states must equal each adapter alone to 1e-5.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import adapters
import torch
import transformers
from adapters import LoRAConfig, SeqBnConfig
from adapters.composition import BatchSplit
from transformers import BertConfig, BertModel

ROWS, LAYERS = 32, 6
CONFIGS = {
    "LoRA of rank 8": LoRAConfig(r=8, alpha=8, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True),
    "bottleneck (seq_bn)": SeqBnConfig(),
}


def model(width: int) -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=width,
        num_hidden_layers=LAYERS,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        vocab_size=1000,
    )
    return BertModel(config, add_pooling_layer=False).eval()


def measure(name: str, width: int, tokens: int, repeats: int) -> dict[str, object]:
    plain, other = model(width), model(width)
    adapters.init(other)
    for row in range(ROWS):
        other.add_adapter(f"a{row}", config=CONFIGS[name])
    torch.manual_seed(1)
    for path, parameter in other.named_parameters():
        if "lora_B" in path or "adapter_up" in path:
            torch.nn.init.normal_(parameter, std=0.02)
    other.eval()
    ids = torch.randint(0, 1000, (ROWS, tokens), generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    mixed = BatchSplit(*(f"a{row}" for row in range(ROWS)), batch_sizes=[1] * ROWS)
    found: dict[str, object] = {"adapters": name, "width": width, "tokens": tokens}
    with torch.inference_mode():
        other.set_active_adapters(mixed)
        states = other(**inputs).last_hidden_state
        largest = 0.0
        for row in (0, 7, ROWS - 1):
            other.set_active_adapters(f"a{row}")
            alone = other(**{key: tensor[row : row + 1] for key, tensor in inputs.items()}).last_hidden_state[0]
            largest = max(largest, float((states[row] - alone).abs().max()))
        found["largest difference"] = largest
        if largest > 1e-5 or torch.allclose(states, plain(**inputs).last_hidden_state, atol=1e-3):
            raise SystemExit(f"{name}: a mixed batch and its rows alone differ by {largest:.1e}, or nothing is added")
        other.set_active_adapters(mixed)
        times: dict[str, list[float]] = {"plain": [], "BatchSplit": []}
        for turn in range(repeats + 1):
            for variant, run in (("plain", plain), ("BatchSplit", other)):
                start = time.process_time()
                run(**inputs)
                if turn:
                    times[variant].append(time.process_time() - start)
    seconds = {variant: statistics.median(values) for variant, values in times.items()}
    found |= {f"{variant} ms": round(1000 * value, 1) for variant, value in seconds.items()}
    found["BatchSplit / plain"] = round(seconds["BatchSplit"] / seconds["plain"], 3)
    return found


def main() -> None:
    width, tokens, repeats = map(int, sys.argv[1:4])
    torch.set_num_threads(1)
    cells = [measure(name, width, tokens, repeats) for name in CONFIGS]
    versions = {
        "adapters": adapters.__version__, "transformers": transformers.__version__, "torch": torch.__version__
    }  # fmt: skip
    print(json.dumps({"versions": versions, "cells": cells}))


if __name__ == "__main__":
    main()
