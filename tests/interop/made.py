"""Artifacts of ours with random weights, for the neighbours to load."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from adapterkit.adapted import build
from adapterkit.artifact import DataFacts, read_parts, save
from adapterkit.recipe import BottleneckMethod, FusionMethod, HeadSettings, Ia3Method, LoraMethod, TaskSettings
from adapterkit.tasks.table import TASKS
from tests.interop.worlds import Worlds

FAMILY, FIRST = HeadSettings(kind="family"), HeadSettings(kind="linear", pooling="first")
TEXT, TAGS, SPANS = "text-classification", "token-classification", "question-answering"


@dataclass(frozen=True)
class Made:
    """An artifact.

    Attributes:
        folder: where it is.
        family: of its backbone.
        kind: of its task.
        neighbour: how a neighbour shall load it.
    """

    folder: Path
    family: str
    kind: str
    neighbour: dict[str, Any] = field(default_factory=dict)


TOP = LoraMethod(rank=2, top=1, sites=("attention.key", "feedforward.output"))
PATTERNS = LoraMethod(rank=2, rank_pattern={"attention.value": 4}, rslora=True)
FACTORS = Ia3Method(sites=("attention.key", "attention.value", "feedforward.input"), inputs=())
EVERYWHERE = BottleneckMethod(placement="houlsby", cross_attention=True, width=4)
LAST = HeadSettings(kind="linear", pooling="last")
MLP = HeadSettings(kind="mlp", pooling="first")
FOR_ADAPTERHUB: dict[str, tuple[str, str, Any, HeadSettings]] = {
    "pfeiffer, linear": ("bert", TEXT, BottleneckMethod(width=3), FIRST),
    "houlsby, mlp": ("roberta", TEXT, BottleneckMethod(placement="houlsby", width=5), MLP),
    "parallel, family": ("distilbert", TEXT, BottleneckMethod(placement="parallel", scale_learned=True), FAMILY),
    "LoRA with patterns, the pooler's head": ("bert", TEXT, PATTERNS, FAMILY),
    "LoRA in the top layer": ("roberta", TEXT, TOP, FAMILY),
    "LoRA on GPT-2": ("gpt2", TEXT, LoraMethod(rank=2), FAMILY),
    "IA3 on keys, values and feed-forward": ("bert", TEXT, FACTORS, FIRST),
    "IA3 on GPT-2": ("gpt2", TEXT, Ia3Method(sites=("attention.qkv",), inputs=()), LAST),
    "tagging": ("bert", TAGS, BottleneckMethod(top=2), FAMILY),
    "question answering": ("distilbert", SPANS, LoraMethod(rank=3), FAMILY),
    "T5's class": ("t5", TEXT, BottleneckMethod(placement="houlsby", width=4), FAMILY),
    "BART with cross-attention": ("bart", TEXT, EVERYWHERE, FAMILY),
    "T5 with LoRA": ("t5", TEXT, LoraMethod(rank=2), FAMILY),
}
"""Name -> family, kind, method and head."""


def for_adapterhub(worlds: Worlds) -> dict[str, Made]:
    """Artifacts whose every method and head AdapterHub has."""
    made = {
        name: Made(write(worlds, f"ours/{number}", *case), case[0], case[1])
        for number, (name, case) in enumerate(FOR_ADAPTERHUB.items())
    }
    parts = [write(worlds, f"ours/{name}", "bert", TEXT, BottleneckMethod(width=3), FIRST) for name in ("one", "two")]
    fusion = FusionMethod(parts=tuple(map(str, parts)), query_width=8)
    made["fusion"] = Made(write(worlds, "ours/fused", "bert", TEXT, fusion, FIRST), "bert", TEXT)
    return made


def write(worlds: Worlds, name: str, family: str, kind: str, method: Any, head: HeadSettings) -> Path:
    """An artifact with random weights in float32."""
    backbone, labels = (
        worlds.backbone(family),
        {TEXT: ("no", "perhaps", "yes"), TAGS: ("O", "B-PER", "I-PER")}.get(kind),
    )
    rows = TASKS[kind].sample_rows(labels or ())
    task = TASKS[kind].prepare(TaskSettings(kind=kind, **({"labels": labels} if labels else {})), rows)
    with build(backbone, task, method, head, 0, parts=read_parts(method, backbone)) as adapted:
        generator = torch.Generator().manual_seed(len(name))
        state = {n: torch.randn(t.shape, generator=generator) * 0.2 for n, t in adapted.state().items()}
        adapted.load_state(state)
        facts = DataFacts(source="random")
        return save(
            worlds.folder / name, adapted, recipe={}, data=facts, metrics={}, seed=0, golden=rows, dtype="float32"
        )
