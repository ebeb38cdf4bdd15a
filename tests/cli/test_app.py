"""What holds for every verb: help, errors, and a quick start."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from keyword import iskeyword
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapterkit import __version__
from adapterkit.cli import verbs
from adapterkit.cli.app import app
from adapterkit.cli.verbs import VERBS, load_verb

runner = CliRunner()


def run(*words: str, module: bool = False) -> subprocess.CompletedProcess[str]:
    start = ["-m", "adapterkit"] if module else ["-c", "from adapterkit.cli import main; main()"]
    return subprocess.run([sys.executable, *start, *words], capture_output=True, text=True, check=False)


def test_help_names_every_verb_and_teaches_by_example() -> None:
    shown = runner.invoke(app, ["--help"])
    assert shown.exit_code == 0
    first, second, third, *others = VERBS
    assert (first, second, third) == ("init", "data", "train")
    assert {"evaluate", "predict", "inspect", "verify", "compose", "import", "export", "schema"} <= set(others)
    assert all(f" {verb} " in shown.stdout for verb in VERBS)
    assert "$ adapterkit train recipes/banking77.yaml" in shown.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_shows_a_command_with_it(verb: str) -> None:
    shown = runner.invoke(app, [verb, "--help"])
    assert shown.exit_code == 0
    assert "Examples" in shown.stdout
    assert f"adapterkit {verb}" in shown.stdout.split("Examples")[1]
    assert (load_verb(verb).help or "").partition("\n\n")[0] == VERBS[verb]


def test_every_file_of_a_verb_is_listed() -> None:
    folder = Path(verbs.__file__).parent
    words = [f"{verb}_" if iskeyword(verb) else verb for verb in VERBS]
    defined = [
        file.stem
        for file in folder.glob("*.py")
        if re.search(rf"^(def {file.stem}\(|{file.stem} = typer\.)", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert sorted(defined) == sorted(["app", *words])


def test_no_verb_at_all_shows_the_help() -> None:
    assert "Commands" in runner.invoke(app, []).output


def test_the_version_is_told() -> None:
    assert runner.invoke(app, ["--version"]).stdout == f"adapterkit {__version__}\n"


def test_python_m_is_the_same_command() -> None:
    assert run("schema", module=True).stdout == run("schema").stdout


def test_an_error_is_told_without_a_traceback_on_standard_error_with_status_1(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("task: {kind: text-clasification}\nbackbone: {name: '[red]x'}\ndata: {train: t}\n", encoding="utf-8")
    done = run("train", str(bad))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"RecipeError: {bad} is not a valid recipe (1 problem)\n  task.kind (line 1): found ")
    assert "did you mean text-classification?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("--debug", "train", "nowhere.yaml"), ("train", "nowhere.yaml", "--debug")])
def test_debug_shows_the_traceback_wherever_it_stands(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "adapterkit.errors.RecipeError: nowhere.yaml is not a file" in done.stderr


def test_an_unknown_verb_or_option_is_told_with_status_2() -> None:
    assert run("trian").returncode == 2
    assert run("train", "--nope").returncode == 2


def test_a_terminal_gets_colour_and_a_pipe_does_not(tmp_path: Path) -> None:
    coloured = runner.invoke(app, ["train", "nowhere.yaml"], env={"FORCE_COLOR": "1"})
    plain = runner.invoke(app, ["train", "nowhere.yaml"], env={"NO_COLOR": "1"})
    assert "\x1b[" in coloured.stderr
    assert "\x1b[" not in plain.stderr


def test_every_process_but_the_first_says_who_it_is() -> None:
    second = runner.invoke(app, ["train", "nowhere.yaml"], env={"RANK": "1"})
    assert second.stderr.startswith("[process 1] RecipeError")


def test_ctrl_c_ends_with_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("adapterkit.recipe.recipe_schema", interrupted)
    stopped = runner.invoke(app, ["schema"])
    assert stopped.exit_code == 130
    assert stopped.stderr == "Stopped.\n"


def test_the_schema_is_json_on_standard_output() -> None:
    shown = json.loads(runner.invoke(app, ["schema"]).stdout)
    assert shown["title"] == "adapterkit recipe"
    assert set(shown["required"]) == {"task", "backbone", "data"}
