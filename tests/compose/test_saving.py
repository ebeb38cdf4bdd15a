from __future__ import annotations

import json

import pytest
import torch

from adapterkit import compose
from adapterkit.artifact import export, load, open_artifact, verify
from adapterkit.cli.app import app
from adapterkit.errors import CompositionError, OutputError
from tests.compose.worlds import close, merged_deltas, summed


@pytest.fixture
def composition_file(world, tmp_path):
    def write(text):
        places = {name: str(world.path(name)) for name in ("a", "b", "c", "neck", "neck-2")}
        for name, place in places.items():
            text = text.replace(f"@{name}@", place)
        (tmp_path / "composition.yaml").write_text(text)
        return tmp_path / "composition.yaml"

    return write


WEIGHTED = "weighted: {members: {a: @a@, b: @b@}, weights: {a: 0.7, b: 0.3}, head: b}"


def test_a_saved_sum_is_an_ordinary_artifact(world, tmp_path, composition_file):
    out = compose.save(composition_file(WEIGHTED), tmp_path / "out", backbone=world.backbone)
    assert verify(out, world.backbone).ok
    close(merged_deltas(out, world.backbone), summed((0.7, world.deltas("a")), (0.3, world.deltas("b"))))
    manifest = open_artifact(out).manifest
    assert manifest.labels == ("left", "right")
    assert manifest.data.source == "composed of a, b"
    assert manifest.metrics == {}
    assert len(manifest.golden.rows) == 4
    assert {row.row["text"] for row in manifest.golden.rows} == {f"sentence {n} of b" for n in range(4)}


def test_the_manifest_names_the_members_by_digest(world, tmp_path, composition_file):
    out = compose.save(composition_file(WEIGHTED), tmp_path / "out", backbone=world.backbone)
    facts = open_artifact(out).manifest.composition
    assert facts.how == "exact"
    assert facts.head == "b"
    assert facts.error is None
    assert [(m.name, m.weight, m.sha256) for m in facts.members] == [
        ("a", 0.7, world.find("a").manifest.sha256),
        ("b", 0.3, world.find("b").manifest.sha256),
    ]
    card = (out / "README.md").read_text()
    assert world.find("a").manifest.sha256[:12] in card
    assert "composed for the frozen backbone" in card


def test_no_path_of_this_machine_is_saved(world, tmp_path):
    composition = compose.weighted({str(world.path("a")): 0.7, str(world.path("c")): 0.3}, how="svd", rank=2)
    out = compose.save(composition, tmp_path / "out", backbone=world.backbone)
    backbone = json.dumps(str(world.backbone.name))
    manifest = (out / "adapterkit.json").read_text().replace(backbone, "")
    assert str(world.folder) not in manifest
    facts = open_artifact(out).manifest.composition
    assert (facts.how, facts.rank, [m.name for m in facts.members]) == ("svd", 2, ["a", "c"])
    assert 0 < facts.error < 1


@pytest.mark.parametrize(
    "composition",
    [
        WEIGHTED,
        "weighted: {members: {a: @a@, c: @c@}, weights: {a: 1, c: 1}, how: dare, density: 0.5, rank: 2, seed: 3}",
        "average: {members: {x: @neck@, y: @neck-2@}}",
    ],
)
def test_composing_twice_gives_equal_bytes(world, tmp_path, composition_file, composition):
    file = composition_file(composition)
    folders = [compose.save(file, tmp_path / name, backbone=world.backbone) for name in ("one", "two")]
    first, second = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert first == second


def test_an_averaged_bottleneck_is_saved_with_the_head_of_its_choice(world, tmp_path, composition_file):
    file = composition_file("average: {members: {x: @neck@, y: @neck-2@}, head: y}")
    out = compose.save(file, tmp_path / "out", backbone=world.backbone)
    assert verify(out, world.backbone).ok
    with load(out, world.backbone) as adapted:
        state = adapted.state()
    first, second = world.find("neck").state, world.find("neck-2").state
    name = "base_model.model.bert.encoder.layer.0.output.dense.bottleneck_up.weight"
    torch.testing.assert_close(state[name], (first[name] + second[name]) / 2, rtol=0, atol=1e-7)
    assert torch.equal(state["base_model.model.classifier.weight"], second["base_model.model.classifier.weight"])


def test_a_composition_can_be_exported(world, tmp_path, composition_file):
    file = composition_file("weighted: {members: {a: @a@, b: @b@}, weights: {a: 0.7, b: 0.3}}")
    out = compose.save(file, tmp_path / "out", backbone=world.backbone)
    export(out, tmp_path / "plain")
    assert (tmp_path / "plain" / "model.safetensors").is_file()


def test_what_is_no_artifact_is_refused_with_the_way_to_use_it(world, tmp_path, composition_file):
    with pytest.raises(CompositionError, match=r"a stack is no artifact(.|\n)*host\.mount"):
        compose.save(composition_file("stack: {members: {a: @a@, b: @b@}}"), tmp_path / "out")
    text = "weighted: {members: {a: @a@, b: @b@}, weights: {a: 1, b: 1}, heads: [a, b]}"
    with pytest.raises(CompositionError, match="several heads are no artifact"):
        compose.save(composition_file(text), tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(OutputError):
        compose.save(composition_file(WEIGHTED), tmp_path / "out", backbone=world.backbone)


def test_a_head_that_reads_the_encoder_alone(tmp_path, tiny_backbones):
    """T5's token classifier has no decoder, so what the other member does there cannot reach it."""
    from adapterkit.adapted import build
    from adapterkit.recipe import LoraMethod, TaskSettings
    from adapterkit.tasks.table import TASKS
    from tests.artifact.conftest import FAMILY, write
    from tests.compose.worlds import spread

    backbone = tiny_backbones["t5"]
    for kind in ("seq2seq-lm", "token-classification"):
        task = TASKS[kind].prepare(TaskSettings(kind=kind), TASKS[kind].sample_rows())
        with build(backbone, task, LoraMethod(rank=2), FAMILY, seed=0) as adapted:
            spread(adapted, seed=len(kind))
            write(tmp_path / kind, adapted, dtype="float32", golden=TASKS[kind].sample_rows())
    members = {str(tmp_path / "seq2seq-lm"): 0.5, str(tmp_path / "token-classification"): 0.5}
    for head in members:
        composition = compose.weighted(members, head=head)
        out = compose.save(composition, tmp_path / "out", backbone=backbone, overwrite=True)
        assert verify(out, backbone).ok
        found = merged_deltas(out, backbone)
        expected = summed(*((0.5, merged_deltas(tmp_path / name, backbone)) for name in members))
        reached = {path: delta for path, delta in expected.items() if head.endswith("lm") or "encoder" in path}
        close(found, reached)


# -- the command line


def run(*words):
    from typer.testing import CliRunner

    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_verb_says_what_comes_out_and_writes_it(world, tmp_path, composition_file):
    file = composition_file("weighted: {members: {a: @a@, c: @c@}, weights: {a: 0.7, c: 0.3}, how: svd, rank: 2}")
    done = run("compose", file, "--output", tmp_path / "out", "--backbone", world.backbone.folder)
    assert done.exit_code == 0, done.output
    assert "0.7·a + 0.3·c (svd, rank 2)" in done.stdout
    assert "relative error" in done.stdout
    assert "Try: adapterkit verify" in done.stderr
    assert open_artifact(tmp_path / "out").manifest.composition.rank == 2


def test_the_verb_says_of_a_stack_that_it_is_mounted(world, composition_file):
    done = run(
        "compose", composition_file("stack: {members: {a: @a@, neck: @neck@}}"), "--backbone", world.backbone.folder
    )
    assert done.exit_code == 0, done.output
    assert "A stack is mounted from its file and is no artifact." in done.stderr
    assert "a: rank-2 LoRA" in done.stdout


def test_the_verb_prints_json(world, composition_file):
    done = run("compose", composition_file(WEIGHTED), "--json", "--backbone", world.backbone.folder)
    report = json.loads(done.stdout)
    assert report["members"][0] == {"name": "a", "weight": 0.7, "sha256": world.find("a").manifest.sha256}
    assert report["artifact"] is None


def test_the_verb_names_every_mistake(composition_file):
    done = run("compose", composition_file("weighted: {members: [a], weights: {a: 1}, how: tie, rnak: 1}"))
    assert done.exit_code == 1
    assert "did you mean ties?" in done.stderr
    assert "did you mean rank?" in done.stderr


def test_export_is_a_verb(world, tmp_path):
    done = run("export", world.path("a"), tmp_path / "out", "--backbone", world.backbone.folder)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "config.json").is_file()
    done = run("export", world.path("a"), tmp_path / "peft", "--format", "peft")
    assert done.exit_code == 1
    assert "PEFT folder already" in done.stderr


def test_the_schema_of_plans_is_printed():
    assert json.loads(run("schema", "composition").stdout)["title"] == "adapterkit composition"
