"""`adapterkit registry`, as it is typed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapterkit.cli.app import app
from adapterkit.registry import Registry
from tests.registry.conftest import Make, make

__all__ = ["make"]


def typed(*words: str, status: int = 0) -> str:
    """What a command prints on standard output."""
    done = CliRunner().invoke(app, ["registry", *words])
    assert done.exit_code == status, done.output
    return done.stdout


@pytest.fixture(autouse=True)
def _address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTERKIT_REGISTRY", f"sqlite:///{tmp_path}/registry.db")
    monkeypatch.setenv("ADAPTERKIT_ACTOR", "ada")


def test_a_version_is_added_promoted_and_rolled_back(make: Make, tmp_path: Path) -> None:
    digests = [json.loads(typed("add", "intent", str(make(name)), "--json"))["digest"] for name in "ab"]
    typed("promote", "intent", "1")
    typed("promote", "intent", digests[1][:10], "--force", "in a hurry")
    assert typed("roll-back", "intent").splitlines()[0].split() == ["version", "intent", "1"]
    moves = json.loads(typed("history", "intent", "--json"))
    assert [(move["version"]["number"], move["action"], move["forced"]) for move in moves] == [
        (1, "promote", ""),
        (2, "promote", "in a hurry"),
        (1, "roll-back", ""),
    ]
    assert [row.split()[1:3] for row in typed("list").splitlines()[1:]] == [
        [str(number), digest[:12]] for number, digest in enumerate(digests, 1)
    ]
    head = json.loads(typed("audit", "--json"))["head"]
    for noted in (head, head[:12]):
        assert json.loads(typed("audit", "--json", "--head", noted))["problems"] == []
    typed("audit", "--head", head[:11], status=1)
    assert "made from" not in typed("show", "intent", "stable")


def test_a_registry_is_made_by_adding_alone(make: Make, tmp_path: Path) -> None:
    for words in (["list"], ["audit"], ["promote", "intent", "1"], ["roll-back", "intent"]):
        typed(*words, status=1)
    assert not (tmp_path / "registry.db").exists()
    typed("add", "intent", str(make("a")))
    assert typed("list")


def test_a_gate_is_set_shown_and_kept(make: Make, tmp_path: Path) -> None:
    typed("add", "intent", str(make("a")))
    assert json.loads(typed("gate", "--require", "compare")) == {
        "require": ["compare"],
        "most_ece": 0.05,
        "signers": [],
    }
    typed("promote", "intent", "1", status=1)
    (tmp_path / "found.json").write_text(json.dumps({"compare": {"passed": True, "detail": "better by 2.1 points"}}))
    typed("promote", "intent", "1", "--evidence", str(tmp_path / "found.json"))
    assert (
        json.loads(typed("history", "intent", "--json"))[0]["evidence"]["compare"]["detail"] == "better by 2.1 points"
    )


def test_what_answered_is_said_or_that_nothing_did(make: Make) -> None:
    typed("add", "intent", str(make("a")))
    assert typed("served", "intent", "--at", "2020-01-01", "--json", status=1) == "null\n"
    typed("promote", "intent", "1")
    assert json.loads(typed("served", "intent", "--at", "9999-01-01", "--json"))["version"]["number"] == 1


def test_a_split_is_kept(make: Make) -> None:
    for number, name in (("1", "a"), ("2", "b")):
        typed("add", "intent", str(make(name)))
        typed("promote", "intent", number, "--channel", {"1": "stable", "2": "candidate"}[number])
    typed("split", "intent", "stable=19", "candidate=1")
    typed("split", "intent", "stable", status=2)
    typed("split", "intent", "stable=1", "none=1", status=1)
    with Registry(os.environ["ADAPTERKIT_REGISTRY"]) as registry:
        assert registry.shares("intent") == {"stable": 19.0, "candidate": 1.0}


@pytest.mark.parametrize(
    "words",
    [("promote", "intent", "9"), ("show", "other", "1"), ("served", "intent", "--at", "soon"), ("add", "x", "nowhere")],
)
def test_what_makes_no_sense_is_refused(make: Make, words: tuple[str, ...]) -> None:
    typed("add", "intent", str(make("a")))
    typed(*words, status=1)
