"""What does padding cost, and what does it cost to leave it out?

    OMP_NUM_THREADS=1 python benchmarks/padding.py

Against the plain padded backbone with transformers' `sdpa`: batches of which 70 % is padding, and batches without any;
the forward alone, and a training step with LoRA; beside it, the same batch in four length buckets. Variants take turns
after their outputs were compared. Times are the process's own seconds on one thread, since machines are shared. Writes
benchmarks/results/padding.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from adapterkit.adapted import build
from adapterkit.backbone import Backbone
from adapterkit.backbone.attention import NAME, use_own_attention
from adapterkit.heads.headed import Headed
from adapterkit.heads.unpadded import UnpaddedHeaded
from adapterkit.recipe import HeadSettings, LoraMethod, TaskSettings
from adapterkit.tasks import TASKS

RESULTS = Path(__file__).resolve().parent / "results" / "padding.json"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
ROWS, TOKENS, BUCKETS = 16, 128, 4
TOLERANCE = 1e-4
Variants = Mapping[str, Callable[[], Any]]


def lengths(share: float) -> list[int]:
    """Rows of which the longest has TOKENS tokens, and which leave `share` of the batch to padding."""
    if not share:
        return [TOKENS] * ROWS
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(ROWS - 1, generator=generator) ** 2
    rest = round(ROWS * TOKENS * (1 - share)) - TOKENS
    found = (drawn / drawn.sum() * (rest - 2 * (ROWS - 1))).int() + 2
    return [TOKENS, *found.clamp(max=TOKENS).tolist()]


def batch(share: float) -> dict[str, Tensor]:
    length_B1 = torch.tensor(lengths(share))[torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))][:, None]
    mask = (torch.arange(TOKENS) < length_B1).long()
    ids = torch.randint(1000, 9000, (ROWS, TOKENS), generator=torch.Generator().manual_seed(2))
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": torch.zeros_like(mask)}


def buckets(inputs: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The batch in BUCKETS batches of rows of similar length, each padded to its own longest row."""
    order = inputs["attention_mask"].sum(1).argsort(descending=True)
    found = []
    for part in order.chunk(BUCKETS):
        longest = int(inputs["attention_mask"][part].sum(1).max())
        found.append({name: value[part, :longest] for name, value in inputs.items()})
    return found


class States(nn.Module):
    """A trunk as the module of a head that gives its states."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, **inputs: Tensor) -> Any:
        return self.trunk(**inputs).last_hidden_state


@contextmanager
def transformers_attention(trunk: nn.Module) -> Iterator[None]:
    """Inside, the trunk attends as transformers does by itself."""
    config: Any = trunk.config
    config._attn_implementation = "sdpa"
    try:
        yield
    finally:
        config._attn_implementation = NAME


def timed(variants: Variants, repeats: int) -> dict[str, float]:
    """Median seconds of every variant; they take turns."""
    for run in variants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, run in variants.items():
            started = time.process_time()
            run()
            seconds[name].append(time.process_time() - started)
    return {name: statistics.median(found) for name, found in seconds.items()}


def forwards(trunk: nn.Module, share: float) -> Variants:
    inputs = batch(share)
    answers = UnpaddedHeaded(Headed(States(trunk), {}), "text-classification", encoder_decoder=False)
    parts = buckets(inputs)

    @torch.inference_mode()
    def plain() -> Tensor:
        with transformers_attention(trunk):
            states: Tensor = trunk(**inputs).last_hidden_state
        return states

    @torch.inference_mode()
    def unpadded() -> Tensor:
        return answers.logits(inputs)

    @torch.inference_mode()
    def bucketed() -> None:
        with transformers_attention(trunk):
            for part in parts:
                trunk(**part)

    there = inputs["attention_mask"][..., None]
    difference = float(((plain() - unpadded()) * there).abs().max())
    if difference > TOLERANCE:
        raise ValueError(f"states differ by {difference}, expected at most {TOLERANCE}")
    return {"plain": plain, "unpadded": unpadded, "buckets": bucketed}


@contextmanager
def steps(backbone: Backbone, share: float) -> Iterator[Variants]:
    inputs = batch(share)
    rows = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    task = TASKS["text-classification"].prepare(TaskSettings(kind="text-classification"), rows)
    adapted = build(backbone, task, LoraMethod(rank=8), HeadSettings(kind="linear"), 0)
    parameters = list({**adapted.method_parameters(), **adapted.head_parameters()}.values())
    labels = torch.arange(ROWS) % 2

    def backward(logits: Tensor) -> list[Tensor]:
        loss = nn.functional.cross_entropy(logits, labels)
        return list(torch.autograd.grad(loss, parameters))

    def plain() -> list[Tensor]:
        with transformers_attention(backbone.trunk):
            return backward(adapted.headed.logits(inputs))

    def padded() -> list[Tensor]:
        return backward(adapted.headed.logits(inputs))

    def unpadded() -> list[Tensor]:
        return backward(adapted(inputs))

    for one, other in zip(plain(), unpadded(), strict=True):
        if not torch.allclose(one, other, rtol=0, atol=TOLERANCE):
            raise ValueError(f"gradients differ by {float((one - other).abs().max())}")
    with adapted.train():
        yield {"plain": plain, "own attention, padded": padded, "unpadded": unpadded}


def random_bert(width: int, layers: int) -> nn.Module:
    config = BertConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64, intermediate_size=4 * width
    )
    torch.manual_seed(0)
    trunk: nn.Module = BertModel(config).eval().requires_grad_(False)
    use_own_attention(trunk)
    return trunk


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    repeats, results = chosen.repeats, chosen.out
    torch.set_num_threads(1)
    minilm = Backbone.load(MINILM, dtype="float32", device="cpu")
    trunks = {"MiniLM, 6 layers": minilm.trunk, "BERT d=256, 4 layers": random_bert(256, 4)}
    trunks["BERT d=768, 2 layers"] = random_bert(768, 2)
    found: list[dict[str, Any]] = []

    def note(name: str, what: str, share: float, variants: Variants) -> None:
        seconds = timed(variants, repeats)
        ratio = {other: round(seconds["plain"] / value, 3) for other, value in seconds.items()}
        found.append({"model": name, "what": what, "padding": share, "seconds": seconds, "times_faster": ratio})
        facts = {"rows": ROWS, "tokens": TOKENS, "threads": 1, "dtype": "float32", "repeats": repeats}
        results.parent.mkdir(exist_ok=True)
        results.write_text(json.dumps({**facts, "torch": torch.__version__, "results": found}, indent=1) + "\n")
        shown = ", ".join(f"{other} {value:.2f}" for other, value in ratio.items())
        print(f"{name}, {what}, {share:.0%} padding: {shown} times as fast as plain", flush=True)

    for share in (0.7, 0.0):
        for name, trunk in trunks.items():
            note(name, "forward", share, forwards(trunk, share))
        with steps(minilm, share) as variants:
            note("MiniLM, 6 layers", "training step", share, variants)


if __name__ == "__main__":
    main()
