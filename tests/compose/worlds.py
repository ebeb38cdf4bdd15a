"""Small artifacts on the tiny BERT to be composed, and independent arithmetic on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from adapterkit.artifact import Artifact, load, open_artifact
from adapterkit.recipe import BottleneckMethod, HeadSettings, Ia3Method, LoraMethod, NoMethod
from tests.artifact.conftest import make, write

LINEAR = HeadSettings(kind="linear")
METHODS: dict[str, Any] = {
    "a": LoraMethod(rank=2, alpha=4.0),
    "b": LoraMethod(rank=3, alpha=1.0, sites=("attention.key", "feedforward.input"), layers=(0, 2), rslora=True),
    "c": LoraMethod(
        rank=2, rank_pattern={"attention.query@1": 4, "attention.value": 1}, alpha_pattern={"attention.query": 3.0}
    ),
    "plain-2": LoraMethod(rank=2, alpha=5.0),
    "plain-2-too": LoraMethod(rank=2, alpha=5.0),
    "plain-3": LoraMethod(rank=3, alpha=1.5, rslora=True),
    "pissa": LoraMethod(rank=2, initialization="pissa", top=1, rslora=True),
    "dora": LoraMethod(rank=2, dora=True),
    "dora-key": LoraMethod(rank=2, dora=True, sites=("attention.key",)),
    "bias": LoraMethod(rank=2, bias="lora_only"),
    "neck": BottleneckMethod(width=3),
    "neck-2": BottleneckMethod(width=3),
    "neck-wide": BottleneckMethod(width=4),
    "houlsby": BottleneckMethod(placement="houlsby", width=2, activation="gelu"),
    "parallel": BottleneckMethod(placement="parallel", width=2, scale_learned=True),
    "none": NoMethod(),
    "vectors": Ia3Method(),
}
HEADS = {"b": LINEAR, "neck": LINEAR, "plain-2": LINEAR, "plain-3": LINEAR}
LABELS = {"b": ("left", "right"), "neck": ("cold", "mild", "warm", "hot")}


class World:
    """Artifacts by name on one backbone, written when first asked for."""

    def __init__(self, folder: Path, backbone: Any) -> None:
        self.folder = folder
        self.backbone = backbone

    def path(self, name: str) -> Path:
        folder = self.folder / name
        if not folder.exists():
            options = {"labels": LABELS[name]} if name in LABELS else {}
            head = {"head": HEADS[name]} if name in HEADS else {}
            with make(self.backbone, METHODS[name], **head, **options) as adapted:
                spread(adapted, seed=sorted(METHODS).index(name))
                labels = adapted.task.labels
                rows = [{"text": f"sentence {number} of {name}", "label": labels[0]} for number in range(4)]
                write(folder, adapted, dtype="float32", golden=rows)
        return folder

    def find(self, name: str) -> Artifact:
        return open_artifact(self.path(name))

    def deltas(self, name: str) -> dict[str, torch.Tensor]:
        """What PEFT's own merging adds to every weight of the trunk, by path."""
        return merged_deltas(self.path(name), self.backbone)


def spread(adapted: Any, seed: int) -> None:
    """Random values in every tensor, other ones for every seed."""
    generator = torch.Generator().manual_seed(seed)
    state = adapted.state()
    values = {name: torch.randn(t.shape, generator=generator) * 0.3 for name, t in sorted(state.items())}
    adapted.load_state({name: t.abs() + 0.5 if "magnitude" in name else t for name, t in values.items()})


def merged_deltas(folder: Path, backbone: Any) -> dict[str, torch.Tensor]:
    """What merging an artifact adds to every weight of the trunk, by path; places without a change are left out."""
    before = {path: weight.detach().clone() for path, weight in backbone.trunk.named_parameters()}
    with load(folder, backbone) as adapted:
        adapted.merge()
        after = {path.replace(".base_layer", ""): w for path, w in adapted.backbone.trunk.named_parameters()}
        found = {path: after[path].detach() - before[path] for path in before}
    return {path.removesuffix(".weight"): delta for path, delta in found.items() if delta.abs().max() > 0}


def close(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], atol: float = 2e-6) -> None:
    """Equal but for roundings, which are a share of the largest entry."""
    for path in found.keys() | expected.keys():
        other = next(t[path] for t in (found, expected) if path in t)
        zero = torch.zeros_like(other)
        allowed = atol * max(1.0, float(other.abs().max()))
        torch.testing.assert_close(found.get(path, zero), expected.get(path, zero), rtol=0, atol=allowed)


def summed(*terms: tuple[float, dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Σ w·ΔW by path."""
    total: dict[str, torch.Tensor] = {}
    for weight, deltas in terms:
        for path, delta in deltas.items():
            total[path] = total.get(path, torch.zeros_like(delta)) + weight * delta
    return total
