"""Folders of sentence-transformers and of SetFit become artifacts, and artifacts become theirs.

`make interop` tries folders that they themselves made; here the same files are written with scikit-learn, joblib and
plain PEFT, which compute what they answer.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier

from adapterkit.artifact import export, import_sentence_transformers, load, open_artifact
from adapterkit.artifact.convert.sentence.inert_pickle import read_inert
from adapterkit.errors import ArtifactError, ExportError
from adapterkit.recipe import BottleneckMethod, HeadSettings, Ia3Method, LoraMethod, NoMethod
from tests.artifact.conftest import ROWS, logits, make, write

NAMES = ["no", "perhaps", "yes"]
TEXTS = [row["text"] for row in ROWS]
NUMBERS = np.arange(len(TEXTS)) % 3
SEVERAL = np.stack([NUMBERS == 0, NUMBERS != 1, np.arange(len(TEXTS)) % 2 == 0], axis=1).astype(int)
MEAN = [("Transformer", ""), ("Pooling", "1_Pooling")]


def vectors(folder: Path, tokenizer: Any, *, model: Any = None, normalize: bool = False) -> np.ndarray[Any, Any]:
    """Means of the states of plain transformers, one text at a time."""
    model = transformers.AutoModel.from_pretrained(folder) if model is None else model
    with torch.inference_mode():
        found = [model.eval()(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in TEXTS]
    means = torch.stack(found)
    return (means / means.norm(dim=1, keepdim=True) if normalize else means).numpy()


def describe(folder: Path, modules: list[tuple[str, str]] = MEAN, **files: Any) -> None:
    """The configs that sentence-transformers writes."""
    of = [
        {"idx": n, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(of))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "mean"}))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def setfit(folder: Path, encoder: Path, head: Any, *, normalize: bool = False, labels: Any = NAMES) -> Path:
    """A folder as SetFit's `save_pretrained` leaves it."""
    shutil.copytree(encoder, folder)
    describe(folder, config_setfit={"normalize_embeddings": normalize, "labels": labels})
    joblib.dump(head, folder / "model_head.pkl")
    return folder


def shares(folder: Path, backbone: Any, *, several: bool = False) -> np.ndarray[Any, Any]:
    with load(folder, backbone) as adapted:
        found = logits(adapted, [{"text": text} for text in TEXTS]).double()
    return (found.sigmoid() if several else found.softmax(-1)).numpy()


@pytest.fixture(scope="session")
def encoded(tiny_folders: Any, tiny_backbones: Any) -> np.ndarray[Any, Any]:
    return vectors(tiny_folders["bert"], tiny_backbones["bert"].tokenizer)


@pytest.mark.parametrize(
    ("head", "wanted", "labels"),
    [
        (LogisticRegression(), NUMBERS, NAMES),
        (LogisticRegression(), np.minimum(NUMBERS, 1), ["no", "yes"]),
        (LogisticRegression(), np.array(NAMES)[NUMBERS], None),
        (LogisticRegression(), np.array(NAMES, dtype=object)[NUMBERS], None),
        (LogisticRegression(C=np.float64(9), fit_intercept=False), NUMBERS, NAMES),
        (LogisticRegression(solver="liblinear"), np.minimum(NUMBERS, 1), ["no", "yes"]),
        (OneVsRestClassifier(LogisticRegression()), SEVERAL, NAMES),
        (MultiOutputClassifier(LogisticRegression()), SEVERAL, NAMES),
    ],
)
def test_a_setfit_head_answers_with_the_probabilities_of_scikit_learn(
    tmp_path: Path, tiny_backbones: Any, tiny_folders: Any, encoded: Any, head: Any, wanted: Any, labels: Any
) -> None:
    head.fit(encoded, wanted)
    folder = setfit(tmp_path / "setfit", tiny_folders["bert"], head, labels=labels)
    out = import_sentence_transformers(folder, tmp_path / "out", tiny_backbones["bert"])
    expected = head.predict_proba(encoded)
    if isinstance(expected, list):
        expected = np.stack(expected, axis=1)[..., 1]
    assert np.abs(shares(out, tiny_backbones["bert"], several=wanted.ndim == 2) - expected).max() <= 1e-6  # float32
    assert open_artifact(out).task.labels == tuple(labels or NAMES)
    assert isinstance(open_artifact(out).manifest.method, NoMethod)


def test_setfits_vectors_of_length_1_are_so_here(
    tmp_path: Path, tiny_backbones: Any, tiny_folders: Any, encoded: Any
) -> None:
    short = vectors(tiny_folders["bert"], tiny_backbones["bert"].tokenizer, normalize=True)
    head = LogisticRegression(C=100).fit(short, NUMBERS)
    folder = setfit(tmp_path / "setfit", tiny_folders["bert"], head, normalize=True)
    out = import_sentence_transformers(folder, tmp_path / "out", tiny_backbones["bert"])
    assert open_artifact(out).manifest.head == HeadSettings(kind="linear", pooling="mean", normalize=True)
    assert np.abs(shares(out, tiny_backbones["bert"]) - head.predict_proba(short)).max() <= 1e-6  # float32


def test_an_encoder_that_setfit_trained_is_its_own_backbone_and_no_other_is_taken_for_it(
    tmp_path: Path, tiny_backbones: Any, tiny_folders: Any, encoded: Any
) -> None:
    moved = transformers.AutoModel.from_pretrained(tiny_folders["bert"])
    with torch.no_grad():
        moved.encoder.layer[0].output.dense.weight.mul_(1.01)
    encoder = Path(shutil.copytree(tiny_folders["bert"], tmp_path / "encoder"))
    moved.save_pretrained(encoder)
    folder = setfit(tmp_path / "setfit", encoder, LogisticRegression().fit(encoded, NUMBERS))
    with pytest.raises(ArtifactError, match="its encoder is not") as caught:
        import_sentence_transformers(folder, tmp_path / "out", tiny_backbones["bert"])
    assert "encoder.layer.0.output.dense.weight: other numbers" in str(caught.value)
    out = import_sentence_transformers(folder, tmp_path / "out")
    assert open_artifact(out).manifest.backbone.name == str(folder)


class Hostile:
    """Runs a function of Python's as soon as it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.what = function, arguments

    def __reduce__(self) -> Any:
        return self.what


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("where", ["alone", "in a field", "in an array"])
def test_a_head_that_would_run_code_runs_none_and_is_refused_by_name(
    tmp_path: Path, encoded: Any, protocol: int, where: str
) -> None:
    touched = tmp_path / "touched"
    evil: Any = Hostile(Path.touch, touched)
    head: Any = evil
    if where != "alone":
        head = LogisticRegression().fit(encoded, NUMBERS)
        head.classes_ = np.array([evil, 1, 2], dtype=object) if where == "in an array" else evil
    (tmp_path / "file").write_bytes(b"")
    joblib.dump(head, tmp_path / "model_head.pkl", protocol=protocol)
    raw = (tmp_path / "model_head.pkl").read_bytes()
    known = frozenset({"sklearn.linear_model._logistic.LogisticRegression"})
    with pytest.raises(ArtifactError, match="names pathlib") as caught:
        read_inert(raw, "model_head.pkl", known)
    assert "nothing in it was run" in str(caught.value)
    assert not touched.exists()


@pytest.mark.parametrize("harm", ["builtins.eval", "os.system", "builtins.getattr"])
def test_a_pickle_of_old_instructions_is_refused(harm: str) -> None:
    module, _, name = harm.rpartition(".")
    for raw in (
        f"c{module}\n{name}\n(S'1'\ntR.".encode(),
        b"\x80\x02(S'1'\ni" + f"{module}\n{name}\n.".encode(),
        b"\x80\x02(c" + f"{module}\n{name}\nS'1'\no.".encode(),
        b"\x80\x02\x82\x01.",
        b"\x80\x04\x8c\x01a\x8c\x01b\x93)\x81}b.",
    ):
        with pytest.raises(ArtifactError):
            read_inert(raw, "head", frozenset())


def test_damaged_heads_are_refused_at_every_byte(encoded: Any, tmp_path: Path) -> None:
    joblib.dump(LogisticRegression().fit(encoded, NUMBERS), tmp_path / "model_head.pkl")
    raw = (tmp_path / "model_head.pkl").read_bytes()
    known = frozenset({"sklearn.linear_model._logistic.LogisticRegression"})
    assert read_inert(raw, "head", known).state["n_features_in_"] == 32
    for end in range(0, len(raw), 7):
        with pytest.raises(ArtifactError):
            read_inert(raw[:end], "head", known)
    generator = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(raw)
        broken[generator.integers(len(raw))] = generator.integers(256)
        try:
            read_inert(bytes(broken), "head", known)
        except ArtifactError:
            continue


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (ClassifierChain(LogisticRegression()), "names sklearn.multioutput.ClassifierChain"),
        (OneVsRestClassifier(LogisticRegression()), "whose probabilities no softmax gives"),
        (torch.nn.Linear(2, 3), "names torch.nn.modules.linear.Linear"),
        ({"coef_": 1}, "it holds no classifier"),
    ],
)
def test_heads_of_another_kind_are_refused_with_the_reason(
    tmp_path: Path, tiny_folders: Any, encoded: Any, head: Any, told: str
) -> None:
    if hasattr(head, "fit"):
        head.fit(encoded, SEVERAL if isinstance(head, ClassifierChain) else NUMBERS)
    folder = setfit(tmp_path / "setfit", tiny_folders["bert"], head)
    with pytest.raises(ArtifactError, match="model_head") as caught:
        import_sentence_transformers(folder, tmp_path / "out")
    assert told in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_one_regression_for_each_class_is_refused_and_an_old_multinomial_of_two_is_read(
    tmp_path: Path, tiny_backbones: Any, tiny_folders: Any, encoded: Any
) -> None:
    head = LogisticRegression().fit(encoded, NUMBERS)
    head.multi_class = "ovr"  # a field of scikit-learn before 1.8
    with pytest.raises(ArtifactError, match="no softmax gives"):
        import_sentence_transformers(setfit(tmp_path / "ovr", tiny_folders["bert"], head), tmp_path / "out")
    head = LogisticRegression().fit(encoded, np.minimum(NUMBERS, 1))
    head.multi_class = "multinomial"
    folder = setfit(tmp_path / "two", tiny_folders["bert"], head, labels=["no", "yes"])
    out = import_sentence_transformers(folder, tmp_path / "out", tiny_backbones["bert"])
    expected = 1 / (1 + np.exp(-2 * head.decision_function(encoded)))  # softmax of (-z, z)
    assert np.abs(shares(out, tiny_backbones["bert"])[:, 1] - expected).max() <= 1e-6  # float32


@pytest.mark.parametrize(
    ("modules", "files", "told"),
    [
        ([*MEAN, ("Dense", "2_Dense")], {}, "'Dense': expected Transformer, Pooling and Normalize alone"),
        ([("Transformer", "../.."), MEAN[1]], {}, "lies outside the folder"),
        (MEAN, {"config_sentence_transformers": {"default_prompt_name": "query"}}, "a prompt is put before every text"),
        (MEAN, {"sentence_bert_config": {"do_lower_case": True}}, "lowercased"),
    ],
)
def test_vectors_that_are_made_in_another_way_are_refused(
    tmp_path: Path, tiny_folders: Any, encoded: Any, modules: Any, files: Any, told: str
) -> None:
    folder = setfit(tmp_path / "setfit", tiny_folders["bert"], LogisticRegression().fit(encoded, NUMBERS))
    describe(folder, modules, **files)
    with pytest.raises(ArtifactError, match="cannot be imported") as caught:
        import_sentence_transformers(folder, tmp_path / "out")
    assert told in str(caught.value)


def lora(folder: Path, encoder: Path, **options: Any) -> Any:
    """A LoRA on the bare trunk, in a folder as sentence-transformers leaves it."""
    fields = {"r": 3, "lora_alpha": 6, "target_modules": ["query", "value"], "task_type": "FEATURE_EXTRACTION"}
    model = get_peft_model(transformers.AutoModel.from_pretrained(encoder), LoraConfig(**{**fields, **options}))
    generator = torch.Generator().manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    describe(folder, [*MEAN, ("Normalize", "2_Normalize")], sentence_bert_config={"max_seq_length": 9})
    return model


@pytest.mark.parametrize("options", [{}, {"use_rslora": True, "rank_pattern": {"value": 5}}, {"use_dora": True}])
def test_a_lora_on_the_bare_trunk_goes_both_ways(
    tmp_path: Path, tiny_backbones: Any, tiny_folders: Any, options: dict[str, Any]
) -> None:
    backbone = tiny_backbones["bert"]
    model = lora(tmp_path / "st", tiny_folders["bert"], **options)
    expected = vectors(tiny_folders["bert"], backbone.tokenizer, model=model)
    out = import_sentence_transformers(
        tmp_path / "st", tmp_path / "out", backbone, kind="text-classification", labels=NAMES
    )
    artifact = open_artifact(out)
    assert artifact.manifest.head == HeadSettings(kind="linear", pooling="mean", normalize=True)
    assert artifact.task.settings.max_tokens == 9
    assert any(name.startswith("base_model.model.bert.encoder.") for name in artifact.state)
    with load(out, backbone) as adapted, torch.inference_mode():
        inputs = [backbone.tokenizer(text, return_tensors="pt") for text in TEXTS]
        found = torch.cat([adapted.module.vectors(dict(each)) for each in inputs])
        assert torch.allclose(found, torch.from_numpy(expected), atol=1e-6)
        assert not adapted({**inputs[0]}).any()  # its head is a new one
    if "use_dora" in options:
        with pytest.raises(ExportError, match="DoRA, whose magnitudes"):
            export(out, tmp_path / "again", to="sentence-transformers", backbone=backbone)
        return
    again = export(out, tmp_path / "again", to="sentence-transformers", backbone=backbone)
    plain = PeftModel.from_pretrained(transformers.AutoModel.from_pretrained(tiny_folders["bert"]), str(again))
    assert np.allclose(vectors(again, backbone.tokenizer, model=plain), expected, atol=1e-6)
    assert [each["type"].rpartition(".")[2] for each in json.loads((again / "modules.json").read_text())] == [
        "Transformer", "Pooling", "Normalize",
    ]  # fmt: skip
    assert json.loads((again / "sentence_bert_config.json").read_text())["max_seq_length"] == 9


def test_a_lora_without_a_head_is_a_language_models_where_the_checkpoint_has_one(
    tmp_path: Path, tiny_backbones: Any, tiny_folders: Any
) -> None:
    lora(tmp_path / "st", tiny_folders["bert"])
    out = import_sentence_transformers(tmp_path / "st", tmp_path / "out", tiny_backbones["bert"])
    assert open_artifact(out).task.kind == "masked-lm"
    lora(tmp_path / "bare", tiny_folders["bert-plain"])
    with pytest.raises(ArtifactError, match="Say what it is for: kind=text-classification"):
        import_sentence_transformers(tmp_path / "bare", tmp_path / "no", tiny_backbones["bert-plain"])


@pytest.mark.parametrize(
    ("family", "method"),
    [("roberta", Ia3Method()), ("llama", LoraMethod(rank=2)), ("bert", LoraMethod(rank=2, initialization="olora"))],
)
def test_plain_peft_has_the_trunks_states_of_what_is_written(
    tmp_path: Path, tiny_backbones: Any, tiny_folders: Any, family: str, method: Any
) -> None:
    backbone = tiny_backbones[family]
    with make(backbone, method, HeadSettings(kind="linear", pooling="mean")) as adapted:
        write(tmp_path / "ours", adapted, dtype="float32")
        inputs = dict(backbone.tokenizer(TEXTS[0], return_tensors="pt"))
        with torch.inference_mode():
            expected = adapted.module.vectors(inputs)[0]
    out = export(tmp_path / "ours", tmp_path / "out", to="sentence-transformers", backbone=backbone)
    plain = PeftModel.from_pretrained(transformers.AutoModel.from_pretrained(tiny_folders[family]), str(out))
    found = torch.from_numpy(vectors(out, backbone.tokenizer, model=plain)[0])
    assert torch.allclose(found, expected, atol=1e-5)  # sums in another order, four layers


@pytest.mark.parametrize(
    ("family", "method"), [("bert", BottleneckMethod(width=3)), ("bert", NoMethod()), ("t5", LoraMethod(rank=2))]
)
def test_what_sentence_transformers_lacks_is_refused(
    tmp_path: Path, tiny_backbones: Any, family: str, method: Any
) -> None:
    with make(tiny_backbones[family], method, HeadSettings(kind="linear", pooling="mean")) as adapted:
        write(tmp_path / "ours", adapted)
    with pytest.raises(ExportError, match="cannot be written for sentence-transformers"):
        export(tmp_path / "ours", tmp_path / "out", to="sentence-transformers", backbone=tiny_backbones[family])
    assert not (tmp_path / "out").exists()
