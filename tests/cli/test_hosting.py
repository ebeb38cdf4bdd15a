"""The verbs that answer with many adapters: `predict --mount` and `host`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from adapterkit.adapted import Adapted
from adapterkit.backbone import Backbone
from adapterkit.cli.app import app
from adapterkit.recipe import BottleneckMethod, LoraMethod
from tests.laws.worlds import adapter, disturb, write


class World:
    """Artifacts on disk, and what each answers by itself."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.backbone = root, str(folder)
        backbone = Backbone.load(folder, device="cpu", dtype="float32")
        with adapter(backbone, "text-classification", LoraMethod(rank=2)) as adapted:
            self.intent = self._write("intent", adapted)
        with adapter(backbone, "token-classification", BottleneckMethod(width=3)) as adapted:
            self.ner = self._write("ner", adapted)
        with adapter(backbone, "question-answering", LoraMethod(rank=3, top=1)) as adapted:
            self.qa = self._write("qa", adapted)

    def _write(self, name: str, adapted: Adapted) -> list[Any]:
        disturb(adapted, 0.3)
        write(self.root / name, adapted)
        rows: list[Any] = QUESTIONS if name == "qa" else TEXTS
        return adapted.predict(rows)

    def mounts(self, *names: str) -> list[str]:
        words = [word for name in names for word in ("--mount", f"{name}={self.root / name}")]
        return [*words, "--backbone", self.backbone]

    def run(self, *words: str, given: str | None = None) -> Result:
        return CliRunner().invoke(app, list(words), input=given)


TEXTS = ["my card was lost", "Ada lived in London and wrote the first program"]
QUESTIONS = [{"question": "who wrote it?", "context": "Ada wrote the first program"}]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_folders: Mapping[str, Path]) -> World:
    return World(tmp_path_factory.mktemp("hosting"), tiny_folders["bert"])


def lines(*rows: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def test_mixed_rows_are_answered_in_row_order(world):
    rows = [
        {"task": "ner", "sentence": TEXTS[1]},
        {"task": "intent", "text": TEXTS[0]},
        {"task": "qa", **QUESTIONS[0]},
        {"task": "intent", "text": TEXTS[1], "unused": 3},
    ]
    rows[0] = {"task": "ner", "words": TEXTS[1].split()}
    found = world.run("predict", *world.mounts("intent", "ner", "qa"), "--json", given=lines(*rows))
    assert found.exit_code == 0, found.output
    answers = [json.loads(line) for line in found.stdout.splitlines()]
    assert [answers[1]["label"], answers[3]["label"]] == [answer["label"] for answer in world.intent]
    assert answers[0]["tags"] == world.ner[1]["tags"]
    assert answers[2]["answer"] == world.qa[0]["answer"]
    assert "4 rows in" in found.stderr
    assert "3 adapters" in found.stderr


def test_a_file_of_rows_for_one_adapter_needs_no_task(world, tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(lines(*({"text": text} for text in TEXTS)), encoding="utf-8")
    found = world.run("predict", *world.mounts("intent"), str(file))
    assert found.exit_code == 0, found.output
    assert [line.split("\t")[0] for line in found.stdout.splitlines()] == [answer["label"] for answer in world.intent]


def test_rows_that_cannot_be_answered_are_named_all_at_once(world):
    rows = lines({"text": "x"}, {"task": "intend", "text": "x"}, {"task": "intent"}, {"task": "ner", "text": "x"})
    found = world.run("predict", *world.mounts("intent", "ner"), given=rows)
    assert found.exit_code == 1
    assert found.stdout == ""
    assert "line 1: no task" in found.stderr
    assert "did you mean 'intent'" in found.stderr
    assert "line 3: no text" in found.stderr
    assert "Every row names in its column task one of: intent, ner." in found.stderr
    assert "A row of intent has: text, text_pair." in found.stderr


def test_rows_that_cannot_be_answered_are_skipped_where_that_is_asked_for(world):
    rows = lines({"text": "x"}, {"task": "intend", "text": "x"}, {"task": "intent"}, {"task": "ner", "text": TEXTS[1]})
    found = world.run("predict", *world.mounts("intent", "ner"), "--errors", "skip", "--json", given=rows)
    answers = [json.loads(line) for line in found.stdout.splitlines()]
    assert found.exit_code == 3
    assert [answer["error"]["code"] for answer in answers[:3]] == ["bad_row", "not_mounted", "bad_row"]
    assert answers[3]["tags"] == world.ner[1]["tags"]


def test_mounts_that_cannot_be_read_are_refused(world):
    assert "NAME=FOLDER" in world.run("predict", "--mount", "intent").stderr
    twice = world.run("host", *world.mounts("intent", "intent"))
    assert "intent: given more than once" in twice.stderr
    both = world.run("predict", *world.mounts("intent"), "one", "two")
    assert both.exit_code == 2
    assert world.run("predict", *world.mounts("intent"), "--part", "a=b").exit_code == 2
    assert world.run("predict", str(world.root / "intent"), "--slots", "3").exit_code == 2
    assert world.run("predict").exit_code == 2
    assert world.run("host").exit_code == 2


def test_the_prompt_answers_with_all_that_is_mounted_and_mounts_as_it_goes(world):
    typed = "\n".join(
        [
            TEXTS[0],
            f":mount ner={world.root / 'ner'}",
            ":mount ner=nowhere",
            ":status",
            TEXTS[1],
            json.dumps(QUESTIONS[0]),
            ":swap intent=" + str(world.root / "qa"),
            ":unmount ner",
            ":unmount ner",
            json.dumps(QUESTIONS[0]),
            ":what",
            ":quit",
            "never read",
        ]
    )
    found = world.run("host", *world.mounts("intent"), given=typed)
    assert found.exit_code == 0, found.output
    first, *rest = found.stdout.splitlines()
    assert first.split()[:2] == ["intent", world.intent[0]["label"]]
    said = "\n".join(rest)
    assert "2 mounted" in said
    assert " ".join(world.ner[1]["tags"]) in said
    assert "(no text" in said, "an adapter that cannot read a row says why"
    assert world.qa[0]["answer"] in said
    assert ":swap NAME=FOLDER" in said, "what is not known shows the help"
    assert "'ner' is mounted already" in found.stderr
    assert "'ner' is not mounted" in found.stderr
    assert "version 2" in found.stderr
