"""Loading a recipe, and the message where it cannot be loaded."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterkit.errors import RecipeError
from adapterkit.recipe import BottleneckMethod, LoraMethod, NoMethod, load_recipe, recipe_schema, resolve
from adapterkit.recipe.shipped import shipped_recipes

GOOD = """\
# A headline.
task:     {kind: text-classification}
backbone: {name: bert-base-uncased}
method:   {kind: lora, rank: 8, alpha: 16, dropout: 0.1, sites: [attention.query, attention.value]}
data:     {train: train.jsonl}
training: {learning_rate: 2.0e-3, weight_decay: 1e-3}
"""

BAD = """\
task: {kind: text-clasification}
backbone: {nmae: foo, dtype: bf16}
method: {kind: lora, rnak: 8, rank: 0, sites: [a, 3], width: 3}
data: {train: 7, validation: 1.5}
training: {learning_rate: fast, clip: "1", keep_best: yes, class_weights: {a: -1}, evaluate_every: 0}
learning_rate: 1e-3
"""

MESSAGE = """\
bad.yaml is not a valid recipe (16 problems)
  task.kind (line 1): found 'text-clasification', expected text-classification, token-classification, \
question-answering, multiple-choice, masked-lm, causal-lm or seq2seq-lm; did you mean text-classification?
  backbone.nmae (line 2): is not a known name; did you mean name?
  backbone.name (line 2): is missing; expected a hub id or a folder
  backbone.dtype (line 2): found 'bf16', expected auto, float32, bfloat16, float16, int8 or nf4; did you mean bfloat16?
  method.rnak (line 3): is not a known name; did you mean rank?
  method.rank (line 3): found 0, expected a number ≥ 1
  method.sites[1] (line 3): found 3, expected text; put it in quotes
  method.width (line 3): belongs to method.kind bottleneck, not to lora; remove it
  data.train (line 4): found 7, expected text; put it in quotes
  data.validation (line 4): found 1.5, expected text or a number < 1.0
  training.learning_rate (line 5): found 'fast', expected a number
  training.clip (line 5): found '1', expected a number; remove the quotes
  training.keep_best (line 5): found 'yes', expected true or false; write true
  training.class_weights.a (line 5): found -1, expected a number > 0.0
  training.evaluate_every (line 5): found 0, expected a number ≥ 1 or epoch
  learning_rate (line 6): is not a known name here; did you mean training.learning_rate?
Correct the lines above; `adapterkit schema` prints every field with what it does."""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def raw(**blocks: Any) -> dict[str, Any]:
    return {"task": {"kind": "masked-lm"}, "backbone": {"name": "b"}, "data": {"train": "t.txt"}, **blocks}


def problems(source: Any, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(source, overrides)
    return list(caught.value.problems)


def test_every_mistake_is_named_at_once_with_its_line_and_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(BAD, encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe("bad.yaml")
    found, expected = str(caught.value).splitlines(), MESSAGE.splitlines()
    assert (found[0], found[-1]) == (expected[0], expected[-1])
    assert sorted(found) == sorted(expected)
    lines = [int(line.split("(line ")[1][0]) for line in found[1:-1]]
    assert lines == sorted(lines)


def test_a_file_a_mapping_and_a_recipe_give_the_same(good: Path) -> None:
    from_file = load_recipe(good)
    assert load_recipe(str(good)) == from_file
    assert load_recipe(from_file) == from_file
    assert load_recipe(from_file.to_dict()) == from_file
    as_json = good.with_suffix(".json")
    as_json.write_text(json.dumps(from_file.to_dict()), encoding="utf-8")
    assert load_recipe(as_json) == from_file


def test_numbers_with_an_exponent_are_numbers(good: Path) -> None:
    assert load_recipe(good).training.learning_rate == 0.002
    assert load_recipe(good).training.weight_decay == 0.001


def test_a_file_without_an_output_goes_to_runs_under_its_name(good: Path) -> None:
    assert load_recipe(good).output == "runs/good"
    assert load_recipe(good, ["output=elsewhere"]).output == "elsewhere"
    assert load_recipe(raw()).output is None


def test_a_mapping_may_hold_paths_and_tuples() -> None:
    recipe = load_recipe(raw(data={"train": Path("a/b.txt")}, method={"sites": ("attention.query",)}))
    assert recipe.data.train == "a/b.txt"
    assert recipe.method == LoraMethod(sites=("attention.query",))


def test_switching_the_method_drops_what_belongs_to_the_old_one_and_says_so(good: Path) -> None:
    resolved = resolve(good, ["method.kind=bottleneck", "method.placement=houlsby", "output=runs/b"])
    assert resolved.recipe.method == BottleneckMethod(placement="houlsby", dropout=0.1)
    assert resolved.notes == ("method.kind=bottleneck: left out rank, alpha, sites, which belong to lora only",)
    assert resolve(good, ["method.kind=none"]).recipe.method == NoMethod()
    assert resolve(good, ["method.kind=lora"]).notes == ()


def test_the_note_of_a_switch_reaches_a_python_user_through_the_log(
    good: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "adapterkit"):
        load_recipe(good, ["method.kind=none"])
    assert "left out rank" in caplog.text


def test_a_setting_of_the_old_method_on_the_command_line_is_refused(good: Path) -> None:
    assert problems(good, "method.kind=bottleneck", "method.rank=4") == [
        "method.rank (command line): belongs to method.kind lora, not to bottleneck; remove it"
    ]


def test_overrides_are_read_as_yaml(good: Path) -> None:
    recipe = load_recipe(
        good,
        [
            "training.learning_rate=1e-3",
            "method.layers=[4, 5]",
            "data.validation=null",
            "data.columns={text: sentence}",
            "data.columns.label=intent",
            "method.rank_pattern.attention.query@5=16",
            "training.keep_best=false",
            'backbone.revision="123"',
            "head.kind=mlp",
            "head.kind=linear",
        ],
    )
    assert recipe.training.learning_rate == 0.001
    assert recipe.method == LoraMethod(
        dropout=0.1,
        layers=(4, 5),
        rank_pattern={"attention.query@5": 16},
        sites=("attention.query", "attention.value"),
    )
    assert recipe.data.validation is None
    assert recipe.data.columns == {"text": "sentence", "label": "intent"}
    assert recipe.training.keep_best is False
    assert recipe.backbone.revision == "123"
    assert recipe.head.kind == "linear"


def test_a_method_block_without_a_kind_is_lora() -> None:
    assert load_recipe(raw(), ["method.rank=3"]).method == LoraMethod(rank=3)


def test_an_override_does_not_change_the_mapping_it_was_given() -> None:
    source = raw(training={"seed": 1})
    load_recipe(source, ["training.seed=2", "method.rank=3"])
    assert source == raw(training={"seed": 1})


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("seed", "'seed' (command line): expected path=value, as in training.learning_rate=1e-3"),
        ("=3", "'=3' (command line): expected path=value, as in training.learning_rate=1e-3"),
        ("training..seed=3", "'training..seed=3' (command line): expected path=value"),
        ("output.x=3", "output.x (command line): output is a value, not a block; nothing can be set inside it"),
        ("training.warmupp=1", "training.warmupp (command line): is not a known name; did you mean warmup?"),
        ("trainig.seed=1", "trainig (command line): is not a known name; did you mean training?"),
        ("head.pooling=maen", "found 'maen', expected auto, mean, first or last; did you mean mean?"),
        ("task.kind=causal_lm", "did you mean causal-lm?"),
        ("method.kind=lroa", "found 'lroa', expected lora, bottleneck, ia3, fusion or none (or a package with the "),
        ("method.kind=lroa", "entry point 'lroa' in adapterkit.methods); did you mean lora?"),
        ("method=null", "method (command line): found null, expected a block of settings"),
        ("data=3", "data (command line): found 3, expected a block of settings"),
        ("training.seed=[1", "training.seed (command line): '[1' cannot be read"),
        ("training.clip=.nan", "training.clip (command line): '.nan' cannot be read"),
    ],
)  # fmt: skip
def test_an_override_that_is_wrong_is_named(override: str, problem: str) -> None:
    found = problems(raw(output="o"), override)
    assert any(problem in line for line in found), found


def test_overrides_and_fields_that_are_wrong_are_named_together() -> None:
    assert len(problems(raw(training={"seed": -1}), "x", "y=1")) == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"- a\n- b\n", "expected the blocks"),
        (b"just text", "expected the blocks"),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (b"task: {kind: a\n", "line 2"),
        (b"task: {}\ntask: {}\n", "line 2, column 1: task stands twice"),
        (b"x" * 2_000_000, "is larger than"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert reason in str(caught.value)


@pytest.mark.parametrize("source", [3, None, ["a"], b"x"])
def test_what_is_no_source_at_all_is_refused(source: Any) -> None:
    with pytest.raises(RecipeError, match="A recipe is a path"):
        load_recipe(source)


def test_a_mapping_with_keys_that_are_no_text_is_refused() -> None:
    assert problems(raw(training={1: 2})) == ["training.1: expected a name that is text"]


def test_a_mapping_that_holds_itself_is_refused() -> None:
    endless: dict[str, Any] = raw()
    endless["training"] = endless
    with pytest.raises(RecipeError, match="nested deeper"):
        load_recipe(endless)


def test_a_name_that_ships_is_found_and_a_name_near_one_is_proposed() -> None:
    name = shipped_recipes()[0].name
    assert load_recipe(name) == load_recipe(shipped_recipes()[0].path)
    with pytest.raises(RecipeError, match=f"Did you mean the shipped recipe {name}"):
        load_recipe(f"elsewhere/{name}.yaml")


def test_the_recipe_of_an_artifact_is_read_without_its_trust_in_remote_code(tmp_path: Path) -> None:
    kept = {**load_recipe(raw()).to_dict(), "backbone": {"name": "b", "trust_remote_code": True}}
    (tmp_path / "adapterkit.json").write_text(json.dumps({"recipe": kept}), encoding="utf-8")
    resolved = resolve(tmp_path)
    assert resolved.recipe.backbone.trust_remote_code is False
    assert "an artifact cannot turn it on" in resolved.notes[0]
    assert load_recipe(tmp_path, ["backbone.trust_remote_code=true"]).backbone.trust_remote_code is True


def test_the_default_of_a_field_that_there_is_no_more_is_read_and_another_value_is_refused() -> None:
    assert "shares" not in load_recipe(raw(training={"epochs": 2, "shares": 1})).to_dict()["training"]
    for value in (4, "four"):
        assert "training.shares" in problems(raw(training={"shares": value}))[0]


@pytest.mark.parametrize("manifest", ["{", "[]", "{}", '{"recipe": 3}', "[" * 100_000])
def test_a_damaged_manifest_gives_no_recipe(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "adapterkit.json").write_text(manifest, encoding="utf-8")
    with pytest.raises(RecipeError):
        load_recipe(tmp_path)


def test_the_schema_describes_every_field_and_refuses_what_is_unknown() -> None:
    schema = recipe_schema()
    blocks = [schema, *schema["$defs"].values()]
    objects = [block for block in blocks if block.get("type") == "object"]
    assert len(objects) == 14
    assert all(block["additionalProperties"] is False for block in objects)
    assert [
        name
        for block in objects
        for name, field in block["properties"].items()
        if not {"description", "$ref"} & field.keys()
    ] == []
    assert json.loads(json.dumps(schema)) == schema


ANY_VALUE = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())
NAMES = st.sampled_from(["task", "backbone", "method", "head", "data", "training", "output", "kind", "x"])


@given(st.dictionaries(NAMES, ANY_VALUE | st.dictionaries(NAMES, ANY_VALUE, max_size=4), max_size=7))
def test_any_mapping_is_a_recipe_or_refused_as_one(mapping: dict[str, Any]) -> None:
    try:
        load_recipe(mapping)
    except RecipeError as error:
        refused = error
    else:
        return
    assert refused.problems


@given(
    st.lists(st.text(max_size=12) | st.tuples(NAMES, NAMES, st.text(max_size=6)).map(lambda t: f"{t[0]}.{t[1]}={t[2]}"))
)
def test_any_override_is_applied_or_refused_as_one(overrides: list[str]) -> None:
    try:
        load_recipe(raw(), overrides)
    except RecipeError as error:
        refused = error
    else:
        return
    assert refused.problems


@given(
    rank=st.integers(1, 512),
    alpha=st.floats(1e-6, 1e6),
    rate=st.floats(1e-9, 1.0),
    layers=st.none() | st.lists(st.integers(0, 100), min_size=1, unique=True),
    prefix=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
def test_every_recipe_reads_back_from_json_and_from_overrides(
    rank: int, alpha: float, rate: float, layers: list[int] | None, prefix: str
) -> None:
    overrides = [
        f"method.rank={rank}",
        f"method.alpha={alpha}",
        f"training.learning_rate={rate}",
        f"method.layers={json.dumps(layers)}",
        f"task.prefix={json.dumps(prefix)}",
    ]
    recipe = load_recipe(raw(task={"kind": "seq2seq-lm"}), overrides)
    assert recipe.method == LoraMethod(rank=rank, alpha=alpha, layers=None if layers is None else tuple(layers))
    assert (recipe.training.learning_rate, recipe.task.prefix) == (rate, prefix)
    assert load_recipe(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        ({"txt": "sentence"}, "did you mean text?"),
        ({"sentence": "text"}, "write text: sentence, adapterkit's name first"),
        ({"source": "a"}, "text-classification has no such column; it has text, text_pair, label"),
    ],
)
def test_a_column_that_the_kind_does_not_have_is_named_with_what_was_meant(columns: dict[str, str], hint: str) -> None:
    raw = {
        "task": {"kind": "text-classification"},
        "backbone": {"name": "b"},
        "data": {"train": "a.csv", "columns": columns},
    }
    with pytest.raises(RecipeError) as caught:
        load_recipe(raw)
    (problem,) = caught.value.problems
    assert problem.startswith(f"data.columns.{next(iter(columns))}: ")
    assert hint in problem
