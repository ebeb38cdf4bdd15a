"""The verbs that need an artifact, on a tiny one that the command line itself trains."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import adapterkit as ak
from adapterkit.backbone import Backbone
from adapterkit.cli.app import app
from adapterkit.recipe import load_recipe
from adapterkit.records import EvaluationRecord
from adapterkit.tasks.closer_look import one_line

# Accelerate warns where a run has no tracker, which is what the recipe below asks for.
pytestmark = pytest.mark.filterwarnings("ignore:.*no supported trackers:UserWarning")

RECIPE = """\
task: {{kind: text-classification}}
backbone: {{name: {backbone}, device: cpu}}
method: {{kind: lora, rank: 2, sites: [attention.query]}}
data: {{train: train.jsonl, test: test.jsonl, columns: {{text: said}}}}
training: {{epochs: 1, batch_size: 8, precision: fp32, trackers: []}}
output: {output}
"""


class World:
    """A folder with a recipe, its rows and the artifact that was trained from them."""

    def __init__(self, root: Path, backbone: Path) -> None:
        self.root, self.recipe, self.artifact = root, root / "tiny.yaml", root / "artifact"
        self.recipe.write_text(RECIPE.format(backbone=backbone, output=self.artifact), encoding="utf-8")
        self.write("train.jsonl", [row(number) for number in range(40)])
        self.write("test.jsonl", [row(number) for number in range(40, 50)])
        self.trained = self.run("train", str(self.recipe), "--json")

    def write(self, name: str, rows: list[dict[str, Any]]) -> Path:
        path = self.root / name
        path.write_text("".join(f"{json.dumps(line)}\n" for line in rows), encoding="utf-8")
        return path

    def run(self, *words: str, given: str | None = None) -> Result:
        return CliRunner().invoke(app, list(words), input=given, env={"ADAPTERKIT_DATA": str(self.root)})


def row(number: int) -> dict[str, Any]:
    word, label = (("card", "lost"), ("cash", "money"))[number % 2]
    return {"said": f"{word} number {number}", "label": label}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_folders: Mapping[str, Path]) -> World:
    return World(tmp_path_factory.mktemp("cli"), tiny_folders["bert"])


def test_training_tells_machines_where_the_artifact_is_and_how_good(world: World) -> None:
    assert world.trained.exit_code == 0, world.trained.stderr
    told = json.loads(world.trained.stdout)
    assert told["artifact"] == str(world.artifact)
    assert set(told["metrics"]) == {"validation", "test"}
    assert set(told["metrics"]["test"]["accuracy"]) == {"value", "low", "high"}


def test_training_another_method_from_the_same_file_leaves_out_what_belongs_to_lora(world: World) -> None:
    output = world.root / "houlsby"
    ran = world.run(
        "train", str(world.recipe), "method.kind=bottleneck", "method.placement=houlsby", f"output={output}"
    )
    assert ran.exit_code == 0, ran.stderr
    assert "Note: method.kind=bottleneck: left out rank, sites, which belong to lora only" in ran.stderr
    assert ran.stderr.count("left out rank") == 1
    assert "accuracy" in ran.stdout
    assert f"Artifact: {output}" in ran.stderr
    assert json.loads(world.run("inspect", str(output), "--json").stdout)["method"]["placement"] == "houlsby"


def test_an_output_that_exists_is_not_replaced_unless_asked(world: World) -> None:
    refused = world.run("train", str(world.recipe))
    assert refused.exit_code == 1
    assert refused.stderr.startswith("OutputError")


def test_a_person_sees_what_an_artifact_is(world: World) -> None:
    shown = world.run("inspect", str(world.artifact)).stdout
    assert "text-classification" in shown
    assert "2: lost, money" in shown
    assert "lora, rank 2, alpha 16, sites attention.query" in shown
    assert "test 10, train 36, validation 4" in shown
    assert all(line == line.rstrip() for line in shown.splitlines())


def test_a_machine_sees_the_manifest(world: World) -> None:
    shown = json.loads(world.run("inspect", str(world.artifact), "--json").stdout)
    written = json.loads((world.artifact / "adapterkit.json").read_text(encoding="utf-8"))
    assert shown == written


def test_lines_of_text_are_answered_one_by_one(world: World) -> None:
    answered = world.run("predict", str(world.artifact), given="card number 1\ncash number 2\n")
    assert answered.exit_code == 0, answered.stderr
    lines = answered.stdout.splitlines()
    assert len(lines) == 2
    assert all(line.split("\t")[0] in ("lost", "money") and 0.5 <= float(line.split("\t")[1]) <= 1 for line in lines)


def test_lines_of_json_a_file_and_lines_of_text_get_the_same_answers(world: World) -> None:
    texts = [row(number)["said"] for number in range(40, 50)]
    as_text = world.run("predict", str(world.artifact), "--json", given="\n".join(texts))
    as_json = world.run(
        "predict", str(world.artifact), "--json", given="\n".join(json.dumps({"text": t}) for t in texts)
    )
    as_file = world.run("predict", str(world.artifact), str(world.root / "test.jsonl"), "--json")
    assert len(as_text.stdout.splitlines()) == 10
    assert as_text.stdout == as_json.stdout == as_file.stdout
    answer = json.loads(as_text.stdout.splitlines()[0])
    assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].get)


def test_a_row_is_written_the_same_way_for_every_way_in(world: World) -> None:
    """Under the task's name, under training's, under an alias, and as plain text."""
    text = row(41)["said"]
    written: list[Any] = [{"text": text}, {"said": text}, {"sentence": text}]
    backbone = Backbone.load(json.loads((world.artifact / "adapterkit.json").read_text())["backbone"]["name"])
    with ak.Host(backbone) as host, ak.load(world.artifact, backbone) as adapted:
        host.mount("a", world.artifact)
        expected = host.predict([("a", text)] * 3)
        assert host.predict([("a", one) for one in written]) == expected
        assert host.predict([{"task": "a", **one} for one in written]) == expected
        assert [answer["a"] for answer in host.predict_all(written)] == expected
        assert adapted.predict(written) == adapted.predict([text] * 3)
    given = "".join(f"{json.dumps(one)}\n" for one in written)
    for words in ([str(world.artifact)], ["--mount", f"a={world.artifact}"]):
        answered = world.run("predict", *words, "--json", given=given)
        assert answered.exit_code == 0, answered.stderr
        assert len(set(answered.stdout.splitlines())) == 1
        assert json.loads(answered.stdout.splitlines()[0])["label"] == expected[0]["label"]


def test_bad_rows_are_skipped_where_that_is_asked_for_and_the_status_says_so(world: World) -> None:
    lines = ['{"said": "card number 1"}', "{", '{"number": 1}', '{"said": "cash number 2"}', ""]
    given = "\n".join([*lines, '{"said": "card number 3"}\n'])
    asked = "predict", str(world.artifact), "--errors", "skip"
    found = world.run(*asked, "--json", given=given)
    answers = [json.loads(line) for line in found.stdout.splitlines()]
    assert found.exit_code == 3
    assert ["error" in answer for answer in answers] == [False, True, True, False, True, False]
    assert answers[2]["error"] == {
        "code": "bad_row",
        "message": f"no text. A row of {world.artifact} has: text (said in training), text_pair.",
    }
    good = "\n".join(lines[:1] + lines[3:4]) + '\n{"said": "card number 3"}\n'
    alone = world.run("predict", str(world.artifact), "--json", given=good)
    assert [line for line in found.stdout.splitlines() if "error" not in line] == alone.stdout.splitlines()
    assert "3 of 6 rows cannot be answered" in found.stderr
    assert all(f"line {number}: " in found.stderr for number in (2, 3, 5))
    read = world.run(*asked, given=given).stdout.splitlines()
    assert len(read) == 6
    assert read[2] == "(no answer: no text)"
    assert world.run(*asked, given=good).exit_code == 0
    assert world.run(*asked, given="").exit_code == 1


def test_a_long_file_is_checked_to_its_end_before_the_first_answer(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapterkit.cli.answering.ROWS_AT_ONCE", 8)
    rows = [row(number) for number in range(30)]
    file = tmp_path / "long.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in [*rows, {"said": 3}]), encoding="utf-8")
    stopped = world.run("predict", str(world.artifact), str(file))
    assert (stopped.exit_code, stopped.stdout) == (1, "")
    assert "line 31: text is int, expected text" in stopped.stderr
    skipped = world.run("predict", str(world.artifact), str(file), "--errors", "skip")
    assert (skipped.exit_code, len(skipped.stdout.splitlines())) == (3, 31)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("", "nothing came in"),
        ("a\n\nb\n  \n", "line 4: is empty"),
        ('{"text": "a"}\n{"text": 1\n', "line 2: not valid JSON"),
        ('{"text": "a"}\n3\n', 'line 2: expected an object like {"text": …}, found a number'),
        ('{"text": "a"}\n{"txt": "a"}\n', "line 2: no text; did you mean 'text' by 'txt'?"),
    ],
)
def test_lines_that_cannot_be_answered_are_named(world: World, given: str, problem: str) -> None:
    refused = world.run("predict", str(world.artifact), given=given)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("DataError")
    assert problem in refused.stderr
    assert refused.stdout == ""


def test_the_rows_of_the_recipe_are_scored_where_no_file_is_named(world: World) -> None:
    first = world.run("evaluate", str(world.artifact), "--json").stdout
    assert first == world.run("evaluate", str(world.artifact), "--json").stdout
    scored = EvaluationRecord.model_validate_json(first).to_dict()
    assert scored == json.loads(first)
    metrics = json.loads(world.trained.stdout)["metrics"]["test"]
    told = {name: {**metric, "higher_is_better": True, "how": ""} for name, metric in metrics.items()}
    assert scored["metrics"] == told
    manifest = json.loads((world.artifact / "adapterkit.json").read_text())
    assert scored["answering"]["sha256"] == manifest["sha256"]
    assert scored["answering"]["fingerprint"] == manifest["backbone"]["fingerprint"]
    assert scored["data"]["digest"] == manifest["data"]["digests"]["test"]
    assert str(world.root) not in first.replace(scored["data"]["source"], "").replace(
        scored["answering"]["backbone"], ""
    )


def test_a_file_is_scored_into_a_table(world: World) -> None:
    shown = world.run("evaluate", str(world.artifact), "--data", "test.jsonl", "--column", "text=said")
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.splitlines()[0].split() == ["metric", "value", "95", "%", "interval"]
    assert shown.stdout.splitlines()[1].startswith("accuracy")


def test_a_file_that_says_nothing_of_itself_is_read_as_it_is_told(world: World) -> None:
    """UTF-16 without its mark, no header, and a delimiter that could be anything."""
    rows = [row(number) for number in range(40, 50)]
    file = world.root / "strange.csv"
    file.write_bytes("".join(f"{one['said']}^{one['label']}\n" for one in rows).encode("utf-16-le"))
    told = ["--encoding", "utf-16-le", "--delimiter", "^", "--read", "header=[said, label]"]
    plain, strange = (
        json.loads(world.run("evaluate", str(world.artifact), "--data", name, *more, "--json").stdout)
        for name, more in (("test.jsonl", []), (str(file), told))
    )
    assert strange["data"]["digest"] == plain["data"]["digest"]
    assert strange["metrics"] == plain["metrics"]
    answers = [
        world.run("predict", str(world.artifact), str(one), *more).stdout
        for one, more in ((file, told), (world.root / "test.jsonl", []))
    ]
    assert answers[0] == answers[1] != ""
    seen = json.loads(world.run("data", str(file), *told, "--json").stdout)
    assert (seen["rows"], seen["reads"]) == ({"train": 10}, {"text": "said", "label": "label"})
    begun = world.run("init", str(file), *told, "--output", str(world.root / "strange.yaml"))
    assert begun.exit_code == 0, begun.stderr
    written = load_recipe(world.root / "strange.yaml").data
    assert (written.encoding, written.delimiter, written.header) == ("utf-16-le", "^", ("said", "label"))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--read", "haeder=[text, label]"], "haeder: says nothing of how rows are read"),
        (["--read", "train=x.csv"], "train: says nothing of how rows are read"),
        (["--read", "header"], "expected path=value"),
        (["--encoding", "utf-99", "--delimiter", "ab"], "data.delimiter: found 'ab', expected"),
    ],
)
def test_what_says_nothing_of_files_is_refused(world: World, words: list[str], problem: str) -> None:
    refused = world.run("evaluate", str(world.artifact), "--data", "test.jsonl", *words)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert problem in " ".join(refused.stderr.split())


def test_standard_input_is_not_read_in_another_way(world: World) -> None:
    assert "belong to a FILE" in world.run("predict", str(world.artifact), "--encoding", "cp1252", given="a\n").stderr


def test_a_column_without_a_name_is_refused(world: World) -> None:
    refused = world.run("evaluate", str(world.artifact), "--column", "sentence")
    assert refused.exit_code == 1
    assert "--column sentence: expected NAME=COLUMN" in refused.stderr


def test_a_whole_artifact_is_verified_with_status_0(world: World) -> None:
    shown = world.run("verify", str(world.artifact))
    assert shown.exit_code == 0
    assert "verified" in shown.stdout
    told = json.loads(world.run("verify", str(world.artifact), "--json").stdout)
    assert told["ok"] is True
    assert [check["name"] for check in told["checks"]][-1] == "golden rows"


@pytest.mark.parametrize("verb", ["predict", "host", "evaluate", "verify"])
def test_the_backbone_is_loaded_in_the_format_that_is_asked_for(
    world: World, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    plain = Backbone.load.__func__  # type: ignore[attr-defined]

    def noting(cls: Any, *given: Any, **named: Any) -> Any:
        loaded.append(plain(cls, *given, **named))
        return loaded[-1]

    monkeypatch.setattr(Backbone, "load", classmethod(noting))
    words = ["--mount", f"a={world.artifact}"] if verb == "host" else [str(world.artifact)]
    result = world.run(verb, *words, "--backbone-dtype", "bfloat16", given="lost card\n")
    assert result.exit_code == 0, result.stderr
    assert [str(backbone.dtype) for backbone in loaded] == ["torch.bfloat16"]


def test_a_damaged_artifact_is_refused_with_status_1(world: World, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(world.artifact, damaged)
    tensors = damaged / "adapter_model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x00")
    shown = world.run("verify", str(damaged), "--json")
    assert shown.exit_code == 1
    assert json.loads(shown.stdout)["ok"] is False
    assert world.run("verify", str(damaged)).stdout.startswith(f"{damaged}: NOT verified")
    assert world.run("inspect", str(damaged)).stderr.startswith("ArtifactError")


def test_a_folder_that_is_no_artifact_is_refused(world: World, tmp_path: Path) -> None:
    for words in (["inspect"], ["predict"], ["evaluate", "--data", "x.jsonl"]):
        refused = world.run(words[0], str(tmp_path), *words[1:], given="a\n")
        assert refused.exit_code == 1, words
        assert refused.stderr.startswith("ArtifactError")


def test_ctrl_c_before_a_checkpoint_says_how_to_begin_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("adapterkit.training.train", interrupted)
    stopped = world.run("train", str(world.recipe), "training.seed=1", f"output={world.root / 'x'}")
    assert stopped.exit_code == 130
    assert f"Begin again: adapterkit train {world.recipe} training.seed=1" in stopped.stderr


def test_ctrl_c_keeps_a_checkpoint_from_which_the_same_command_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapterkit.training.interrupt import Interrupt

    words = ["train", str(world.recipe), f"output={world.root / 'stopped'}"]
    with monkeypatch.context() as patched:
        patched.setattr(Interrupt, "wished", lambda self, accelerator: True)
        stopped = world.run(*words)
    assert stopped.exit_code == 130
    assert f"The checkpoint of step 1 is kept; go on with: adapterkit {' '.join(words)}" in stopped.stderr
    assert stopped.stderr.rstrip().endswith("--resume")
    resumed = world.run(*words, "--resume", "--json")
    assert resumed.exit_code == 0, resumed.stderr
    assert json.loads(resumed.stdout)["metrics"] == json.loads(world.trained.stdout)["metrics"]


def test_a_stopped_sweep_says_how_to_go_on_together(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def stopped(*_: Any, together: int, **__: Any) -> None:
        asked.append(together)
        raise KeyboardInterrupt

    monkeypatch.setattr("adapterkit.sweeping.sweep", stopped)
    words = ["sweep", str(world.recipe), "--grid", "seed=0,1"]
    once = world.run(*words, "--overwrite", "--together", "2")
    assert once.exit_code == 130
    assert f"Go on with: adapterkit {' '.join(words)} --together 2 --data-root" in once.stderr
    assert f"Go on with: adapterkit {' '.join(words)} --data-root" in world.run(*words).stderr
    assert asked == [2, 1]


def test_the_whole_command_answers_from_a_pipe(world: World) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "adapterkit", "predict", str(world.artifact)],
        input="card number 1\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ({"label": "a", "score": 0.51239, "probabilities": {}}, "a\t0.5124"),
        ({"labels": ["a", "b"], "probabilities": {}}, "a, b"),
        ({"labels": []}, ""),
        ({"value": 3.14159265}, "3.142"),
        ({"tokens": ["Ada", "ran"], "tags": ["B-P", "O"], "scores": [0.9, 0.8]}, "B-P O"),
        ({"answer": "two\nlines", "score": 1.0}, "two\\nlines\t1.0000"),
        ({"choice": 2}, "2"),
        ({"text": "Ünï"}, "Ünï"),
        ({"other": 1}, '{"other": 1}'),
    ],
)
def test_an_answer_is_one_line_for_a_reader(answer: dict[str, Any], line: str) -> None:
    assert one_line(answer) == line
