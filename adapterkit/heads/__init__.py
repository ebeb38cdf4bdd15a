"""Heads turn a backbone's output into a task's output."""

import torch
from torch import nn

from adapterkit.backbone import Backbone
from adapterkit.errors import HeadError
from adapterkit.heads.headed import Headed
from adapterkit.heads.table import head_of
from adapterkit.recipe import HeadSettings
from adapterkit.recipe.head import head_problems
from adapterkit.recipe.kinds import FACTS

__all__ = ["Headed", "build_head", "resolve"]


def resolve(backbone: Backbone, kind: str, settings: HeadSettings) -> HeadSettings:
    """The settings that every `auto` stands for on this backbone.

    Pooled kinds get a linear head over the pooling that the checkpoint or its family asks for, which beats a
    pretrained pooler on most encoders; kinds that answer per token get the family's head, which plain PEFT can load;
    language models have no choice.
    """
    facts = FACTS[kind]
    if not settings.is_chosen:
        family = facts.borrows_head or (not facts.pooled and backbone.model_class(kind) is not None)
        settings = settings.model_copy(update={"kind": "family" if family else "linear"})
    if facts.pooled and settings.pools and settings.pooling == "auto":
        settings = settings.model_copy(update={"pooling": backbone.pooling})
    return settings


def build_head(
    backbone: Backbone, kind: str, classes: int, settings: HeadSettings, *, seed: int, trunk: nn.Module | None = None
) -> Headed:
    """Put a head on the backbone's trunk, initialised from `seed` without touching the global generator.
    `trunk`: a view of the trunk that the head is put on instead. Raises HeadError: the kind and the head do not go
    together, a setting would have no effect, or the family lacks the kind."""
    resolved = resolve(backbone, kind, settings)
    _check_effect(kind, resolved)
    trunk = backbone.trunk if trunk is None else trunk
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return head_of(resolved).build(backbone, trunk, kind, classes, resolved)


def _check_effect(kind: str, resolved: HeadSettings) -> None:
    problems = []
    if resolved.dropout and "dropout" not in resolved.effective:
        told = "the family's head takes it from the backbone's config"
        problems.append(f"head.dropout: found {resolved.dropout}, expected 0: {told}")
    problems += [f"head.{name}: {problem}" for name, problem in head_problems(kind, resolved)]
    if problems:
        raise HeadError(
            f"A {resolved.kind} head for {kind} cannot honour these settings",
            problems,
            "Remove them" + ("." if FACTS[kind].borrows_head else ", or use head.kind=linear or head.kind=mlp."),
        )
