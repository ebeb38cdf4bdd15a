"""What one training step costs: full fine-tuning, PEFT and adapterkit on the same model, rows and attention.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py [--repeats 9] [--only d=768] [--out benchmarks/results]

The backbones are BERTs with random weights and few layers, since ratios hardly depend on depth, and MiniLM. A step is
forward, loss, backward, clip, AdamW, schedule, clear. All three use torch's fused AdamW and the attention that
adapterkit takes for this length. Losses and gradients are compared first, without dropout; steps are timed without it
too, and in some cases with that of a usual checkpoint, 0.1 in trunk and head. Variants are interleaved and medians
reported, of processor time, which other processes do not stretch as they do wall time. Saved activations are bytes of
distinct storages that autograd holds after the forward, parameters not counted. bf16 is timed only where the processor
multiplies it in hardware.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from host_adapters import product_flags
from peft import LoraConfig, TaskType, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel, BertTokenizerFast

from adapterkit.adapted import Adapted, build
from adapterkit.backbone import Backbone
from adapterkit.backbone.files import local_copy
from adapterkit.backbone.hardware import bfloat16_is_fast
from adapterkit.methods.fused import put_on
from adapterkit.recipe import HeadSettings, LoraMethod, TaskSettings, TrainingSettings
from adapterkit.tasks import TASKS
from adapterkit.training.learner import make_learner

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
LABELS = 4
RANK, ALPHA, RATE = 8, 16.0, 1e-3
AUTO = ["query", "value"]
ALL_LINEAR = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]


@dataclass(frozen=True)
class Case:
    """One table row: a backbone, a batch, and where LoRA attaches."""

    name: str
    width: int
    layers: int
    rows: int
    tokens: int
    sites: str = "all-linear"
    dtype: torch.dtype = torch.float32
    dropout: float = 0.0
    trunk_dropout: float = 0.0
    checkpoint: str | None = None


FULL_SIZE = [
    Case("d=768", 768, 2, 8, 64),
    Case("d=768 auto sites", 768, 2, 8, 64, sites="auto"),
    Case("d=768 trunk dropout", 768, 2, 8, 64, trunk_dropout=0.1),
    Case("d=256", 256, 2, 32, 64),
    Case("d=256 auto sites", 256, 2, 32, 64, sites="auto"),
    Case("d=256 trunk dropout", 256, 2, 32, 64, trunk_dropout=0.1),
    Case("MiniLM", 384, 6, 32, 32, checkpoint=MINILM),
    Case("MiniLM auto sites", 384, 6, 32, 32, sites="auto", checkpoint=MINILM),
]
NARROW = [
    Case("d=768 bf16", 768, 2, 8, 64, dtype=torch.bfloat16),
    Case("d=256 bf16", 256, 2, 32, 64, dtype=torch.bfloat16),
    Case("d=768 bf16 auto sites", 768, 2, 8, 64, sites="auto", dtype=torch.bfloat16),
    Case("d=768 bf16 trunk dropout", 768, 2, 8, 64, dtype=torch.bfloat16, trunk_dropout=0.1),
    Case("d=256 bf16 trunk dropout", 256, 2, 32, 64, dtype=torch.bfloat16, trunk_dropout=0.1),
    Case("MiniLM bf16", 384, 6, 32, 32, dtype=torch.bfloat16, checkpoint=MINILM),
    Case("MiniLM bf16 auto sites", 384, 6, 32, 32, sites="auto", dtype=torch.bfloat16, checkpoint=MINILM),
]
MEMORY = [
    Case(f"{sites}{', dropout' if dropout else ''}", 256, 2, 4, 64, sites, torch.bfloat16, dropout)
    for sites in ("all-linear", "auto")
    for dropout in (0.0, 0.1)
]


def checkpoint_of(case: Case, folder: Path) -> str:
    """A folder with the case's backbone, without dropout."""
    if case.checkpoint is not None:
        return str(local_copy(case.checkpoint))
    config = BertConfig(
        vocab_size=64, hidden_size=case.width, num_hidden_layers=case.layers, num_attention_heads=case.width // 64,
        intermediate_size=4 * case.width, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(59))]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


def batch_of(case: Case) -> tuple[dict[str, Tensor], Tensor]:
    """Rows of equal length, so that no padding blurs the picture, and their targets."""
    generator = torch.Generator().manual_seed(0)
    ids_BT = torch.randint(5, 64, (case.rows, case.tokens), generator=generator)
    targets_B = torch.randint(0, LABELS, (case.rows,), generator=generator)
    return {"input_ids": ids_BT, "attention_mask": torch.ones_like(ids_BT)}, targets_B


def set_dropout(model: nn.Module, probability: float) -> None:
    """Give every dropout of a model one probability."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability


class Plain:
    """transformers' class trained by hand: all of it, or PEFT's adapters."""

    def __init__(self, case: Case, checkpoint: str, *, adapters: bool) -> None:
        self.inputs, self.targets_B = batch_of(case)
        attention = "eager" if case.tokens <= (256 if case.dtype == torch.bfloat16 else 64) else "sdpa"
        model: Any = AutoModelForSequenceClassification.from_pretrained(
            checkpoint, num_labels=LABELS, dtype=case.dtype, attn_implementation=attention
        )
        set_dropout(model, 0.0)
        if adapters:
            config = LoraConfig(
                task_type=TaskType.SEQ_CLS, r=RANK, lora_alpha=int(ALPHA), lora_dropout=case.dropout,
                target_modules=ALL_LINEAR if case.sites == "all-linear" else AUTO,
                exclude_modules=r".*pooler.*",
            )  # fmt: skip
            model = get_peft_model(model, config)
        self.model = model.train()
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=RATE, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1.0)

    def loss(self) -> Tensor:
        logits = self.model(**self.inputs).logits
        return nn.functional.cross_entropy(logits.float(), self.targets_B)

    def update(self) -> None:
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()


class Ours:
    """adapterkit's adapter and learner."""

    def __init__(self, case: Case, adapted: Adapted) -> None:
        self.inputs, self.targets_B = batch_of(case)
        self.adapted = adapted
        self.model: nn.Module = adapted.train()
        if case.dropout == 0:
            set_dropout(adapted.module, 0.0)  # the head's too, which a checkpoint's config may ask for
        put_on(adapted.backbone.trunk, adapted.backbone.known_sites.sites)  # as training.packed=auto does
        settings = TrainingSettings(learning_rate=RATE, head_learning_rate=RATE, schedule="constant", warmup=0)
        self.learner = make_learner(adapted, settings, total_steps=1000)

    def loss(self) -> Tensor:
        return nn.functional.cross_entropy(self.adapted(self.inputs).float(), self.targets_B)

    def update(self) -> None:
        self.learner.step(1.0)
        self.learner.size()


def ours_on(case: Case, backbone: Backbone) -> Adapted:
    """A classifier with LoRA, its trained head on a frozen pooler."""
    rows = [{"text": "1 2", "label": str(label)} for label in range(LABELS)]
    task = TASKS["text-classification"].prepare(TaskSettings(kind="text-classification"), rows)
    sites: Any = case.sites
    method = LoraMethod(rank=RANK, alpha=ALPHA, dropout=case.dropout, sites=sites)
    return build(backbone, task, method, HeadSettings(kind="family"), seed=0)


def copy_state(adapted: Adapted, model: Any) -> None:
    """Give PEFT's model the same adapter and head, neither of them zero."""
    generator = torch.Generator().manual_seed(1)
    state = {
        name: 0.02 * torch.randn(tensor.shape, generator=generator) for name, tensor in sorted(adapted.state().items())
    }
    adapted.load_state(state)
    found = peft.set_peft_model_state_dict(model, state)
    if found.unexpected_keys:
        raise SystemExit(f"PEFT does not know {found.unexpected_keys}")


def check_equal(case: Case, ours: Ours, theirs: Plain) -> None:
    """Losses and gradients are PEFT's, or the figures mean nothing."""
    tolerance = 1e-5 if case.dtype == torch.float32 else 6e-2
    losses = []
    for variant in (ours, theirs):
        loss = variant.loss()
        torch.autograd.backward(loss)
        losses.append(loss.item())
    plain = {
        name.replace(".default", "").replace("modules_to_save.", ""): parameter.grad
        for name, parameter in theirs.model.named_parameters()
    }
    worst = abs(losses[0] - losses[1]) / abs(losses[1])
    for name, parameter in ours.learner.parameters.items():
        expected: Any = plain[f"base_model.model.{name}"]
        worst = max(worst, float((parameter.grad - expected).norm() / expected.norm()))
    if not worst < tolerance:
        raise SystemExit(f"{case.name}: not equal to PEFT, off by {worst:.1e}")
    for variant in (ours, theirs):
        variant.update()


def measure(case: Case, repeats: int) -> dict[str, Any]:
    """Medians in ms of a step and of its update, for the three, interleaved."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = checkpoint_of(case, Path(folder))
        backbone = Backbone.load(checkpoint, dtype=str(case.dtype).removeprefix("torch."), device="cpu")
        with ours_on(case, backbone) as adapted:
            theirs = Plain(case, checkpoint, adapters=True)
            copy_state(adapted, theirs.model)
            variants: dict[str, Any] = {"adapterkit": Ours(case, adapted), "peft": theirs}
            if case.dropout == 0:
                check_equal(case, variants["adapterkit"], theirs)
            variants["full"] = Plain(case, checkpoint, adapters=False)
            if case.trunk_dropout:
                for variant in variants.values():
                    set_dropout(variant.model, case.trunk_dropout)
            times: dict[str, list[float]] = {f"{name} {part}": [] for name in variants for part in ("step", "update")}
            for number in range(repeats + 2):
                for name, variant in variants.items():
                    begun = time.process_time()
                    variant.loss().backward()
                    computed = time.process_time()
                    variant.update()
                    ended = time.process_time()
                    if number >= 2:
                        times[f"{name} step"].append(1e3 * (ended - begun))
                        times[f"{name} update"].append(1e3 * (ended - computed))
    medians = {name: round(statistics.median(values), 3) for name, values in times.items()}
    return {
        "case": case.name,
        "ms": medians,
        "step / full": round(medians["adapterkit step"] / medians["full step"], 3),
        "step / peft": round(medians["adapterkit step"] / medians["peft step"], 3),
        "peft / full": round(medians["peft step"] / medians["full step"], 3),
    }


@contextmanager
def held_bytes(held: dict[int, int], skip: set[int]) -> Iterator[None]:
    """Count the storages that autograd keeps, each once, without those in `skip`."""

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in skip:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield


def saved_bytes(variant: Any) -> int:
    """Bytes of activations that one step keeps for its gradients."""
    skip = {parameter.untyped_storage().data_ptr() for parameter in variant.model.parameters()}
    held: dict[int, int] = {}
    with held_bytes(held, skip):
        loss = variant.loss()
    loss.backward()
    variant.update()
    return sum(held.values())


def memory(case: Case) -> dict[str, Any]:
    """Saved activations of the two."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = checkpoint_of(case, Path(folder))
        backbone = Backbone.load(checkpoint, dtype=str(case.dtype).removeprefix("torch."), device="cpu")
        with ours_on(case, backbone) as adapted:
            found = {
                "adapterkit": saved_bytes(Ours(case, adapted)),
                "peft": saved_bytes(Plain(case, checkpoint, adapters=True)),
            }
    return {"case": case.name, "bytes": found, "saved / peft": round(found["adapterkit"] / found["peft"], 3)}


def main() -> None:
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--only", help="cases whose name begins so; 'saved' for the activations")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    narrow = NARROW if bfloat16_is_fast(torch.device("cpu")) else []
    file = arguments.out / "training_step.json"
    for case in [*FULL_SIZE, *narrow]:
        if case.name.startswith(arguments.only or ""):
            record(file, "steps", measure(case, arguments.repeats))
    for case in MEMORY if (arguments.only or "saved") == "saved" else []:
        record(file, "saved activations in bf16", memory(case))


def record(file: Path, table: str, row: dict[str, Any]) -> None:
    """Print a row and put it into the results in the place of an older one, so that a run that is cut loses nothing."""
    print(json.dumps(row), flush=True)
    row["machine"] = {
        "flags": product_flags(),
        "bf16 in hardware": bfloat16_is_fast(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "processes waiting": round(os.getloadavg()[0], 1),
        "versions": {module.__name__: module.__version__ for module in (torch, transformers, peft)},
    }
    result = json.loads(file.read_text()) if file.exists() else {}
    rows = [old for old in result.get(table, []) if old["case"] != row["case"]]
    result[table] = [*rows, row]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
