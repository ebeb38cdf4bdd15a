"""Plain PEFT reads what we write, and we read what plain PEFT writes, with the same answers."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
from peft import IA3Config, LoraConfig, PeftModel, TaskType, get_peft_model

import adapterkit  # noqa: F401  (registers the bottleneck with PEFT)
from adapterkit.artifact import import_peft, load, open_artifact, verify
from adapterkit.errors import ArtifactError
from adapterkit.recipe import BottleneckMethod, HeadSettings, Ia3Method, LoraMethod, NoMethod
from tests import tiny
from tests.artifact.conftest import ROWS, logits, make, write

CLASSIFIER = transformers.AutoModelForSequenceClassification
LABELS = ["no", "perhaps", "yes"]
pytestmark = pytest.mark.filterwarnings(
    # PEFT and transformers talk about heads that they initialise; that is what these tests want.
    "ignore:Some weights",
    "ignore:Found missing adapter keys",
    "ignore:Already found a `peft_config`",
    # PEFT 0.21 asks transformers 5.23 under the old name, and corrects its own default on GPT-2.
    "ignore:`is_gradient_checkpointing` is deprecated",
    "ignore:fan_in_fan_out is set to False",
)


def plain_model(folder, labels=3, model_class=CLASSIFIER):
    model = model_class.from_pretrained(folder, **({"num_labels": labels} if labels else {}))
    if getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = transformers.AutoTokenizer.from_pretrained(folder).pad_token_id
    return model.eval()


def plain_logits(model, backbone, rows=ROWS[:3]):
    with torch.inference_mode():
        batches = [backbone.tokenizer(row["text"], return_tensors="pt") for row in rows]
        found = [model(**batch) for batch in batches]
    return torch.cat([output.logits for output in found])


@pytest.mark.parametrize("family", [*tiny.FAMILIES, "bert-without-pooler"])
def test_plain_peft_loads_a_family_head_with_the_same_logits(tmp_path, tiny_backbones, tiny_folders, family):
    backbone = tiny_backbones[family]
    with make(backbone) as adapted:
        write(tmp_path / "out", adapted, dtype="float32")
        expected = logits(adapted)
    model = plain_model(tiny_folders[family])
    model.config.pad_token_id = backbone.tokenizer.pad_token_id
    plain = PeftModel.from_pretrained(model, str(tmp_path / "out")).eval()
    torch.testing.assert_close(plain_logits(plain, backbone), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "method",
    [
        NoMethod(),
        LoraMethod(rank=2, dora=True, rslora=True),
        LoraMethod(rank=2, rank_pattern={"attention.query@1": 3}, alpha_pattern={"attention.value": 2.0}),
        LoraMethod(rank=2, initialization="pissa", sites="all-linear"),
        LoraMethod(rank=2, bias="lora_only"),
        BottleneckMethod(placement="houlsby", width=3),
        BottleneckMethod(placement="parallel", width=3),
        Ia3Method(),
    ],
    ids=str,
)
def test_plain_peft_loads_every_method_with_the_same_logits(tmp_path, tiny_backbones, tiny_folders, method):
    backbone = tiny_backbones["bert"]
    with make(backbone, method) as adapted:
        write(tmp_path / "out", adapted, dtype="float32")
        expected = logits(adapted)
    plain = PeftModel.from_pretrained(plain_model(tiny_folders["bert"]), str(tmp_path / "out")).eval()
    torch.testing.assert_close(plain_logits(plain, backbone), expected, rtol=0, atol=1e-5)


def test_plain_peft_loads_the_lora_beside_an_own_head(tmp_path, tiny_backbones, tiny_folders):
    with make(tiny_backbones["bert"], head=HeadSettings(kind="linear")) as adapted:
        write(tmp_path / "out", adapted, dtype="float32")
        state = adapted.state()
    plain = PeftModel.from_pretrained(plain_model(tiny_folders["bert"]), str(tmp_path / "out"))
    found = {name.replace(".default", ""): tensor for name, tensor in plain.state_dict().items() if "lora_" in name}
    assert found
    assert all(torch.equal(tensor, state[name]) for name, tensor in found.items())


# -- the other way


def peft_folder(
    tmp_path, checkpoint, model_class=transformers.AutoModelForSequenceClassification, labels=3, **settings
):
    """A folder that plain PEFT writes, every tensor of it random, and the model that wrote it."""
    given = {"task_type": TaskType.SEQ_CLS, "r": 4, "lora_alpha": 8, "target_modules": ["query", "value"], **settings}
    return written(tmp_path, plain_model(checkpoint, labels, model_class), LoraConfig(**given))


def written(tmp_path, model, config):
    torch.manual_seed(0)
    model = get_peft_model(model, config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    model.save_pretrained(str(tmp_path / "peft"))
    return tmp_path / "peft", model


@pytest.fixture(scope="session")
def folder_once(tmp_path_factory, tiny_folders):
    return peft_folder(tmp_path_factory.mktemp("once"), tiny_folders["bert"])[0]


@pytest.fixture
def folder(folder_once, tmp_path):
    """A folder of plain PEFT on the tiny BERT, to be edited."""
    return shutil.copytree(folder_once, tmp_path / "peft")


CASES = {
    "query and value": {},
    "a regular expression": {"target_modules": r".*\.attention\.self\.(query|key)"},
    "some layers": {"layers_to_transform": [0, 2]},
    "patterns": {"rank_pattern": {"query": 3}, "alpha_pattern": {"layer.1.attention.self.value": 5}},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "bias": {"bias": "all"},
    "lora bias only": {"bias": "lora_only"},
    "gaussian": {"init_lora_weights": "gaussian"},
}


@pytest.mark.parametrize("case", CASES)
def test_an_imported_lora_gives_the_same_logits(tmp_path, tiny_backbones, tiny_folders, case):
    backbone = tiny_backbones["bert"]
    folder, model = peft_folder(tmp_path, tiny_folders["bert"], **CASES[case])
    out = import_peft(folder, tmp_path / "out", backbone, labels=LABELS)
    with load(out, backbone) as adapted:
        torch.testing.assert_close(logits(adapted), plain_logits(model, backbone), rtol=0, atol=1e-5)
    report = verify(out, backbone)
    assert report, str(report)
    assert open_artifact(out).task.labels == tuple(LABELS)


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("roberta", ["query", "value"]),
        ("distilbert", ["q_lin", "v_lin"]),
        ("gpt2", ["c_attn"]),
        ("llama", ["q_proj", "v_proj"]),
        ("qwen2", "all-linear"),
    ],
)
def test_every_family_can_be_imported(tmp_path, tiny_backbones, tiny_folders, family, targets):
    backbone = tiny_backbones[family]
    settings = {"modules_to_save": ["pre_classifier", "classifier"]} if family == "distilbert" else {}
    folder, model = peft_folder(tmp_path, tiny_folders[family], target_modules=targets, **settings)
    out = import_peft(folder, tmp_path / "out", backbone, labels=LABELS)
    model.config.pad_token_id = model.base_model.model.config.pad_token_id = backbone.tokenizer.pad_token_id
    with load(out, backbone) as adapted:
        torch.testing.assert_close(logits(adapted), plain_logits(model, backbone), rtol=0, atol=1e-5)


IA3 = {
    "bert": {},  # what PEFT takes by itself: keys, values, and what both output linears read
    "roberta": {"target_modules": ["query", "intermediate.dense"], "feedforward_modules": []},
    "gpt2": {},
    "llama": {},
    "t5": {},
    "bart": {
        "target_modules": r".*(k_proj|fc2)",
        "feedforward_modules": r".*fc2",
        "modules_to_save": ["classification_head"],
    },
}


@pytest.mark.parametrize("family", IA3)
def test_an_imported_ia3_gives_the_same_logits(tmp_path, tiny_backbones, tiny_folders, family):
    backbone = tiny_backbones[family]
    settings = {"modules_to_save": ["classification_head"], **IA3[family]} if family == "t5" else IA3[family]
    config = IA3Config(task_type=TaskType.SEQ_CLS, **settings)
    folder, model = written(tmp_path, plain_model(tiny_folders[family]), config)
    out = import_peft(folder, tmp_path / "out", backbone, labels=LABELS)
    assert open_artifact(out).manifest.method.kind == "ia3"
    assert verify(out, backbone), str(verify(out, backbone))
    with load(out, backbone) as adapted:
        torch.testing.assert_close(logits(adapted), plain_logits(model, backbone), rtol=0, atol=1e-5)


def test_a_causal_lm_is_imported_without_a_head(tmp_path, tiny_backbones, tiny_folders):
    backbone = tiny_backbones["llama"]
    folder, model = peft_folder(
        tmp_path,
        tiny_folders["llama"],
        transformers.AutoModelForCausalLM,
        labels=None,
        task_type=TaskType.CAUSAL_LM,
        target_modules=["q_proj", "v_proj"],
    )
    out = import_peft(folder, tmp_path / "out", backbone)
    artifact = open_artifact(out)
    assert artifact.manifest.kind == "causal-lm"
    assert artifact.manifest.head_tensors == ()
    assert verify(out, backbone), str(verify(out, backbone))
    ids = backbone.tokenizer("my card was lost", return_tensors="pt")
    with load(out, backbone) as adapted, torch.inference_mode():
        found = adapted(dict(ids))
        torch.testing.assert_close(found, model(**ids).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "task_type", "model_class", "labels"),
    [
        ("token-classification", TaskType.TOKEN_CLS, transformers.AutoModelForTokenClassification, LABELS),
        ("question-answering", TaskType.QUESTION_ANS, transformers.AutoModelForQuestionAnswering, None),
        ("masked-lm", None, transformers.AutoModelForMaskedLM, None),
        ("multiple-choice", None, transformers.AutoModelForMultipleChoice, None),
    ],
)
def test_every_other_kind_is_imported_with_its_head(
    tmp_path, tiny_backbones, tiny_folders, kind, task_type, model_class, labels
):
    backbone = tiny_backbones["bert"]
    heads = {"modules_to_save": ["classifier"]} if kind == "multiple-choice" else {}
    count = 3 if labels else None
    folder, model = peft_folder(tmp_path, tiny_folders["bert"], model_class, count, task_type=task_type, **heads)
    out = import_peft(folder, tmp_path / "out", backbone, kind=kind, labels=labels)
    assert verify(out, backbone), str(verify(out, backbone))
    ids = backbone.tokenizer("my card was lost", return_tensors="pt")
    if kind == "multiple-choice":
        ids = {name: tensor[None] for name, tensor in ids.items()}
    with load(out, backbone) as adapted, torch.inference_mode():
        found, expected = adapted(dict(ids)), model(**ids)
    logits = (
        torch.stack([expected.start_logits, expected.end_logits], dim=-1)
        if kind == "question-answering"
        else expected.logits
    )
    torch.testing.assert_close(found, logits, rtol=0, atol=1e-5)


def test_the_backbone_that_the_config_names_is_loaded(tmp_path, tiny_folders, folder):
    out = import_peft(folder, tmp_path / "out", labels=LABELS)
    assert open_artifact(out).manifest.backbone.name == str(tiny_folders["bert"])


def test_missing_facts_are_asked_for(tmp_path, tiny_backbones, folder):
    with pytest.raises(ArtifactError, match=r"Pass labels=\[…\] .* \(their number is one of 3\)"):
        import_peft(folder, tmp_path / "out", tiny_backbones["bert"])
    edit(folder, task_type=None)
    with pytest.raises(ArtifactError, match=r"Pass kind= one of text-classification"):
        import_peft(folder, tmp_path / "out", tiny_backbones["bert"], labels=LABELS)
    assert import_peft(
        folder, tmp_path / "out", tiny_backbones["bert"], kind="text-classification", labels=LABELS
    ).is_dir()


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({"peft_type": "LOHA"}, {}, "peft_type: found 'LOHA', expected 'LORA' or 'IA3'"),
        ({"peft_type": "IA3"}, {}, "lora_alpha: a field that IA3 does not have"),
        ({"feedforward_modules": ["value"]}, {}, "feedforward_modules: a field that LORA does not have"),
        ({"init_lora_weights": "pissa_niter_4"}, {}, "can be computed again"),
        ({"layer_replication": [[0, 2]]}, {}, "'layer_replication'"),
        ({"trainable_token_indices": [1]}, {}, "'trainable_token_indices'"),
        ({"something_new": 1}, {}, "'something_new': found 1, which adapterkit does not have"),
        ({"alpha_pattern": {"(a+)+$": 3}}, {}, "plain module names (no pattern)"),
        ({"lora_alpha": "8"}, {}, "lora_alpha: found '8', expected a number above 0"),
        ({"lora_alpha": 1e300}, {}, "lora_alpha"),
        ({}, {"kind": "causal-lm"}, "its config says SEQ_CLS (text-classification)"),
        ({}, {"kind": "poetry"}, "not a kind of task"),
        ({}, {"labels": ["a", "b"]}, "shape (3, 32), expected (2, 32)"),
        ({}, {"task": {"problem": "regression"}}, "labels: given"),
        ({}, {"task": {"mystery": 1}}, "task: mystery"),
        ({"base_model_name_or_path": None}, {"backbone": None}, "Pass backbone="),
    ],
)
def test_what_cannot_be_imported_is_refused_with_the_reason(tmp_path, tiny_backbones, folder, changes, options, words):
    edit(folder, **changes)
    given = {"backbone": tiny_backbones["bert"], "labels": LABELS, **options}
    with pytest.raises(ArtifactError) as caught:
        import_peft(folder, tmp_path / "out", **given)
    assert words in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_head_that_peft_did_not_save_is_missed(tmp_path, tiny_backbones, tiny_folders):
    """PEFT knows heads by three names, and BART's has another: it is neither trained nor saved."""
    folder, _ = peft_folder(tmp_path, tiny_folders["bart"], target_modules=["q_proj", "v_proj"])
    with pytest.raises(ArtifactError, match=r"classification_head\.dense\.weight': missing"):
        import_peft(folder, tmp_path / "out", tiny_backbones["bart"], labels=LABELS)


def test_modules_that_are_no_sites_are_refused(tmp_path, tiny_backbones, tiny_folders):
    folder, _ = peft_folder(tmp_path, tiny_folders["t5"], target_modules="all-linear")
    with pytest.raises(ArtifactError, match=r"classification_head\.dense is not a site of this backbone"):
        import_peft(folder, tmp_path / "out", tiny_backbones["t5"], labels=LABELS)


def test_a_choice_of_modules_that_no_recipe_can_say_is_refused(tmp_path, tiny_backbones, tiny_folders):
    targets = r"bert\.encoder\.layer\.(0\.attention\.self\.query|1\.attention\.self\.value)"
    folder, _ = peft_folder(tmp_path, tiny_folders["bert"], target_modules=targets)
    with pytest.raises(ArtifactError, match="not adapted, though its site and its layer are adapted elsewhere"):
        import_peft(folder, tmp_path / "out", tiny_backbones["bert"], labels=LABELS)


def test_a_pickled_folder_is_refused(tmp_path, tiny_backbones, folder):
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(ArtifactError, match="can run code when it is read"):
        import_peft(folder, tmp_path / "out", tiny_backbones["bert"], labels=LABELS)


def edit(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
