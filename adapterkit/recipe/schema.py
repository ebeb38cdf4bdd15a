"""The blocks of a recipe, and the recipe itself: a complete, validated description of one training run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from adapterkit.recipe.data import DataSettings
from adapterkit.recipe.kinds import BELONGS, FACTS
from adapterkit.recipe.method import MethodSettings
from adapterkit.recipe.methods import METHOD_SETTINGS, LoraMethod, Width
from adapterkit.recipe.settings import Settings, refuse
from adapterkit.recipe.table import OfKind
from adapterkit.recipe.task import TaskSettings
from adapterkit.recipe.training import TrainingSettings

Text = Annotated[str, Field(min_length=1)]


class BackboneSettings(Settings):
    """Which pretrained model, and how it is loaded."""

    name: Text
    """A hub id (bert-base-uncased) or a folder."""
    revision: Text | None = None
    """Branch, tag or commit of a hub id. A commit: the run can be repeated exactly. null: the newest."""
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8", "nf4"] = "auto"
    """Number format of the frozen weights. bfloat16: half the memory, slightly less exact. int8: half again in the
    layers' linears, slower (needs torchao); nf4: a quarter, less exact (needs bitsandbytes). auto: what the hardware
    is fast at."""
    device: Text = "auto"
    """cpu, cuda, cuda:1, mps. auto: the best that this machine has."""
    trust_remote_code: bool = False
    """Whether code from the checkpoint may run on this machine. true: only for authors that you trust."""


class HeadSettings(Settings):
    """What turns the backbone's output into the task's output."""

    kind: Literal["auto", "family", "linear", "mlp", "attention"] = "auto"
    """family: the head of the backbone's own AutoModelFor… class. linear, mlp, attention: adapterkit's, from small to
    large. auto: what wins without tuning for the kind."""
    pooling: Literal["auto", "mean", "first", "last"] = "auto"
    """How token states become one vector. auto: what the checkpoint says, or what suits its family."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the head. Higher: less over-fitting on small data, slower learning."""
    hidden: Width | None = None
    """Width of the mlp head. Higher: more accurate on hard tasks, larger artifact. null: the backbone's width."""

    @model_validator(mode="after")
    def _together(self) -> HeadSettings:
        problems = []
        if self.pooling != "auto" and self.kind in ("family", "attention"):
            problems.append(
                ("pooling", f"has no effect on a head of kind {self.kind}, which pools by itself; remove it")
            )
        if self.hidden is not None and self.kind != "mlp":
            problems.append(("hidden", f"belongs to a head of kind mlp, not to {self.kind}; remove it"))
        if self.dropout and self.kind == "family":
            problems.append(
                ("dropout", "has no effect on a head of kind family, which takes it from the backbone; remove it")
            )
        refuse(problems)
        return self


class Recipe(Settings):
    """A complete description of one training run. Load one with `load_recipe`, which names every mistake at once."""

    task: TaskSettings
    """What is learned."""
    backbone: BackboneSettings
    """Which pretrained model stays frozen under the adapter."""
    method: Annotated[MethodSettings, OfKind(METHOD_SETTINGS, default="lora")] = Field(default_factory=LoraMethod)
    """What is attached to the backbone: lora, bottleneck, ia3, fusion (of bottlenecks) or none (head only)."""
    head: HeadSettings = Field(default_factory=HeadSettings)
    """What turns the backbone's output into the task's output."""
    data: DataSettings
    """Which rows train, validate and test."""
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    """How long, how fast, how precisely, and what is kept."""
    output: Text | None = None
    """Folder of the artifact. null: runs/ and the recipe's name."""

    @model_validator(mode="after")
    def _together(self) -> Recipe:
        refuse(together(self.task, self.head, self.data, self.training))
        return self

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON has it, every default written out. `load_recipe` reads it back to an equal recipe."""
        return self.model_dump(mode="json")


def together(
    task: TaskSettings | None, head: HeadSettings | None, data: DataSettings | None, training: TrainingSettings | None
) -> list[tuple[str, str]]:
    """What is wrong between the blocks, as (path, problem). A block that is None is not looked at."""
    problems: list[tuple[str, str]] = []
    if data is not None and data.train is None:
        problems.append(("data.train", "is missing; name the file, or the hub data set, of the training rows"))
    if training is not None and training.patience is not None and data is not None and data.validation is None:
        problems.append(("training.patience", "needs validation rows, and data.validation is null; set one of the two"))
    if task is None:
        return problems
    if head is not None:
        if FACTS[task.kind].borrows_head and head.kind not in ("auto", "family"):
            problems.append(("head.kind", f"is {head.kind}; {task.kind} borrows the checkpoint's own head: remove it"))
        if not FACTS[task.kind].pooled and head.pooling != "auto":
            problems.append(("head.pooling", f"has no meaning for {task.kind}, which reads every token; remove it"))
    if training is not None:
        regression = task.problem == "regression"
        weighable = task.kind in BELONGS["labels"] and not regression
        if training.class_weights is not None and not weighable:
            what = "a regression" if regression else task.kind
            problems.append(("training.class_weights", f"has no meaning for {what}, which has no label set; remove it"))
        elif isinstance(training.class_weights, dict) and task.labels is not None:
            for label in sorted(training.class_weights.keys() - set(task.labels)):
                problems.append(("training.class_weights", f"names {label!r}, which is not one of task.labels"))
        if training.label_smoothing and regression:
            problems.append(("training.label_smoothing", "has no meaning for a regression; remove it"))
    return problems
