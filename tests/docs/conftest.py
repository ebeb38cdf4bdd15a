"""A folder as the pages take it for granted: recipes, small made data, backbones by name, and some artifacts."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from adapterkit.backbone import Backbone
from tests.docs.blocks import ROOT
from tests.host.artifacts import Recipe
from tests.laws.cases import HEADS, METHODS
from tests.laws.worlds import adapter, disturb, write
from tests.tasks.conftest import ROWS

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
DECODER = "openai-community/gpt2"
TEXT, TAGS = "text-classification", "token-classification"
ARTIFACTS: Mapping[str, tuple[str, Recipe]] = {
    "banking77": (ENCODER, Recipe(TEXT, "lora")),
    "banking77-v2": (ENCODER, Recipe(TEXT, "lora", seed=4)),
    "a": (ENCODER, Recipe(TEXT, "lora")),
    "b": (ENCODER, Recipe(TEXT, "lora")),
    "wnut17": (ENCODER, Recipe(TAGS, "lora")),
    "syntax": (ENCODER, Recipe(TAGS, "pfeiffer", seed=7)),
    "names": (ENCODER, Recipe(TAGS, "pfeiffer", seed=8)),
    "squad_small": (ENCODER, Recipe("question-answering", "lora")),
    "poet": (DECODER, Recipe("causal-lm", "lora")),
    "bard": (DECODER, Recipe("causal-lm", "lora", seed=9)),
}
"""What pages say was trained before: name under runs/ -> its backbone and what it is."""

DATA = {
    "banking77": [
        {**row, "text": f"{row['text']} {n}", "source": ("mail", "chat")[n % 2]}
        for n in range(16)
        for row in ROWS[TEXT]
    ],
    "wnut17": ROWS[TAGS] * 8,
}
TICKETS = {"lost_card": "my card was lost", "balance": "how much money is left?"}
MIXED = [{"task": "intent", "text": "my card was lost"}, {"task": "ner", "tokens": ["Ada", "lived", "in", "London"]}]


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory, tiny_folders: Mapping[str, Path]) -> Path:
    """The folder, made once; it is not run in."""
    root = tmp_path_factory.mktemp("docs") / "world"
    for name, family in ((ENCODER, "bert"), (DECODER, "gpt2")):
        shutil.copytree(tiny_folders[family], root / "backbones" / name)
    for name, rows in DATA.items():
        for part in ("train", "validation", "test"):
            file = root / "DATA" / name / f"{part}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    (root / "recipes").mkdir()
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        text = re.sub(r"epochs: \d+", "epochs: 1", recipe.read_text(encoding="utf-8"))
        (root / "recipes" / recipe.name).write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTERKIT_BACKBONES", str(root / "backbones"))
        loaded = {name: Backbone.load(name, dtype="float32", device="cpu") for name in (ENCODER, DECODER)}
    for name, (backbone, wanted) in ARTIFACTS.items():
        save_adapter(root / "runs" / name, loaded[backbone], wanted, size=0.19 if name == "b" else 0.2)
    (root / "composition.yaml").write_text("weighted: {members: {a: runs/a, b: runs/b}, weights: {a: 0.7, b: 0.3}}\n")
    lines = [f"{text} {n},{queue}" for n in range(24) for queue, text in TICKETS.items()]
    (root / "tickets.csv").write_text("\n".join(["message,queue", *lines, ""]), encoding="utf-8")
    (root / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in MIXED), encoding="utf-8")
    return root


def save_adapter(folder: Path, backbone: Backbone, wanted: Recipe, size: float) -> None:
    """An adapter whose every tensor has moved, with golden rows."""
    method, head = METHODS[wanted.method].settings, HEADS[wanted.head]
    with adapter(backbone, wanted.kind, method, head, seed=wanted.seed) as adapted:
        disturb(adapted, size=size, seed=wanted.seed)
        write(folder, adapted, golden=ROWS[wanted.kind])


@pytest.fixture
def enter(sandbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """`enter(without=[…])`: work in a copy of the folder, with the environment that pages speak of."""
    kept, before = dict(os.environ), Path.cwd()

    def work(without: tuple[str, ...] = ()) -> None:
        folder = tmp_path / "world"
        shutil.copytree(sandbox, folder, ignore=shutil.ignore_patterns("backbones"))
        for name in without:
            shutil.rmtree(folder / "runs" / name)
        os.chdir(folder)
        os.environ.update(ADAPTERKIT_BACKBONES=str(sandbox / "backbones"), ADAPTERKIT_DATA="DATA")

    yield work
    os.chdir(before)
    os.environ.clear()
    os.environ.update(kept)
