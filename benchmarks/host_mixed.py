"""What does it cost that every row of a batch carries another adapter? Against the bare backbone and against PEFT.

    OMP_NUM_THREADS=1 python benchmarks/host_mixed.py            # some 10 minutes on one busy core

Backbones are random BERTs of 6 layers, the batch has 32 rows, adapters are LoRA on every linear. Before anything is
timed, the host's states must equal PEFT's (`adapter_names`) to 1e-5 in fp32. Where the processor has no fast bf16,
d = 768 is measured in fp32 with short rows. Variants take turns. Times are CPU seconds of the process, medians, so that
other work on the machine counts little; with more than one thread they are wall seconds.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from host_adapters import product_flags
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import BertConfig, BertModel

from adapterkit.backbone import find_sites
from adapterkit.backbone.hardware import bfloat16_is_fast
from adapterkit.host.engine.assembly import Packed, Update, assemble, low_rank
from adapterkit.host.engine.engine import Engine

ROWS = 32
LAYERS = 6
RESULTS = Path(__file__).parent / "results" / "host_mixed.json"
SHAPES = {"fp32, d=256": (256, torch.float32), "bf16, d=768": (768, torch.bfloat16)}


def bert(width: int, dtype: torch.dtype) -> Any:
    """What the engine needs of a backbone, around a random BERT."""
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=width,
        num_hidden_layers=LAYERS,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        vocab_size=1000,
    )
    trunk = BertModel(config, add_pooling_layer=False).eval().requires_grad_(False).to(dtype)
    sites = find_sites(trunk)
    return SimpleNamespace(
        trunk=trunk, sites=sites, known_sites=sites, device=torch.device("cpu"), dtype=dtype, hidden_size=width,
        config=config,
    )  # fmt: skip


def tensors(backbone: Any, rank: int, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Path of every linear -> A (R, I) and B (O, R), random."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for site in backbone.sites.sites:
        if site.linear:
            linear = backbone.trunk.get_submodule(site.path)
            a = torch.randn(rank, linear.in_features, generator=generator) * 0.02
            found[site.path] = a, torch.randn(linear.out_features, rank, generator=generator) * 0.02
    return found


def packed(backbone: Any, rank: int, seed: int) -> Packed:
    own = tensors(backbone, rank, seed)
    sites = {site.path: site for site in backbone.sites.sites}
    return assemble(backbone, low_rank(Update(sites[path], a, b) for path, (a, b) in own.items()), {"encoder": 0})


def in_peft(backbone: Any, rank: int, count: int) -> Any:
    """The same adapters in PEFT, on a backbone of its own."""
    other = bert(backbone.hidden_size, backbone.dtype)
    paths = sorted(tensors(backbone, rank, 0))
    settings = LoraConfig(r=rank, lora_alpha=rank, target_modules=paths)
    model = get_peft_model(other.trunk, settings, adapter_name="a0")
    for seed in range(1, count):
        model.add_adapter(f"a{seed}", settings)
    modules = dict(model.base_model.model.named_modules())
    with torch.no_grad():
        for seed in range(count):
            for path, (a, b) in tensors(backbone, rank, seed).items():
                modules[path].lora_A[f"a{seed}"].weight.copy_(a)
                modules[path].lora_B[f"a{seed}"].weight.copy_(b)
    return model.eval().to(backbone.dtype)


def batch(tokens: int) -> dict[str, Tensor]:
    ids = torch.randint(0, 1000, (ROWS, tokens), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def host_states(engine: Engine, adapters: list[Any], inputs: dict[str, Tensor]) -> Tensor:
    with torch.inference_mode():
        order = engine.order(adapters)
        with engine.routed([adapters[i] for i in order]) as view:
            rows = torch.tensor(order)
            states: Tensor = view(**{name: tensor[rows] for name, tensor in inputs.items()}).last_hidden_state
            return states[torch.argsort(rows)]


def plain_states(trunk: Any, inputs: dict[str, Tensor], **more: Any) -> Tensor:
    with torch.inference_mode():
        states: Tensor = trunk(**inputs, **more).last_hidden_state
    return states


def ratios(variants: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Each variant's median time in seconds, the variants taking turns."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name, run in variants.items():
            start = clock()
            run()
            if turn:
                times[name].append(clock() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def measure(
    backbone: Any, engine: Engine, *, count: int, tokens: int, rank: int, repeats: int, peft: bool
) -> dict[str, Any]:
    """Times of one setting: rows share `count` adapters, evenly."""
    inputs = batch(tokens)
    own = [(packed(backbone, rank, seed),) for seed in range(count)]
    adapters = [own[row % count] for row in range(ROWS)]
    bare = bert(backbone.hidden_size, backbone.dtype).trunk  # the host has laid out the weights of its own
    variants: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain_states(bare, inputs),
        "host": lambda: host_states(engine, adapters, inputs),
    }
    found: dict[str, Any] = {"adapters": count, "tokens": tokens, "rank": rank}
    if peft:
        model = in_peft(backbone, rank, count)
        names = [f"a{row % count}" for row in range(ROWS)]
        variants["peft"] = lambda: plain_states(model, inputs, adapter_names=names)
        found["largest_difference"] = float((variants["host"]() - variants["peft"]()).abs().max())
        if backbone.dtype == torch.float32 and found["largest_difference"] > 1e-5:
            raise SystemExit(f"the host and PEFT differ by {found['largest_difference']:.1e}")
    seconds = ratios(variants, repeats)
    found |= {f"{name}_ms": round(1000 * value, 1) for name, value in seconds.items()}
    found |= {f"{name}/plain": round(value / seconds["plain"], 3) for name, value in seconds.items() if name != "plain"}
    if peft:
        extra, theirs = seconds["host"] - seconds["plain"], seconds["peft"] - seconds["plain"]
        found["extra / peft's extra"] = round(extra / theirs, 3)
    print(json.dumps(found), flush=True)
    return found


def mounted_1000(backbone: Any, engine: Engine, tokens: int, repeats: int) -> dict[str, Any]:
    """One batch of 32 adapters with 32, and with 1,000, in memory."""
    inputs = batch(tokens)
    many = [(packed(backbone, 8, seed),) for seed in range(1000)]
    few = [(packed(backbone, 8, seed),) for seed in range(ROWS)]
    spread = many[:: len(many) // ROWS][:ROWS]
    seconds = ratios(
        {
            "32": lambda: host_states(engine, few, inputs),
            "1000": lambda: host_states(engine, spread, inputs),
        },
        repeats,
    )
    found = {"tokens": tokens, "1000 / 32 mounted": round(seconds["1000"] / seconds["32"], 3)}
    print(json.dumps(found), flush=True)
    return found


def owned(backbone: Any, engine: Engine, *, tokens: int, rank: int, repeats: int) -> dict[str, Any]:
    """One adapter in all rows: two narrow products, or its update folded into the weights first."""
    inputs, merging = batch(tokens), Engine(backbone, merge=True)
    adapters = [(packed(backbone, rank, 0),)] * ROWS
    bare = bert(backbone.hidden_size, backbone.dtype).trunk
    variants: dict[str, Callable[[], Any]] = {
        "plain": lambda: plain_states(bare, inputs),
        "host": lambda: host_states(engine, adapters, inputs),
        "merged": lambda: host_states(merging, adapters, inputs),
    }
    difference = float((variants["host"]() - variants["merged"]()).abs().max())
    if backbone.dtype == torch.float32 and difference > 1e-5:
        raise SystemExit(f"merged and not, the host's states differ by {difference:.1e}")
    seconds = ratios(variants, repeats)
    found: dict[str, Any] = {"adapters": 1, "tokens": ROWS * tokens, "rank": rank, "largest_difference": difference}
    found |= {f"{name}/plain": round(value / seconds["plain"], 3) for name, value in seconds.items() if name != "plain"}
    print(json.dumps(found), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for wanted in options.shapes:
        width, dtype = SHAPES[wanted]
        slow = dtype == torch.bfloat16 and not bfloat16_is_fast(torch.device("cpu"))
        name = f"fp32, d={width}" if slow else wanted
        dtype = torch.float32 if slow else dtype
        backbone = bert(width, dtype)
        engine = Engine(backbone)
        tokens = 16 if slow else 64
        print(name, flush=True)
        with torch.inference_mode(), engine.routed([()] * ROWS) as view:
            if not torch.equal(view(**batch(8)).last_hidden_state, backbone.trunk(**batch(8)).last_hidden_state):
                raise SystemExit("without adapters the host is not the bare backbone")
        common = {"backbone": backbone, "engine": engine}
        section: dict[str, Any] = {
            "mixed": measure(count=32, tokens=tokens, rank=8, peft=True, repeats=options.repeats, **common),
            "mounted": mounted_1000(backbone, engine, tokens, 2 * options.repeats) if not slow else None,
        }
        if not slow:
            section["over adapters"] = [
                measure(count=count, tokens=32, rank=8, peft=False, repeats=options.repeats // 2 + 1, **common)
                for count in (1, 4, 16, 32)
            ]
            section["one adapter"] = [
                owned(backbone, engine, tokens=64, rank=rank, repeats=options.repeats) for rank in (8, 32)
            ]
            section["over tokens"] = [
                measure(count=32, tokens=length, rank=8, peft=False, repeats=options.repeats // 2 + 1, **common)
                for length in (8, 16, 64, 128)
            ]
            section["over rank"] = [
                measure(count=32, tokens=32, rank=rank, peft=False, repeats=options.repeats // 2 + 1, **common)
                for rank in (2, 8, 16, 64)
            ]
        report[f"{name}, {options.threads} thread"] = {
            "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}",
            "flags": product_flags(),
            "bf16 in hardware": bfloat16_is_fast(torch.device("cpu")),
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            **section,
        }
        RESULTS.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
