from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from adapterkit.artifact import check_output, load, open_artifact, round_weights
from adapterkit.artifact.saving import KEPT, whole_modules
from adapterkit.errors import ArtifactError, OutputError
from adapterkit.recipe import BottleneckMethod, HeadSettings, Ia3Method, LoraMethod, NoMethod
from tests.artifact.conftest import FAMILY, LORA, ROWS, logits, make, write

METHODS = {
    "lora": LORA,
    "dora": LoraMethod(rank=2, dora=True),
    "ranks": LoraMethod(rank=2, rank_pattern={"attention.query": 3}, alpha_pattern={"attention.value@1": 2.5}),
    "bias": LoraMethod(rank=2, bias="lora_only"),
    "pissa": LoraMethod(rank=2, initialization="pissa"),
    "ia3": Ia3Method(sites=("attention.key", "attention.output"), inputs=("attention.output",)),
    "pfeiffer": BottleneckMethod(width=3),
    "parallel": BottleneckMethod(placement="parallel", width=3, scale_learned=True),
    "houlsby": BottleneckMethod(placement="houlsby", width=3),
    "none": NoMethod(),
}
HEADS = {"family": FAMILY, "linear": HeadSettings(kind="linear"), "mlp": HeadSettings(kind="mlp", hidden=5)}
INTERVAL = SimpleNamespace(value=0.5, low=0.25, high=0.75, how="")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("method", METHODS)
def test_a_loaded_adapter_gives_the_same_logits(tmp_path, tiny_backbones, method, head):
    backbone = tiny_backbones["bert"]
    with make(backbone, METHODS[method], HEADS[head]) as adapted:
        write(tmp_path / "out", adapted)
        expected = logits(adapted)
    with load(tmp_path / "out", backbone) as loaded:
        assert torch.equal(logits(loaded), expected)


def test_saving_twice_gives_equal_bytes(tmp_path, tiny_backbones):
    with make(tiny_backbones["bert"]) as adapted:
        first = write(tmp_path / "a", adapted)
    with make(tiny_backbones["bert"]) as adapted:
        second = write(tmp_path / "b", adapted)
    assert {p.name: p.read_bytes() for p in first.iterdir()} == {p.name: p.read_bytes() for p in second.iterdir()}


def test_a_loaded_adapter_saves_as_the_bytes_that_it_came_from(tmp_path, saved, tiny_backbones):
    with load(saved, tiny_backbones["bert"]) as loaded:
        again = write(tmp_path / "again", loaded)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == {p.name: p.read_bytes() for p in again.iterdir()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_are_rounded_in_place_before_anything_is_computed(tmp_path, tiny_backbones, dtype):
    with make(tiny_backbones["bert"]) as adapted:
        before = adapted.state()
        write(tmp_path / "out", adapted, dtype=dtype)
        expected = {name: tensor.to(getattr(torch, dtype)) for name, tensor in before.items()}
        assert all(torch.equal(tensor, expected[name].float()) for name, tensor in adapted.state().items())
        assert all(torch.equal(t, expected[name]) for name, t in open_artifact(tmp_path / "out").state.items())
        round_weights(adapted, dtype)
        assert all(torch.equal(tensor, expected[name].float()) for name, tensor in adapted.state().items())


def test_the_manifest_says_where_the_adapter_comes_from(tmp_path, tiny_backbones):
    backbone = tiny_backbones["bert"]
    recipe = {"output": "/home/me/out", "data": {"root": "/home/me"}, "backbone": {"trust_remote_code": True}}
    with make(backbone) as adapted:
        write(tmp_path / "out", adapted, recipe=recipe, metrics={"test": {"accuracy": INTERVAL}}, seed=7)
    manifest = open_artifact(tmp_path / "out").manifest
    assert manifest.kind == "text-classification"
    assert manifest.labels == ("no", "perhaps", "yes")
    assert manifest.backbone.fingerprint == backbone.fingerprint
    assert manifest.backbone.contract == backbone.contract.to_dict()
    assert manifest.metrics["test"]["accuracy"].low == 0.25
    assert manifest.seed == 7
    assert manifest.packages["torch"] == torch.__version__.partition("+")[0] or torch.__version__
    # Query and value of 3 layers of width 32 at rank 2; 3 classes with a bias. BERT's pooler is the checkpoint's.
    assert manifest.parameters.method == 2 * 3 * 2 * (32 + 32)
    assert manifest.parameters.head == 3 * 32 + 3
    assert manifest.recipe == {"output": None, "data": {"root": None}, "backbone": {"trust_remote_code": False}}
    assert manifest.version == 1
    assert manifest.parent is None
    assert "/home/me" not in "".join(path.read_text(errors="ignore") for path in (tmp_path / "out").iterdir())


def test_a_new_version_knows_its_parent_and_history(tmp_path, tiny_backbones):
    with make(tiny_backbones["bert"]) as adapted:
        for number, parent in enumerate((None, 0, 1)):
            write(tmp_path / str(number), adapted, parent=None if parent is None else tmp_path / str(parent))
    digests = [open_artifact(tmp_path / str(number)).manifest.sha256 for number in range(3)]
    newest = open_artifact(tmp_path / "2").manifest
    assert newest.version == 3
    assert newest.parent == digests[1]
    assert [(ancestor.version, ancestor.sha256) for ancestor in newest.history] == [(1, digests[0]), (2, digests[1])]


def test_weights_that_are_not_finite_are_not_saved_and_nothing_is_written(tmp_path, tiny_backbones):
    with make(tiny_backbones["bert"]) as adapted:
        with torch.no_grad():
            next(iter(adapted.head_parameters().values())).fill_(float("nan"))
        with pytest.raises(ArtifactError):
            write(tmp_path / "out", adapted)
    assert list(tmp_path.iterdir()) == []


def test_values_beyond_the_range_of_float16_are_not_saved(tmp_path, tiny_backbones):
    with make(tiny_backbones["bert"]) as adapted:
        with torch.no_grad():
            next(iter(adapted.head_parameters().values())).fill_(1e6)
        with pytest.raises(ArtifactError):
            write(tmp_path / "out", adapted, dtype="float16")


def test_an_existing_artifact_is_replaced_only_when_asked(saved, tiny_backbones):
    with make(tiny_backbones["bert"]) as adapted:
        with pytest.raises(OutputError, match="exists"):
            write(saved, adapted)
        write(saved, adapted, seed=5, overwrite=True)
    assert open_artifact(saved).manifest.seed == 5


def test_the_runs_journal_stays_beside_the_artifact(tmp_path, tiny_backbones):
    out = tmp_path / "out"
    (out / "training").mkdir(parents=True)
    (out / "training" / "journal.jsonl").write_text("{}")
    check_output(out, keep=KEPT)
    with make(tiny_backbones["bert"]) as adapted:
        write(out, adapted)
        write(out, adapted, overwrite=True)
    assert (out / "training" / "journal.jsonl").read_text() == "{}"
    assert open_artifact(out)


def test_the_peft_config_holds_names_and_no_pattern(saved):
    config = json.loads((saved / "adapter_config.json").read_text())
    assert config["target_modules"] == sorted(
        f"bert.encoder.layer.{layer}.attention.self.{name}" for layer in range(3) for name in ("query", "value")
    )
    assert config["modules_to_save"] == ["classifier"]
    assert config["task_type"] == "SEQ_CLS"
    assert config["peft_type"] == "LORA"
    assert config["r"] == 2


@pytest.mark.parametrize(
    ("parameters", "trained", "expected"),
    [
        (["bert.a.w", "classifier.w", "classifier.b"], ["classifier.w", "classifier.b"], ["classifier"]),
        (["t.a.w", "c.dense.w", "c.out.w"], ["c.dense.w", "c.out.w"], ["c"]),
        (["b.enc.w", "b.pooler.dense.w", "c.w"], ["b.pooler.dense.w", "c.w"], ["b.pooler", "c"]),
        (["cls.tied.w", "cls.bias", "cls.transform.w"], ["cls.bias", "cls.transform.w"], ["cls.transform"]),
        (["a.w"], [], []),
    ],
)
def test_modules_to_save_are_the_largest_that_are_trained_whole(parameters, trained, expected):
    assert whole_modules(parameters, trained) == expected


def test_golden_rows_are_the_same_in_whatever_order_the_rows_come(tmp_path, tiny_backbones):
    with make(tiny_backbones["bert"]) as adapted:
        write(tmp_path / "a", adapted)
        write(tmp_path / "b", adapted, golden=ROWS[::-1])
    first, second = (open_artifact(tmp_path / name).manifest.golden for name in "ab")
    assert first == second
    assert len(first.rows) == 4
