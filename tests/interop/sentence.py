"""Folders of sentence-transformers and SetFit become artifacts, and ours theirs. Expected answers are their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapterkit.artifact import export, import_sentence_transformers, load
from adapterkit.errors import AdapterkitError
from adapterkit.heads.pooling import pool
from adapterkit.recipe import HeadSettings, Ia3Method, LoraMethod
from tests.interop.environments import SENTENCE, python_with, run
from tests.interop.made import FAMILY, TEXT, write
from tests.interop.worlds import TEXTS, Result, Worlds, answers, compare

NEAR = 1e-6
SIDE = Path(__file__).with_name("sentence_side.py")
QV = {"r": 3, "lora_alpha": 6, "target_modules": ["query", "value"]}
LABELS = ["no", "perhaps", "yes"]
ONE = {"head": {}, "classes": 3, "labels": LABELS}
HEADS: dict[str, dict[str, Any]] = {
    "two labels": {**ONE, "classes": 2, "labels": ["no", "yes"]},
    "three labels": ONE,
    "three labels by name": {**ONE, "labels": None, "names": ["a", "b", "c"]},
    "labels without names": {**ONE, "labels": None},
    "length 1": {**ONE, "normalize": True},
    "length 1 by a module": {**ONE, "normalize_module": True},
    "the first token": {**ONE, "pooling": "cls"},
    "an encoder that was trained": {**ONE, "trained": True},
    "without intercept, C=10": {**ONE, "head": {"fit_intercept": False, "C": 10.0}},
    "two labels by liblinear": {**ONE, "classes": 2, "labels": ["no", "yes"], "head": {"solver": "liblinear"}},
    "one vs rest": {**ONE, "classes": 8, "head": {"several": "one-vs-rest"}},
    "multi-output": {**ONE, "classes": 8, "head": {"several": "multi-output"}},
    "above LoRA": {**ONE, "lora": QV},
    "three labels on RoBERTa": {**ONE, "family": "roberta"},
    "the last token of Llama": {**ONE, "family": "llama", "pooling": "lasttoken"},
}
ADAPTERS: dict[str, dict[str, Any]] = {
    "LoRA": {"lora": QV},
    "LoRA, length 1": {"lora": QV, "normalize_module": True},
    "rsLoRA with patterns": {"lora": {**QV, "use_rslora": True, "rank_pattern": {"value": 5}}},
    "DoRA": {"lora": {**QV, "use_dora": True}},
    "IA3": {"lora": {"target_modules": ["key", "value", "output.dense"], "feedforward_modules": ["output.dense"]}},
    "LoRA on RoBERTa": {"lora": QV, "family": "roberta"},
    "LoRA on DistilBERT": {"lora": {**QV, "target_modules": ["q_lin", "v_lin"]}, "family": "distilbert"},
    "LoRA on ModernBERT": {"lora": {**QV, "target_modules": ["Wqkv"]}, "family": "modernbert", "pooling": "cls"},
    "LoRA on Llama": {
        "lora": {**QV, "target_modules": ["q_proj", "v_proj"]}, "family": "llama", "pooling": "lasttoken"
    },
}  # fmt: skip
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a chain of labels": ({**ONE, "classes": 8, "head": {"several": "chain"}}, "sklearn.multioutput.ClassifierChain"),
    "a differentiable head": ({**ONE, "head": {"kind": "torch"}}, "setfit.modeling.SetFitHead"),
    "a dense layer": ({**ONE, "dense": True}, "'Dense'"),
    "a prompt": ({**ONE, "prompts": {"query": "query: "}, "prompt": "query"}, "default_prompt_name"),
    "the largest of the states": ({**ONE, "pooling": "max"}, "mean, cls and lasttoken"),
}
EXPORTS: list[tuple[str, Any, HeadSettings]] = [
    ("bert", LoraMethod(rank=3, alpha=5.0), HeadSettings(kind="linear", pooling="mean", normalize=True)),
    ("bert", LoraMethod(rank=2, rank_pattern={"attention.value": 5}, rslora=True), FAMILY),
    ("bert", LoraMethod(rank=2, initialization="pissa"), HeadSettings(kind="linear", pooling="first")),
    ("roberta", Ia3Method(), HeadSettings(kind="mlp", pooling="mean")),
    ("modernbert", LoraMethod(rank=2), HeadSettings(kind="linear", pooling="mean")),
    ("llama", LoraMethod(rank=2), HeadSettings(kind="linear", pooling="last")),
]


def imports(worlds: Worlds) -> Iterator[Result]:
    """They make, we import: probabilities of SetFit's heads, vectors of adapted encoders."""
    jobs = []
    every = {f"SetFit: {name}": job for name, job in (HEADS | {n: job for n, (job, _) in REFUSED.items()}).items()}
    for number, (name, job) in enumerate((every | ADAPTERS).items()):
        where, family = worlds.folder / "sentence" / str(number), job.get("family", "bert")
        jobs.append({**job, "do": "make", "name": name, "folder": str(where), "family": family, "seed": number})
    for job, found in _run(worlds, jobs, "make"):
        yield _imported(worlds, job, found)


def exports(worlds: Worlds) -> Iterator[Result]:
    """We export, sentence-transformers loads."""
    jobs, ours = [], {}
    for number, (family, method, head) in enumerate(EXPORTS):
        name = f"{family}: {method.words}, {head.kind} head ({number})"
        folder, backbone = write(worlds, f"ours/sentence/{number}", family, TEXT, method, head), worlds.backbone(family)
        out = export(folder, worlds.folder / f"for-sentence/{number}", to="sentence-transformers", backbone=backbone)
        ours[name] = _vectors(worlds, folder, family)
        jobs.append({"do": "load", "name": name, "folder": str(out), "family": family})
    for job, found in _run(worlds, jobs, "load"):
        if "error" in found:
            yield Result(job["name"], "wrong", found["error"])
        else:
            yield compare(job["name"], ours[job["name"]], [[vector] for vector in found["found"]], NEAR)


def _run(worlds: Worlds, jobs: list[dict[str, Any]], name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for job in jobs:
        job |= {"checkpoint": str(worlds.checkpoint(job["family"])), "texts": list(TEXTS)}
    file = worlds.folder / f"sentence-{name}.json"
    file.write_text(json.dumps(jobs))
    lines = run(python_with("setfit-1.2.0", SENTENCE), SIDE, str(file))
    yield from zip(jobs, (json.loads(line) for line in lines if line.startswith('{"name"')), strict=True)


def _imported(worlds: Worlds, job: dict[str, Any], found: dict[str, Any]) -> Result:
    name, backbone = job["name"], worlds.backbone(job["family"])
    if "error" in found:
        return Result(name, "wrong", found["error"][:300])
    reason = REFUSED[name.removeprefix("SetFit: ")][1] if name.removeprefix("SetFit: ") in REFUSED else None
    own, head = job.get("trained", False), "head" in job
    labels: dict[str, Any] = {} if head else {"kind": TEXT, "labels": LABELS}
    out = worlds.folder / "sentence-imported" / name.replace(" ", "-").replace(":", "")
    try:
        import_sentence_transformers(job["folder"], out, None if own else backbone, **labels)
    except AdapterkitError as error:
        told = " ".join(str(error).split())
        return Result(name, "refused" if reason and reason in told else "wrong", told[:300])
    if reason:
        return Result(name, "wrong", f"was imported, and should be refused ({reason})")
    if not head:
        return compare(name, _vectors(worlds, out, job["family"]), [[vector] for vector in found["found"]], NEAR)
    if own:
        backbone = type(backbone).load(job["folder"], dtype="float32", device="cpu")
    logits = answers(out, backbone, worlds.inputs(job["family"], TEXT))
    several = "several" in job["head"]
    shares = [each.double().sigmoid() if several else each.double().softmax(-1) for each in logits]
    wanted = torch.tensor(found["found"])
    if wanted.dim() == 3:  # a pair of probabilities for every label
        wanted = wanted[..., 1]
    return compare(name, shares, [row[None] for row in wanted], NEAR)


def _vectors(worlds: Worlds, folder: Path, family: str) -> list[Tensor]:
    """What an artifact's own head, or a mean, makes of the texts."""
    found = []
    with load(folder, worlds.backbone(family)) as adapted, torch.inference_mode():
        for row in worlds.inputs(family, TEXT):
            inputs = {name: torch.tensor(value) for name, value in row.items()}
            head, states = adapted.head, adapted.backbone.trunk(**inputs).last_hidden_state
            pooling = head.pooling if head.pooling != "auto" else adapted.backbone.pooling
            vector = pool(states, inputs["attention_mask"], pooling)
            found.append(nn.functional.normalize(vector, dim=-1) if head.normalize else vector)
    return found
