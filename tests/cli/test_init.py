"""From a file to answers without a recipe of one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from adapterkit.cli.app import app

pytestmark = pytest.mark.filterwarnings("ignore:.*no supported trackers:UserWarning")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ADAPTERKIT_DATA", raising=False)
    texts = [("card", "lost"), ("cash", "money")]
    lines = [f"{texts[n % 2][0]} number {n};{texts[n % 2][1]}" for n in range(60)]
    (tmp_path / "tickets.csv").write_text("\n".join(["said;queue", *lines]) + "\n", encoding="utf-8")
    return tmp_path


def run(*words: str, given: str | None = None) -> Result:
    return CliRunner().invoke(app, list(words), input=given)


def test_three_commands_lead_from_a_file_to_answers(here: Path, tiny_folders: Mapping[str, Path]) -> None:
    begun = run("init", "tickets.csv", "--backbone", str(tiny_folders["bert"]))
    assert begun.exit_code == 0, begun.stderr
    assert "text-classification: a text and a label" in begun.stdout
    assert "train: read as CSV, semicolons between cells" in begun.stderr
    assert "Train: adapterkit train tickets.yaml" in begun.stderr
    quick = ["training.epochs=1", "training.trackers=[]", "backbone.device=cpu"]
    trained = run("train", "tickets.yaml", *quick, "--quiet")
    assert trained.exit_code == 0, trained.stderr
    assert 'Try: echo "My card was lost on the way." | adapterkit predict runs/tickets' in trained.stderr
    answered = run("predict", "runs/tickets", given="card number 3\n")
    assert answered.exit_code == 0, answered.stderr
    assert answered.stdout.split("\t")[0] in ("lost", "money")


def test_a_recipe_that_exists_is_not_replaced_unless_asked(here: Path) -> None:
    (here / "tickets.yaml").write_text("mine")
    refused = run("init", "tickets.csv")
    assert refused.exit_code == 1
    assert "exists already" in refused.stderr
    assert (here / "tickets.yaml").read_text() == "mine"
    assert run("init", "tickets.csv", "--force").exit_code == 0
    assert "kind: text-classification" in (here / "tickets.yaml").read_text()


def test_data_shows_the_same_and_writes_nothing(here: Path) -> None:
    shown = run("data", "tickets.csv")
    assert shown.exit_code == 0, shown.stderr
    assert "2 labels" in shown.stdout
    told = json.loads(run("data", "tickets.csv", "--json").stdout)
    assert told["kind"] == "text-classification"
    assert told["reads"] == {"text": "said", "label": "queue"}
    assert told["labels"] == {"lost": 30, "money": 30}
    assert [path.name for path in here.iterdir()] == ["tickets.csv"]


def test_rows_that_training_would_refuse_get_no_recipe(here: Path) -> None:
    (here / "one.csv").write_text("said,queue\n" + "".join(f"number {n},same\n" for n in range(9)), encoding="utf-8")
    refused = run("init", "one.csv")
    assert refused.exit_code == 1
    assert "at least two labels" in refused.stderr
    assert "queue: found 'same' in all rows" in refused.stderr
    assert not (here / "one.yaml").exists()
    shown = run("data", "one.csv")
    assert shown.exit_code == 0
    assert "found 'same' in all rows" in shown.stderr


def test_columns_that_nothing_is_made_of_are_asked_about(here: Path) -> None:
    lines = "".join(f"number {n} of all,answer {n}\n" for n in range(9))
    (here / "free.csv").write_text("said,reply\n" + lines, encoding="utf-8")
    assert "if 'reply' holds the answers, say so" in run("data", "free.csv").stderr
    (here / "texts.csv").write_text("said\n" + lines.replace(",", " "), encoding="utf-8")
    assert "holds the answers" not in run("data", "texts.csv").stderr


def test_wrong_words_are_answered_with_the_right_ones(here: Path) -> None:
    assert "did you mean text-classification" in run("data", "tickets.csv", "--kind", "text-clasification").stderr
    assert (
        "encoding: found 'utf-99', expected one that Python knows"
        in run("data", "tickets.csv", "--encoding", "utf-99").stderr
    )
    assert "There is no file" in run("data", "ticket.csv").stderr
    assert run("data", "tickets.csv", "--column", "text").exit_code == 1
