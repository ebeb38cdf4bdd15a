"""The blocks of a recipe, and the recipe itself: a complete, validated description of one training run."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from adapterkit.glance import in_short
from adapterkit.recipe.columns import COLUMNS
from adapterkit.recipe.data import DataSettings
from adapterkit.recipe.head import HEAD_SETTINGS, HeadSettings, head_problems
from adapterkit.recipe.kinds import BELONGS, FACTS
from adapterkit.recipe.method import MethodSettings
from adapterkit.recipe.methods import METHOD_SETTINGS, LoraMethod
from adapterkit.recipe.settings import Settings, refuse
from adapterkit.recipe.suggestions import did_you_mean
from adapterkit.recipe.table import OfKind
from adapterkit.recipe.task import TaskSettings
from adapterkit.recipe.training import ObjectiveSettings, TrainingSettings

Text = Annotated[str, Field(min_length=1)]


METHOD = OfKind(METHOD_SETTINGS, default="lora")
HEAD = OfKind(HEAD_SETTINGS, default="auto")


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
    fingerprint: Literal["whole", "samples"] = "whole"
    """How much of the weights tells this backbone from others. samples: of 8 GiB of weights or more, blocks of the
    large tensors alone, which costs seconds less at the first load and misses edits between them."""


class Recipe(Settings):
    """A complete description of one training run. Load one with `load_recipe`, which names every mistake at once."""

    task: TaskSettings
    """What is learned."""
    backbone: BackboneSettings
    """Which pretrained model stays frozen under the adapter."""
    method: Annotated[MethodSettings, METHOD] = Field(default_factory=LoraMethod)
    """What is attached to the backbone: lora, bottleneck, ia3, fusion (of bottlenecks) or none (head only)."""
    head: Annotated[HeadSettings, HEAD] = Field(default_factory=HeadSettings)
    """What turns the backbone's output into the task's output."""
    data: DataSettings
    """Which rows train, validate and test."""
    training: TrainingSettings = Field(default_factory=TrainingSettings)
    """How long, how fast, how precisely, and what is kept."""
    output: Text | None = None
    """Folder of the artifact. null: runs/ and the recipe's name."""

    __repr__ = __str__ = in_short("task.kind", "backbone.name", "method.kind", "head.kind", "output")

    @model_validator(mode="after")
    def _together(self) -> Self:
        refuse(together(self.task, self.head, self.data, self.training, self.method))
        return self

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON has it, every default written out. `load_recipe` reads it back to an equal recipe."""
        return self.model_dump(mode="json")


def together(
    task: TaskSettings | None,
    head: HeadSettings | None,
    data: DataSettings | None,
    training: TrainingSettings | None,
    method: MethodSettings | None = None,
) -> list[tuple[str, str]]:
    """What is wrong between the blocks, as (path, problem). A block that is None is not looked at."""
    problems: list[tuple[str, str]] = []
    if data is not None and data.train is None:
        problems.append(("data.train", "is missing; name the file, or the hub data set, of the training rows"))
    if training is not None and training.patience is not None and data is not None and data.validation is None:
        problems.append(("training.patience", "needs validation rows, and data.validation is null; set one of the two"))
    objective = None if training is None else training.objective
    if objective is not None and method is not None and not method.attaches:
        problems.append(("training.objective", f"shapes a method, and method.kind is {method.kind}; remove it"))
    if task is None:
        return problems
    if objective is not None:
        problems += _misplaced(objective, task, head)
    if data is not None:
        problems += _foreign_columns(task, data)
    if head is not None:
        if FACTS[task.kind].borrows_head and head.is_own:
            problems.append(("head.kind", f"is {head.kind}; {task.kind} borrows the checkpoint's own head: remove it"))
        problems += [(f"head.{name}", problem) for name, problem in head_problems(task.kind, head)]
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


def _misplaced(objective: ObjectiveSettings, task: TaskSettings, head: HeadSettings | None) -> list[tuple[str, str]]:
    """What an objective cannot shape."""
    problems = []
    if objective.contrasts and task.kind != "text-classification":
        problems.append(
            ("training.objective.kind", f"is {objective.kind}, which compares whole texts; not {task.kind}")
        )
    elif objective.kind == "supervised-contrastive" and task.problem in ("multi-label", "regression"):
        problems.append(("training.objective.kind", f"needs one label for each row; task.problem is {task.problem}"))
    elif objective.contrasts and head is not None and head.kind == "family":
        problems.append(("head.kind", f"is family, and {objective.kind} needs a head that pools rows itself: linear"))
    if objective.kind == "near-backbone" and (task.kind == "seq2seq-lm" or task.pack_documents):
        where = "task.kind" if task.kind == "seq2seq-lm" else "task.pack_documents"
        problems.append((where, "has no row of one document that near-backbone could read beside the backbone"))
    return problems


def _foreign_columns(task: TaskSettings, data: DataSettings) -> list[tuple[str, str]]:
    """Names that the kind's columns do not have, with what was probably meant."""
    known = COLUMNS[task.kind]
    problems = []
    for name, column in data.columns.items():
        if name in known:
            continue
        reversed_ = column in known and column not in data.columns
        hint = f"; write {column}: {name}, adapterkit's name first" if reversed_ else did_you_mean(name, known)
        problems.append((f"data.columns.{name}", f"{task.kind} has no such column; it has {', '.join(known)}{hint}"))
    return problems
