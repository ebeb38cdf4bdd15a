"""A flat LoRA answers in plain PEFT as the adapter does, and holds nothing that other loaders would have to look at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from adapterkit.artifact import export, open_artifact
from adapterkit.artifact.convert import flat
from adapterkit.artifact.convert.flat import SERVERS
from adapterkit.artifact.lowrank import LowRank
from adapterkit.errors import ExportError
from adapterkit.recipe import BottleneckMethod, HeadSettings, Ia3Method, LoraMethod, NoMethod, TaskSettings
from adapterkit.tasks.table import TASKS
from tests import tiny
from tests.artifact.conftest import FAMILY, logits, make, write
from tests.artifact.test_with_peft import CLASSIFIER, plain_logits, plain_model, pytestmark  # noqa: F401

METHODS: dict[str, Any] = {
    "rsLoRA": LoraMethod(rank=3, alpha=5.0, rslora=True),
    "patterns": LoraMethod(
        rank=2,
        alpha=3.0,
        sites=("attention.query", "attention.value"),
        rank_pattern={"attention.value": 5},
        alpha_pattern={"attention.value": 7.0},
        rslora=True,
    ),
    "one layer, value alone": LoraMethod(rank=2, alpha=9.0, layers=(1,), sites=("attention.value",)),
    "PiSSA": LoraMethod(rank=2, alpha=2.0, initialization="pissa"),
    "every linear": LoraMethod(rank=4, alpha=2.0, sites="all-linear"),
}


def spoken_alone(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    return json.loads((folder / "adapter_config.json").read_text()), load_file(folder / "adapter_model.safetensors")


def check_flat(folder: Path) -> None:
    """What a loader needs that looks at nothing but ranks and at one alpha."""
    config, tensors = spoken_alone(folder)
    assert not {"use_rslora", "rank_pattern", "alpha_pattern", "layers_to_transform", "use_dora"} & set(config)
    assert config["r"] == config["lora_alpha"]
    ranks = {tensor.shape["lora_B" in name] for name, tensor in tensors.items() if "lora_" in name}
    assert ranks == {config["r"]}
    adapted = {name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in tensors if "lora_" in name}
    assert adapted == set(config["target_modules"])


JOINED = {"modernbert", "gpt2"}
"""Families in which one linear makes queries, keys and values."""


@pytest.mark.parametrize(
    ("family", "name"),
    [
        (family, name)
        for family in tiny.FAMILIES
        for name, method in METHODS.items()
        if family not in JOINED or "attention.value" not in method.sites
    ],
)
def test_plain_peft_answers_as_the_adapter(
    tmp_path: Path, tiny_backbones: Any, tiny_folders: Any, family: str, name: str
) -> None:
    backbone = tiny_backbones[family]
    with make(backbone, METHODS[name]) as adapted:
        write(tmp_path / "in", adapted, dtype="float32")
        expected = logits(adapted)
    folder = export(tmp_path / "in", tmp_path / "out", to="peft", flat=True, backbone=backbone)
    check_flat(folder)
    model = plain_model(tiny_folders[family])
    model.config.pad_token_id = backbone.tokenizer.pad_token_id
    plain = PeftModel.from_pretrained(model, str(folder)).eval()
    far = (plain_logits(plain, backbone) - expected).abs().max() / expected.abs().max().clamp(min=1)
    assert float(far) <= 1e-5


def test_queries_keys_and_values_come_together_and_every_layer_has_them(tmp_path: Path, tiny_backbones: Any) -> None:
    with make(tiny_backbones["llama"], METHODS["one layer, value alone"]) as adapted:
        write(tmp_path / "in", adapted, dtype="float32")
    config, tensors = spoken_alone(
        export(tmp_path / "in", tmp_path / "out", to="peft", flat=True, backbone=tiny_backbones["llama"])
    )
    layers = tiny_backbones["llama"].config.num_hidden_layers
    assert config["target_modules"] == [
        f"model.layers.{layer}.self_attn.{letter}_proj" for layer in range(layers) for letter in "qkv"
    ]
    changing = {name for name, tensor in tensors.items() if "lora_B" in name and tensor.any()}
    assert changing == {"base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"}


def test_a_head_of_our_own_is_left_out_and_the_card_says_so(tmp_path: Path, tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    with make(backbone, METHODS["rsLoRA"], HeadSettings(kind="linear")) as adapted:
        write(tmp_path / "in", adapted, dtype="float32")
    folder = export(tmp_path / "in", tmp_path / "out", to="peft", flat=True, backbone=backbone)
    config, tensors = spoken_alone(folder)
    assert all("lora_" in name for name in tensors)
    assert config["modules_to_save"] is None
    assert "linear head is not here" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (LoraMethod(rank=2, dora=True), "magnitudes"),
        (LoraMethod(rank=2, bias="all"), "biases"),
        (BottleneckMethod(width=4), "bottleneck"),
        (Ia3Method(), "ia3"),
        (NoMethod(), "none"),
    ],
)
def test_what_is_no_sum_of_updates_is_refused(tmp_path: Path, tiny_backbones: Any, method: Any, reason: str) -> None:
    with make(tiny_backbones["bert"], method) as adapted:
        write(tmp_path / "in", adapted)
    with pytest.raises(ExportError, match=reason):
        export(tmp_path / "in", tmp_path / "out", to="peft", flat=True, backbone=tiny_backbones["bert"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("server", SERVERS)
def test_a_causal_adapter_is_written_for_every_server_at_a_rank_that_it_takes(
    tmp_path: Path, tiny_backbones: Any, server: Any
) -> None:
    backbone = tiny_backbones["llama"]
    task = TASKS["causal-lm"].prepare(TaskSettings(kind="causal-lm"), [{"text": "some words"}])
    with writer(backbone, task) as adapted:
        write(tmp_path / "in", adapted, dtype="float32", golden=[{"text": "some words of a sentence"}])
    folder = export(tmp_path / "in", tmp_path / "out", to="peft", flat=True, server=server, backbone=backbone)
    check_flat(folder)
    ranks = SERVERS[server].ranks
    assert spoken_alone(folder)[0]["r"] == (8 if ranks else 3)
    assert "```bash" in (folder / "README.md").read_text()


def writer(backbone: Any, task: Any) -> Any:
    from adapterkit.adapted import build
    from tests.artifact.conftest import shake

    adapted = build(backbone, task, METHODS["rsLoRA"], FAMILY, seed=0)
    shake(adapted)
    return adapted


def test_servers_name_what_they_do_not_take(tmp_path: Path, tiny_backbones: Any) -> None:
    backbone = tiny_backbones["bert"]
    with make(backbone) as adapted:
        write(tmp_path / "family", adapted)
    with make(backbone, head=HeadSettings(kind="linear")) as adapted:
        write(tmp_path / "own", adapted)

    def refused(name: str, server: Any) -> str:
        with pytest.raises(ExportError) as error:
            export(tmp_path / name, tmp_path / "out", to="peft", flat=True, server=server, backbone=backbone)
        return str(error.value)

    assert "SGLang serves LoRA for causal-lm" in refused("family", "sglang")
    assert "vLLM reads one linear called score or classifier" in refused("own", "vllm")
    assert not (tmp_path / "out").exists()


def test_a_rank_above_the_servers_is_refused(
    tmp_path: Path, tiny_backbones: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SERVERS, "vllm", flat.LoraServer("vLLM", (1,), ("SEQ_CLS",), ""))  # type: ignore[arg-type]
    with make(tiny_backbones["llama"]) as adapted:
        write(tmp_path / "in", adapted)
    with pytest.raises(ExportError, match="at most 1, and this LoRA has 2"):
        export(tmp_path / "in", tmp_path / "out", to="peft", flat=True, server="vllm", backbone=tiny_backbones["llama"])


def test_a_folder_that_answers_otherwise_is_not_written(
    tmp_path: Path, tiny_backbones: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(tiny_backbones["bert"], METHODS["rsLoRA"]) as adapted:
        write(tmp_path / "in", adapted, dtype="float32")
    right = flat.updates_of

    def wrong(*given: Any) -> Any:
        return {site: LowRank(update.a, 1.01 * update.b) for site, update in right(*given).items()}

    monkeypatch.setattr(flat, "updates_of", wrong)
    with pytest.raises(ExportError, match="plain PEFT answers otherwise"):
        export(tmp_path / "in", tmp_path / "out", to="peft", flat=True, backbone=tiny_backbones["bert"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"to": "peft"}, "a PEFT folder already"),
        ({"to": "transformers", "flat": True}, "flat: belongs to peft"),
        ({"to": "peft", "flat": True, "server": "tgi"}, "not a server that is known"),
        ({"to": "peft", "flat": True, "trunk_only": True}, "trunk_only: belongs to transformers"),
    ],
)
def test_options_that_do_not_go_together_are_named(tmp_path: Path, saved: Path, options: Any, words: str) -> None:
    with pytest.raises(ExportError, match=words):
        export(open_artifact(saved), tmp_path / "out", **options)
