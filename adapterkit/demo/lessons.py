"""The demo: train two adapters on one small backbone, compare each with its head alone, let both answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from adapterkit.artifact import load, open_artifact
from adapterkit.backbone import Backbone
from adapterkit.demo.grammar import ROWS, generate
from adapterkit.training import train

BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
FOLDER = Path("runs/demo")
SENTENCE = "could you see that I am out of bed by half past six on Friday"

LORA: dict[str, Any] = {"kind": "lora", "rank": 8, "alpha": 16, "sites": "all-linear"}
HEAD_ONLY: dict[str, Any] = {"kind": "none"}


@dataclass(frozen=True)
class Lesson:
    """One of the demo's two tasks: the folder of its data, and the task block of its recipe."""

    name: str
    data: str
    task: dict[str, Any]


LESSONS = (
    Lesson("intent", "intents", {"kind": "text-classification"}),
    Lesson("slots", "slots", {"kind": "token-classification", "tags": "iob2"}),
)


@dataclass(frozen=True)
class Learned:
    """What became of one lesson: its artifact, and the main metric on held-out rows with a method and without."""

    lesson: Lesson
    artifact: Path
    size_bytes: int
    metric: str
    score: float
    head_only: float


def recipe(lesson: Lesson, method: dict[str, Any], backbone: Backbone, data: Path, output: Path) -> dict[str, Any]:
    """The recipe of one run, as a mapping."""
    files = {split: f"{lesson.data}/{split}.jsonl" for split in ("train", "validation", "test")}
    return {
        "task": lesson.task,
        "backbone": {"name": backbone.name},
        "method": method,
        "data": {"root": str(data.resolve()), **files},
        "training": {"epochs": 4, "batch_size": 32, "learning_rate": 2e-3},
        "output": str(output),
    }


def run(
    folder: Path = FOLDER,
    backbone: Backbone | None = None,
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> list[Learned]:
    """Generate the data, train and show; data and artifacts are written into `folder`, over those of an earlier demo.

    `overrides`: fields to set on top of every recipe, as on the command line.
    """
    console = console or Console()
    backbone = backbone or Backbone.load(BACKBONE)
    generate(folder / "data")
    console.print(f"Backbone: {backbone.name}, frozen, loaded once.", soft_wrap=True)
    console.print(f"Data: {sum(ROWS.values()):,} generated sentences, tested on phrasings that no training row has.")
    trained = [_train(lesson, backbone, folder, overrides, console) for lesson in LESSONS]
    show(trained, backbone, console)
    return trained


def _train(lesson: Lesson, backbone: Backbone, folder: Path, overrides: Sequence[str], console: Console) -> Learned:
    results = {}
    for name, method in ((lesson.name, LORA), (f"{lesson.name}-head-only", HEAD_ONLY)):
        console.rule(f"training {name}")
        described = recipe(lesson, method, backbone, folder / "data", folder / name)
        results[name] = train(described, backbone=backbone, overrides=overrides, overwrite=True)
    artifact = open_artifact(results[lesson.name].artifact)
    metric = artifact.task.main_metric
    with_method, alone = (result.metrics["test"][metric].value for result in results.values())
    return Learned(lesson, artifact.folder, artifact.manifest.size_bytes, metric, with_method, alone)


def show(trained: Sequence[Learned], backbone: Backbone, console: Console) -> None:
    """The comparison, and both adapters' answers to one sentence, on one backbone in memory."""
    console.rule("held-out phrasings")
    table = Table("adapter", "metric", "LoRA + head", "head alone", "artifact")
    for one in trained:
        size = f"{one.size_bytes / 1000:,.0f} kB"
        table.add_row(one.lesson.name, one.metric, f"{one.score:.1%}", f"{one.head_only:.1%}", size)
    console.print(table)
    console.print(f'Both answer: "{SENTENCE}"', highlight=False)
    for one in trained:
        with load(one.artifact, backbone) as adapter:
            answer = adapter.predict([{"text": SENTENCE}])[0]
        console.print(f"  {one.lesson.name}: {_shown(answer)}", highlight=False, markup=False, soft_wrap=True)
    for one in trained:
        console.print(f"Look closer: adapterkit inspect {one.artifact}", highlight=False)


def _shown(answer: dict[str, Any]) -> str:
    """A label with its probability, or the slots that were found."""
    if "label" in answer:
        return f"{answer['label']} ({answer['score']:.0%})"
    return ", ".join(f"{entity['type']} = {entity['text']!r}" for entity in answer["entities"]) or "no slots"
