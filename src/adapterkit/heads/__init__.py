"""Heads turn a backbone's output into a task's output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from adapterkit.heads.family import LANGUAGE_MODEL_KINDS, build_family
from adapterkit.heads.headed import Headed
from adapterkit.heads.own import build_own

if TYPE_CHECKING:
    from adapterkit.backbone import Backbone
    from adapterkit.recipe import HeadSettings

__all__ = ["LANGUAGE_MODEL_KINDS", "Headed", "build_head", "resolve"]


def resolve(backbone: Backbone, kind: str, settings: HeadSettings) -> str:
    """The head kind that `auto` stands for.

    Pooled kinds get a linear head over the pooling that the checkpoint or its family asks for, which beats a
    pretrained pooler on most encoders; kinds that answer per token get the family's head, which plain PEFT can load;
    language models have no choice.
    """
    if settings.kind != "auto":
        return settings.kind
    if kind in LANGUAGE_MODEL_KINDS:
        return "family"
    pooled = kind in ("text-classification", "multiple-choice")
    return "linear" if pooled or backbone.model_class(kind) is None else "family"


def build_head(backbone: Backbone, kind: str, classes: int, settings: HeadSettings, *, seed: int) -> Headed:
    """Put a head on the backbone's trunk, initialised from `seed` without touching the global generator.

    Raises:
        HeadError: the kind and the head do not go together, or the family lacks the kind.
    """
    chosen = settings.model_copy(update={"kind": resolve(backbone, kind, settings)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if chosen.kind == "family":
            return build_family(backbone, backbone.trunk, kind, classes)
        return build_own(backbone, backbone.trunk, kind, classes, chosen)
