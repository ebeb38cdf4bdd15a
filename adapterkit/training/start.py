"""What a run starts from: the method and the head of an artifact, in the place of weights that are drawn.

Axes: C classes; the other axes of a head's tensors are the head's own.
"""

from dataclasses import dataclass, replace

import torch

from adapterkit.adapted import PREFIX, Adapted
from adapterkit.artifact import Artifact, open_artifact
from adapterkit.artifact.config import TOKENS
from adapterkit.backbone import Backbone
from adapterkit.errors import ContractError, TrainingError
from adapterkit.heads import build_head
from adapterkit.recipe import NEAREST, MethodSettings, Recipe
from adapterkit.recipe.kinds import FACTS
from adapterkit.tasks import Task

FREE = frozenset({"dropout", "initialization", "layers", "sites", "top"})
"""Settings of a method that may differ: of training alone, or such that the names of its tensors tell of them."""


@dataclass(frozen=True, eq=False)
class Start:
    """An artifact, and what of it a run begins with."""

    artifact: Artifact
    """As it was read."""
    taken: tuple[str, ...]
    """ "method", "head" or both."""

    @property
    def known(self) -> Task | None:
        """The task whose labels stay; None where its head is not taken."""
        return self.artifact.task if "head" in self.taken else None

    def give(self, adapted: Adapted, backbone: Backbone) -> str:
        """Put its weights into an adapter. Returns a sentence for the user.
        `adapted`: fresh from `build`; it is as it was where anything is wrong. `backbone`: the bare one under it.
        Raises ContractError: another backbone, method or head, with every difference and both sides of it."""
        problems: list[str] = []
        try:
            self.artifact.check_backbone(backbone)
        except ContractError as error:
            problems += error.problems
        if "method" in self.taken:
            problems += self._method_problems(adapted)
        if "head" in self.taken:
            problems += self._head_problems(adapted)
        if problems:
            raise ContractError(
                f"a run of this recipe cannot start from {self.artifact.folder}",
                problems,
                "Take its settings over into the recipe, or less of it: training.start_from={run: …, take: [head]}.",
            )
        heads = {PREFIX + path for path in self.artifact.manifest.head_tensors}
        own = {name.removeprefix(PREFIX): tensor for name, tensor in self.artifact.state.items() if name not in heads}
        if "method" in self.taken:
            adapted.attachment.load(own)
        new = self._give_head(adapted, backbone) if "head" in self.taken else ()
        listed = ", ".join(new[:8]) + (" …" if len(new) > 8 else "")
        labels = f"; new to its head: {listed}" if new else ""
        digest = self.artifact.manifest.sha256
        return f"starts from the {' and the '.join(self.taken)} of {self.artifact.folder} ({digest[:12]}){labels}"

    def _method_problems(self, adapted: Adapted) -> list[str]:
        manifest = self.artifact.manifest
        problems = method_differences(manifest.method, adapted.method)
        heads = {PREFIX + path for path in manifest.head_tensors}
        places = self.artifact.state.keys() - heads ^ {PREFIX + path for path in adapted.attachment.state()}
        if places and not problems:
            one = min(places)
            whose = "the artifact" if one in self.artifact.state else "this recipe"
            problems.append(
                f"method.sites: the two attach to other places: {whose} alone to {one.removeprefix(PREFIX)}"
            )
        if [fact.sha256 for fact in manifest.parts] != [part.sha256 for part in adapted.parts]:
            problems.append("method.parts: the fusion in the artifact is of other parts than this recipe's")
        return problems

    def _head_problems(self, adapted: Adapted) -> list[str]:
        theirs, ours = self.artifact.task, adapted.task
        problems = [
            f"{name}: the artifact's head has {found or None}, this recipe {needed or None}"
            for name, found, needed in (
                ("task.kind", theirs.kind, ours.kind),
                ("task.problem", theirs.problem, ours.problem),
                *(
                    (f"head.{name}", getattr(self.artifact.manifest.head, name), getattr(adapted.head, name))
                    for name in type(adapted.head).model_fields
                    if name != "dropout" and hasattr(self.artifact.manifest.head, name)
                ),
            )
            if found != needed
        ]
        if not theirs.labels and theirs.classes != ours.classes:
            problems.append(f"targets: the artifact has {theirs.classes}, this recipe {ours.classes}")
        if gone := [label for label in theirs.labels if label not in ours.labels]:
            problems.append(f"task.labels: the artifact has {', '.join(map(repr, gone[:8]))}, which are not named")
        told = {path: tuple(tokens) for path, tokens in self.artifact.config.get(TOKENS, {}).items()}
        if told != dict(adapted.headed.token_rows):
            problems.append(f"{TOKENS}: the artifact has {told}, this recipe {dict(adapted.headed.token_rows)}")
        if not problems and {*self.artifact.manifest.head_tensors} != set(adapted.headed.trained):
            problems.append("head: its tensors have other names")
        return problems

    def _give_head(self, adapted: Adapted, backbone: Backbone) -> tuple[str, ...]:
        """Copy the head, labels by their names. Returns the labels that keep the rows that were drawn for them."""
        task, head = adapted.task, adapted.headed.trained
        rows: list[int] = [task.labels.index(label) for label in self.artifact.task.labels]
        axes = _class_axes(adapted, backbone) if rows else {}
        with torch.no_grad():
            for path, parameter in head.items():
                theirs = self.artifact.state[PREFIX + path].to(parameter)
                if path in axes:
                    parameter.index_copy_(axes[path], torch.tensor(rows, device=parameter.device), theirs)
                else:
                    parameter.copy_(theirs)
        return tuple(label for label in task.labels if label not in self.artifact.task.labels)


def method_differences(theirs: MethodSettings, ours: MethodSettings) -> list[str]:
    """In what an artifact's method computes otherwise than a recipe's; where they attach their tensors tell."""
    if theirs.kind != ours.kind:
        return [f"method.kind: the artifact has {theirs.kind}, this recipe {ours.kind}"]
    moved = any(getattr(one, "moves_weight", False) for one in (theirs, ours))
    found, needed = theirs.portable(), ours.portable()
    compared = sorted(needed.keys() - (FREE - {"initialization"} if moved else FREE))
    return [
        f"method.{name}: the artifact has {found.get(name)}, this recipe {needed[name]}"
        for name in compared
        if found.get(name) != needed[name]
    ]


def open_start(recipe: Recipe) -> Start | None:
    """Read what a recipe starts from; None where it starts from nothing. Raises ArtifactError: it cannot be read;
    TrainingError: nobody has said which is the nearest, or there is nothing to take."""
    wanted = recipe.training.start_from
    if wanted is None:
        return None
    if wanted.run == NEAREST:
        raise TrainingError(
            "nobody has looked for the nearest run here",
            ["training.start_from: found nearest, expected the folder of an artifact"],
            "`adapterkit train` and `ak.train` look for it. Or name the one that `adapterkit nearest` ranks first.",
        )
    artifact = open_artifact(wanted.run)
    own_head = not FACTS[recipe.task.kind].borrows_head or bool(artifact.manifest.head_tensors)
    here = {"method": recipe.method.attaches, "head": own_head}
    there = {"method": artifact.manifest.method.attaches, "head": bool(artifact.manifest.head_tensors)}
    taken: tuple[str, ...] = wanted.take or tuple(one for one in here if here[one])
    problems = [f"{one}: this recipe has none that could start from another" for one in taken if not here[one]]
    problems += [f"{one}: the artifact has none" for one in taken if not there[one]]
    if problems:
        raise TrainingError(
            f"a run of this recipe cannot start from {wanted.run}",
            problems,
            "Say what is to be taken: training.start_from={run: …, take: [head]}.",
        )
    return Start(artifact, taken)


def knowing(task: Task, known: Task | None) -> Task:
    """A task with the labels of an earlier one before its new ones, unless its settings give the order themselves."""
    if known is None or not known.labels or (known.kind, known.problem) != (task.kind, task.problem):
        return task
    if task.settings.labels is not None:
        return task
    labels = (*known.labels, *(label for label in task.labels if label not in known.labels))
    grown: Task = replace(task, labels=labels)  # type: ignore[type-var]  # every kind is a dataclass
    return grown


def _class_axes(adapted: Adapted, backbone: Backbone) -> dict[str, int]:
    """Path of a head's tensor -> which of its axes is C: the one that grows with the classes."""
    task, own = adapted.task, adapted.headed.trained
    wider = build_head(backbone.twin(), task.kind, task.classes + 1, adapted.head, seed=0).trained
    return {
        path: axis
        for path, tensor in wider.items()
        for axis, (more, size) in enumerate(zip(tensor.shape, own[path].shape, strict=True))
        if more != size
    }
