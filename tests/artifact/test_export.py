"""What is exported answers as the adapter does, with transformers alone."""

from __future__ import annotations

import json

import pytest
import torch
import transformers

from adapterkit import artifact as artifacts
from adapterkit.adapted import build
from adapterkit.artifact import open_artifact
from adapterkit.artifact.convert import transformers as checkpoints
from adapterkit.artifact.convert.exporting import export
from adapterkit.errors import ContractError, ExportError, MergeError, OutputError
from adapterkit.recipe import BottleneckMethod, HeadSettings, Ia3Method, LoraMethod, NoMethod, TaskSettings
from adapterkit.recipe.kinds import FACTS
from adapterkit.tasks.table import TASKS
from tests import tiny
from tests.artifact.conftest import FAMILY, ROWS, logits, make, write

LINEAR = HeadSettings(kind="linear")
METHODS = {
    "dora": LoraMethod(rank=2, dora=True, rslora=True),
    "bias": LoraMethod(rank=2, bias="all"),
    "pissa": LoraMethod(rank=2, initialization="pissa", sites="all-linear"),
    "ia3": Ia3Method(),
    "none": NoMethod(),
}


def trained(backbone, method, head=FAMILY):
    """An adapter for text classification with values of the size that training gives them."""
    adapted = make(backbone, method, head)
    calm(adapted)
    return adapted


def calm(adapted):
    """Small random values: large ones amplify every rounding in models as small as these."""
    generator = torch.Generator().manual_seed(2)
    state = sorted(adapted.state().items())
    values = {name: torch.randn(tensor.shape, generator=generator) * 0.1 for name, tensor in state}
    adapted.load_state({n: v.abs() + 1 if "magnitude" in n else v for n, v in values.items()})


def plain_logits(folder, model_class=transformers.AutoModelForSequenceClassification):
    """What transformers alone answers to the first rows, from the folder alone."""
    model = model_class.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return torch.cat([model(**tokenizer(row["text"], return_tensors="pt")).logits for row in ROWS[:3]])


@pytest.mark.parametrize("family", [*tiny.FAMILIES, "bert-without-pooler"])
def test_transformers_alone_answers_as_the_adapter(tmp_path, tiny_backbones, family):
    with trained(tiny_backbones[family], LoraMethod(rank=2, sites="all-linear")) as adapted:
        write(tmp_path / "in", adapted, dtype="float32")
        expected = logits(adapted)
    export(tmp_path / "in", tmp_path / "out")
    torch.testing.assert_close(plain_logits(tmp_path / "out"), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_that_is_a_change_of_weights_can_be_exported(tmp_path, tiny_backbones, method):
    with trained(tiny_backbones["bert"], METHODS[method]) as adapted:
        write(tmp_path / "in", adapted, dtype="float32")
        expected = logits(adapted)
    export(tmp_path / "in", tmp_path / "out", backbone=tiny_backbones["bert"])
    torch.testing.assert_close(plain_logits(tmp_path / "out"), expected, rtol=0, atol=2e-5)


KINDS = [
    ("token-classification", "bert"),
    ("question-answering", "bert"),
    ("question-answering", "llama"),
    ("multiple-choice", "roberta"),
    ("masked-lm", "distilbert"),
    ("causal-lm", "gpt2"),
    ("causal-lm", "qwen2"),
    ("seq2seq-lm", "t5"),
    ("seq2seq-lm", "bart"),
    ("token-classification", "t5"),
]


@pytest.mark.parametrize(("kind", "family"), KINDS)
def test_every_kind_can_be_exported(tmp_path, tiny_backbones, kind, family):
    backbone = tiny_backbones[family]
    task = TASKS[kind].prepare(TaskSettings(kind=kind), TASKS[kind].sample_rows())
    with build(backbone, task, LoraMethod(rank=2), FAMILY, seed=0) as adapted:
        calm(adapted)
        write(tmp_path / "in", adapted, dtype="float32", golden=TASKS[kind].sample_rows())
        features = task.encode(TASKS[kind].sample_rows()[:1], adapted.vocabulary, "score").features
        inputs = task.collate(features, adapted.vocabulary).inputs
        with torch.inference_mode():
            expected = adapted(inputs)
    export(tmp_path / "in", tmp_path / "out")
    model = getattr(transformers, FACTS[kind].auto_class).from_pretrained(tmp_path / "out").eval()
    with torch.inference_mode():
        found = model(**inputs)
    found = torch.stack([found.start_logits, found.end_logits], -1) if "start_logits" in found else found.logits
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_a_live_backbone_is_left_alone(tmp_path, saved_once, tiny_backbones):
    backbone = tiny_backbones["bert"]
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in backbone.trunk.state_dict().items()}
    export(saved_once, tmp_path / "out", backbone=backbone)
    after = backbone.trunk.state_dict()
    assert all(after[name].data_ptr() == place for name, (place, _) in before.items())
    assert all(torch.equal(after[name], value) for name, (_, value) in before.items())


def test_the_config_knows_labels_and_problem(tmp_path, saved_once):
    export(saved_once, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["id2label"] == {"0": "no", "1": "perhaps", "2": "yes"}
    assert config["label2id"] == {"no": 0, "perhaps": 1, "yes": 2}
    assert config["problem_type"] == "single_label_classification"
    assert config["architectures"] == ["BertForSequenceClassification"]
    answer = transformers.pipeline("text-classification", str(tmp_path / "out"))("a card")[0]["label"]
    assert answer in ("no", "perhaps", "yes")


def test_the_files_name_what_they_were_made_of(tmp_path, saved_once):
    export(saved_once, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert open_artifact(saved_once).manifest.sha256 in card
    assert str(tmp_path) not in card


def test_exporting_twice_gives_equal_bytes(tmp_path, saved_once):
    folders = [export(saved_once, tmp_path / name) for name in ("a", "b")]
    first, second = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert first == second


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_a_merged_trunk_alone_gives_the_adapters_states(tmp_path, tiny_backbones, family):
    backbone = tiny_backbones[family]
    with trained(backbone, LoraMethod(rank=2), LINEAR) as adapted:
        write(tmp_path / "in", adapted, dtype="float32")
        trunk = adapted.backbone.trunk
        reader = trunk.get_encoder() if family == "t5" else trunk
        batch = backbone.tokenizer("my card was lost", return_tensors="pt")
        with torch.inference_mode():
            expected = reader(**batch).last_hidden_state
    export(tmp_path / "in", tmp_path / "out", trunk_only=True)
    plain = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    with torch.inference_mode():
        found = (plain.get_encoder() if family == "t5" else plain)(**batch).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_narrow_export_is_half_the_size_and_near(tmp_path, saved_once, tiny_backbones):
    export(saved_once, tmp_path / "wide")
    export(saved_once, tmp_path / "narrow", dtype="bfloat16")
    wide, narrow = ((tmp_path / name / "model.safetensors").stat().st_size for name in ("wide", "narrow"))
    assert narrow < 0.6 * wide


# -- refusals


def test_an_own_head_is_refused_with_the_way_out(tmp_path, tiny_backbones):
    with make(tiny_backbones["bert"], head=LINEAR) as adapted:
        write(tmp_path / "in", adapted)
    with pytest.raises(ExportError, match=r"a linear head of our own(.|\n)*--trunk-only"):
        export(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bottleneck_is_refused_with_the_reason(tmp_path, tiny_backbones):
    with make(tiny_backbones["bert"], BottleneckMethod(width=2)) as adapted:
        write(tmp_path / "in", adapted)
    with pytest.raises(MergeError, match="an activation stands between its two projections"):
        export(tmp_path / "in", tmp_path / "out")


def test_an_artifact_is_a_peft_folder_already(tmp_path, saved_once):
    with pytest.raises(ExportError, match="PEFT folder already"):
        export(saved_once, tmp_path / "out", to="peft")
    with pytest.raises(ExportError, match="'tflite' is not a format"):
        export(saved_once, tmp_path / "out", to="tflite")
    with pytest.raises(ExportError, match="'int3' is not a format"):
        export(saved_once, tmp_path / "out", dtype="int3")


def test_another_backbone_is_refused(tmp_path, saved_once, tiny_folders):
    with pytest.raises(ContractError):
        export(saved_once, tmp_path / "out", backbone=tiny_folders["roberta"])


def test_what_stands_there_stays_unless_it_may_be_replaced(tmp_path, saved_once):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(OutputError):
        export(saved_once, tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "x"
    export(saved_once, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "mine").exists()


def test_a_checkpoint_that_answers_otherwise_is_never_left_behind(tmp_path, saved_once, monkeypatch):
    def spoil(place):
        real = getattr(checkpoints, place)

        def spoiled(*arguments):
            model = real(*arguments)
            with torch.no_grad():
                model.classifier.bias += 0.1
            return model

        monkeypatch.setattr(checkpoints, place, spoiled)

    spoil("_loaded")
    with pytest.raises(ExportError, match=r"than what was written\n  row 1: differs by 0.1, expected at most 1e-05"):
        export(saved_once, tmp_path / "out")
    spoil("_merged")
    with pytest.raises(ExportError, match="merged into the weights, the adapter answers otherwise"):
        export(saved_once, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_front_door_exports(tmp_path, saved_once):
    assert artifacts.export(saved_once, tmp_path / "out") == tmp_path / "out"
