"""What changes nothing, or is there in part, is refused or named: at import, mount and verify."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import torch
import transformers
from peft import IA3Config, LoraConfig, TaskType, get_peft_model
from safetensors.torch import load_file, save_file

from adapterkit.artifact import import_peft, verify
from adapterkit.artifact.convert import asked_modules
from adapterkit.errors import ArtifactError
from adapterkit.host import Host
from adapterkit.recipe import BottleneckMethod, Ia3Method, LoraMethod, NoMethod
from tests.abuse.imports import LABELS, written
from tests.artifact.conftest import make, write
from tests.laws import worlds

TENSORS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
OF_HEADS = {"task_type": TaskType.SEQ_CLS}
CONFIGS = {
    "names": LoraConfig(**OF_HEADS, r=4, target_modules=["query", "value"]),
    "pattern": LoraConfig(**OF_HEADS, r=4, target_modules=r".*\.attention\.self\.(query|value)"),
    "layers": LoraConfig(**OF_HEADS, r=4, target_modules=["query", "value"], layers_to_transform=[0, 1]),
    "excluded": LoraConfig(**OF_HEADS, r=4, target_modules=["query", "value", "dense"], exclude_modules=["dense"]),
    "ranks": LoraConfig(**OF_HEADS, r=4, target_modules=["query", "value"], rank_pattern={"layer.1.*query": 3}),
    "ia3": IA3Config(**OF_HEADS, target_modules=["query", "value"], feedforward_modules=[]),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_folders):
    """Folders that plain PEFT wrote, by case."""
    root = tmp_path_factory.mktemp("peft")
    return {case: written(tiny_folders["bert"], root / case, config) for case, config in CONFIGS.items()}


@pytest.fixture
def edited(folders, tmp_path, tiny_backbones):
    """`edited(case, keep=…, **config)`: what import says of a folder after the edit; None where it takes it."""

    def attempt(case, keep=lambda name: True, **config):
        folder = shutil.copytree(folders[case], tmp_path / "peft", dirs_exist_ok=True)
        state = {name: tensor for name, tensor in load_file(folder / TENSORS).items() if keep(name)}
        save_file(state, folder / TENSORS, {"format": "pt"})
        changed = {**json.loads((folder / CONFIG).read_text()), **config}
        (folder / CONFIG).write_text(json.dumps(changed))
        try:
            import_peft(folder, tmp_path / "out", tiny_backbones["bert"], labels=LABELS, overwrite=True)
        except ArtifactError as error:
            return str(error)
        return None

    return attempt


@pytest.mark.parametrize("case", CONFIGS)
def test_what_is_whole_is_imported(edited, case):
    assert edited(case) is None


@pytest.mark.parametrize("case", CONFIGS)
@pytest.mark.parametrize(
    ("lost", "named"),
    [
        (("query", "value"), "bert.encoder.layer.0.attention.self.query"),
        (("layer.1.",), "bert.encoder.layer.1.attention.self.query"),
        (("self.value",), "bert.encoder.layer.0.attention.self.value"),
    ],
    ids=["all", "a layer", "a site"],
)
def test_missing_tensors_are_missed(edited, case, lost, named):
    told = edited(case, keep=lambda name: not any(piece in name for piece in lost))
    assert f"{named}: no tensors, and target_modules asks for it" in told


def test_half_a_module_is_missed(edited):
    assert "missing" in edited("names", keep=lambda name: "layer.1.attention.self.query.lora_B" not in name)


@pytest.mark.parametrize("config", [{"r": 16}, {"rank_pattern": {"value": 2}}, {"rank_pattern": {".*layer.2.*": 8}}])
def test_ranks_that_contradict_the_tensors_are_refused(edited, config):
    stated = config.get("r") or next(iter(config["rank_pattern"].values()))
    assert f"rank 4, and the config says {stated}" in edited("names", **config)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", "the pattern '(': missing )"),
        ("q" * 5000, "a pattern of 5,000 characters, expected at most 4,096"),
        (r"(?:(?:\w|\.)+)+[qx]", "query: tensors, and target_modules does not ask for it"),
    ],
    ids=["none", "long", "hostile"],
)
def test_a_pattern_that_is_none_or_means_other_modules_is_refused(edited, pattern, words):
    assert words in edited("names", target_modules=pattern)


def test_a_pattern_that_takes_for_ever_is_refused(edited, monkeypatch):
    def late(*_, **given):
        raise TimeoutError

    monkeypatch.setattr(asked_modules.regex, "fullmatch", late)
    assert "takes longer than 0.5 s on the name" in edited("pattern")


STILL = {
    "lora": (LoraMethod(rank=2), "lora_B.weight", 0.0),
    "ia3": (Ia3Method(), "ia3_l", 1.0),
    "bottleneck": (BottleneckMethod(width=2), "bottleneck_up", 0.0),
    "none": (NoMethod(), "nothing", 0.0),
}


def without_effect(adapted, ending, value):
    adapted.load_state({n: torch.full_like(t, value) if ending in n else t for n, t in adapted.state().items()})


@pytest.mark.parametrize("case", STILL)
def test_a_method_that_changes_nothing_is_named_at_mount_and_verify(tmp_path, tiny_backbones, caplog, case):
    method, ending, value = STILL[case]
    backbone = tiny_backbones["bert"]
    with make(backbone, method) as adapted:
        without_effect(adapted, ending, value)
        folder = write(tmp_path / "out", adapted)
    report = verify(folder, backbone)
    assert report.ok
    with Host(backbone) as host, caplog.at_level(logging.WARNING):
        host.mount("still", folder)
    told = "changes nothing" in str(report), "changes nothing" in caplog.text
    assert told == ((False, False) if case == "none" else (True, True))  # a head alone is what `none` promises


@pytest.mark.parametrize("case", STILL)
def test_an_adapter_that_changes_nothing_at_all_is_not_verified(tmp_path, tiny_backbones, case):
    method, ending, value = STILL[case]
    backbone = tiny_backbones["llama"]
    with worlds.adapter(backbone, "causal-lm", method) as adapted:
        without_effect(adapted, ending, value)
        folder = worlds.write(tmp_path / "out", adapted, golden=[{"text": "my card was lost"}])
    failed = [check for check in verify(folder, backbone).checks if not check.ok]
    assert [check.name for check in failed] == ["tensors"]
    assert failed[0].detail.startswith("it changes nothing: ")


def test_a_head_of_zeros_is_not_verified(tmp_path, tiny_backbones):
    with make(tiny_backbones["bert"]) as adapted:
        without_effect(adapted, "classifier", 0.0)
        folder = write(tmp_path / "out", adapted)
    assert "every tensor of the head is zero" in str(verify(folder, tiny_backbones["bert"]))


def test_an_import_that_changes_nothing_is_refused(tmp_path, tiny_backbones, tiny_folders):
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_folders["llama"])
    fresh = get_peft_model(model, LoraConfig(task_type=TaskType.CAUSAL_LM, r=2, target_modules=["q_proj"]))
    fresh.save_pretrained(str(tmp_path / "peft"))
    with pytest.raises(ArtifactError, match=r"it changes nothing: lora_B\.weight is 0 everywhere"):
        import_peft(tmp_path / "peft", tmp_path / "out", tiny_backbones["llama"])
