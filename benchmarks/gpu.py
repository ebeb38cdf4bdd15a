"""On a GPU: a training step (plain, compiled, with CUDA graphs), several runs in one batch, and a host's mixed batch.

    make bench-gpu                                   # under 8 minutes on one GPU; says why where there is none
    python benchmarks/gpu.py --device cpu --tiny     # the same code on a CPU, in seconds; its figures mean nothing

Each stands beside PEFT on the same random BERT, and is compared with it first: losses and gradients of a step,
gradients of a run among others and alone, states of a mixed batch. Times are medians of interleaved turns, with the
device waited for; memory is the most that stood there during a step, from torch's allocator. What one of the two
cannot do is written down with its reason.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import host_mixed
import torch
import transformers
from host_adapters import RESULTS, conditions
from together import learnings
from torch import nn
from training_step import RATE, Case, Plain, batch_of, check_equal, checkpoint_of, copy_state, ours_on, set_dropout

from adapterkit.adapted import Adapted
from adapterkit.backbone import Backbone
from adapterkit.host.engine.engine import Engine
from adapterkit.recipe import TrainingSettings, resolve
from adapterkit.training.learner import make_learner
from adapterkit.training.together.joint import Joint
from adapterkit.training.turn import turns

FULL = [
    Case("d=768, fp32", 768, 12, 32, 128),
    Case("d=768, bf16", 768, 12, 32, 128, dtype=torch.bfloat16),
    Case("d=1024, bf16, long", 1024, 24, 16, 512, dtype=torch.bfloat16),
]
TINY = [Case("tiny", 64, 2, 4, 8)]
WAYS: Mapping[str, dict[str, Any] | None] = {
    "plain": None,
    "compiled": {"dynamic": False},
    "CUDA graphs": {"dynamic": False, "mode": "reduce-overhead"},
}


class Ours:
    """adapterkit's adapter and learner; see `training_step.Plain`."""

    def __init__(self, case: Case, adapted: Adapted) -> None:
        self.model: nn.Module = adapted.train()
        set_dropout(adapted.module, 0.0)
        settings = TrainingSettings(learning_rate=RATE, head_learning_rate=RATE, schedule="constant", warmup=0)
        self.learner = make_learner(adapted, settings, total_steps=1000)
        self.inputs: dict[str, torch.Tensor] = {}
        self.targets_B = torch.empty(0)

    def loss(self) -> torch.Tensor:
        return nn.functional.cross_entropy(self.model(self.inputs).float(), self.targets_B)

    def update(self) -> None:
        self.learner.step(1.0)


def now(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def medians_ms(variants: Mapping[str, Callable[[], Any]], repeats: int, device: torch.device) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(repeats + 2):
        for name, run in variants.items():
            begun = now(device)
            run()
            if turn >= 2:
                times[name].append(1e3 * (now(device) - begun))
    return {name: round(statistics.median(found), 3) for name, found in times.items()}


def most_bytes(run: Callable[[], Any], device: torch.device) -> int | None:
    """None where the allocator does not tell."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    return torch.cuda.max_memory_allocated(device) - before


def take_step(variant: Any) -> None:
    variant.loss().backward()
    variant.update()


def steps(case: Case, device: torch.device, repeats: int, folder: Path) -> dict[str, Any]:
    """A step of the two, in every way that there is."""
    checkpoint = checkpoint_of(case, folder)
    backbone = Backbone.load(checkpoint, dtype=str(case.dtype).removeprefix("torch."), device=str(device))
    found: dict[str, Any] = {}
    with ours_on(case, backbone) as adapted:
        theirs = Plain(case, checkpoint, adapters=True)
        copy_state(adapted, theirs.model)
        theirs.model.to(device)
        ours = Ours(case, adapted)
        for variant in (ours, theirs):
            inputs, targets_B = batch_of(case)
            variant.inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
            variant.targets_B = targets_B.to(device)
        check_equal(case, ours, theirs)  # type: ignore[arg-type]
        plain = {"adapterkit": ours.model, "peft": theirs.model}
        for way, settings in WAYS.items():
            if way == "CUDA graphs" and device.type != "cuda":
                found[way] = "refused: they are CUDA's"
                continue
            runs: dict[str, Callable[[], Any]] = {}
            refused = {}
            for name, variant in (("adapterkit", ours), ("peft", theirs)):
                variant.model = plain[name]
                if settings is not None:
                    compiler = {} if device.type == "cuda" else {"backend": "aot_eager"}
                    kept = {name: value for name, value in settings.items() if name == "dynamic" or not compiler}
                    variant.model = torch.compile(plain[name], **kept, **compiler)  # type: ignore[call-overload]
                run = runs[name] = partial(take_step, variant)
                try:
                    run()
                except Exception as error:  # noqa: BLE001 - a compiler's errors are of every kind
                    refused[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
                    del runs[name]
            ms = medians_ms(runs, repeats, device)
            found[way] = {
                "ms": ms,
                "bytes at most": {name: most_bytes(run, device) for name, run in runs.items()},
                **({"step / peft": round(ms["adapterkit"] / ms["peft"], 3)} if len(ms) == 2 else {}),
                **({"refused": refused} if refused else {}),
            }
            torch.compiler.reset()
    return {"case": case.name, **found}


def packed(case: Case, device: torch.device, members: int, repeats: int, folder: Path) -> dict[str, Any]:
    """The gradients of several runs: in one batch, one run after the other, and as often by PEFT."""
    checkpoint = checkpoint_of(case, folder)
    rows = [{"text": " ".join(map(str, range(case.tokens - 2))), "label": str(number % 4)} for number in range(64)]
    file = folder / "rows.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    recipe = resolve(
        {
            "task": {"kind": "text-classification"},
            "backbone": {"name": checkpoint, "device": str(device)},
            "method": {"kind": "lora", "rank": 8, "sites": "all-linear"},
            "head": {"kind": "linear", "pooling": "first"},
            "data": {"train": str(file), "validation": None},
            "training": {"batch_size": case.rows, "packed": "off", "precision": "fp32", "trackers": []},
        },
        (),
    ).recipe
    backbone = Backbone.load(checkpoint, dtype="float32", device=str(device))
    runs = learnings(recipe, backbone, members)
    joint = Joint(backbone, [run.adapted for run in runs])
    at_hand = next(iter(zip(*(turns(run) for run in runs), strict=False)))
    theirs = Plain(replace(case, dtype=torch.float32), checkpoint, adapters=True)
    theirs.model.to(device)
    theirs.inputs = {name: tensor.to(device) for name, tensor in theirs.inputs.items()}
    theirs.targets_B = theirs.targets_B.to(device)

    def in_one_batch() -> None:
        joint.compute(list(enumerate(at_hand)))

    def one_after_another() -> None:
        for turn in at_hand:
            turn.compute()

    def by_peft() -> None:
        for _ in range(members):
            torch.autograd.backward(theirs.loss())

    def gradients(act: Callable[[], None]) -> list[torch.Tensor]:
        act()
        found = []
        for turn in at_hand:
            of = turn.learning.learner.parameters.values()
            found.append(torch.cat([tensor.grad.flatten() for tensor in of if tensor.grad is not None]))
            turn.forget()
        return found

    with joint.without_dropout():
        for one, other in zip(gradients(one_after_another), gradients(in_one_batch), strict=True):
            if not float((one - other).norm()) <= 1e-2 * float(one.norm()):
                raise SystemExit("a run among others learns something else than alone")
        variants: dict[str, Callable[[], Any]] = {
            "in one batch": lambda: gradients(in_one_batch),
            "one after another": lambda: gradients(one_after_another),
            "peft, one after another": by_peft,
        }
        ms = medians_ms(variants, repeats, device)
    return {"case": f"{members} runs of {case.rows} rows", "ms": ms}


def mixed(
    width: int, dtype: torch.dtype, tokens: int, count: int, device: torch.device, repeats: int
) -> dict[str, Any]:
    """32 rows of many adapters: the plain trunk, the host's engine, PEFT."""
    backbone = host_mixed.bert(width, dtype)
    model = host_mixed.in_peft(backbone, 8, count).to(device)
    bare = host_mixed.bert(width, dtype).trunk.to(device)
    own = [(host_mixed.packed(backbone, 8, seed),) for seed in range(count)]
    backbone.trunk.to(device)
    backbone.device = device
    engine = Engine(backbone)
    inputs = {name: tensor.to(device) for name, tensor in host_mixed.batch(tokens).items()}
    adapters = [own[row % count] for row in range(host_mixed.ROWS)]
    names = [f"a{row % count}" for row in range(host_mixed.ROWS)]
    variants: dict[str, Callable[[], Any]] = {
        "plain": lambda: host_mixed.plain_states(bare, inputs),
        "host": lambda: host_mixed.host_states(engine, adapters, inputs),
        "peft": lambda: host_mixed.plain_states(model, inputs, adapter_names=names),
    }
    difference = float((variants["host"]() - variants["peft"]()).abs().max())
    if dtype == torch.float32 and difference > 1e-4:
        raise SystemExit(f"the host and PEFT differ by {difference:.1e}")
    ms = medians_ms(variants, repeats, device)
    ratios = {f"{name}/plain": round(ms[name] / ms["plain"], 3) for name in ("host", "peft")}
    memory = {name: most_bytes(run, device) for name, run in variants.items()}
    return {
        "case": f"{count} adapters, {tokens} tokens, d={width}, {dtype}", "ms": ms, **ratios,
        "bytes at most": memory, "largest difference": difference,
    }  # fmt: skip


def measure(device: torch.device, *, tiny: bool, repeats: int) -> dict[str, Any]:
    """All of it, printed as it is found."""
    found: dict[str, Any] = {"steps": [], "packed": [], "mixed": []}

    def note(table: str, row: dict[str, Any]) -> None:
        print(json.dumps(row), flush=True)
        found[table].append(row)

    cases = TINY if tiny else FULL
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            note("steps", steps(case, device, repeats, Path(folder)))
    for rows in (4,) if tiny else (4, 16):
        with tempfile.TemporaryDirectory() as folder:
            case = replace(cases[0], rows=rows)
            note("packed", packed(case, device, 2 if tiny else 8, repeats, Path(folder)))
    for width, dtype in ((64, torch.float32),) if tiny else ((768, torch.float32), (768, torch.bfloat16)):
        for tokens in (4,) if tiny else (16, 128):
            note("mixed", mixed(width, dtype, tokens, 4 if tiny else 32, device, repeats))
    return found


def main() -> None:
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes, to see that it runs")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, help="default: results/gpu.json, and nowhere with --tiny")
    wanted = parser.parse_args()
    device = torch.device(wanted.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("skipped: torch sees no CUDA GPU on this machine; --device cpu --tiny runs the same code")
        return
    found = measure(device, tiny=wanted.tiny, repeats=wanted.repeats)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    out = wanted.out or (None if wanted.tiny else RESULTS / "gpu.json")
    if out is not None:
        out.write_text(json.dumps({"device": name, **conditions(), **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
