"""Weights in eight and in four bits: what is narrow, how far answers move, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import adapterkit as ak
from adapterkit.backbone.quantisation import linear_weights, parameter_count, plain_weight, quantised_linears
from adapterkit.errors import BackboneError, DeviceError, MergeError, RecipeError
from adapterkit.planning.hollow import hollow_backbone
from adapterkit.recipe import BackboneSettings, Ia3Method, LoraMethod
from tests.laws.worlds import adapter, batch_of, disturb, logits_of
from tests.training.worlds import recipe, train

FAMILIES = ("bert", "modernbert", "llama", "t5", "bart")
PACKAGES = {"int8": "torchao", "nf4": "bitsandbytes"}


@pytest.fixture(params=PACKAGES)
def form(request: Any) -> str:
    """How the weights are kept, where what does it is installed."""
    found = str(request.param)
    pytest.importorskip(PACKAGES[found], reason=f"{found} needs {PACKAGES[found]}")
    return found


def narrow(tiny_backbones: Any, family: str, form: str, **more: str) -> ak.Backbone:
    return ak.Backbone.load(tiny_backbones[family].folder, dtype=form, device="cpu", **more)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_linears_of_the_layers_are_narrow_and_nothing_else_is(tiny_backbones: Any, family: str, form: str) -> None:
    backbone, plain = narrow(tiny_backbones, family, form), tiny_backbones[family]
    assert backbone.quantised == form
    assert not plain.quantised
    found = {name for name, tensor in backbone.trunk.named_parameters() if type(tensor) is not nn.Parameter}
    linears = {f"{path}.weight" for path in quantised_linears(plain.trunk, plain.sites)}
    assert found == linears
    assert len(linears) >= 6 * 2
    assert not any(tensor.requires_grad for tensor in backbone.trunk.parameters())
    for name, weight in plain.trunk.named_parameters():
        if name not in found:
            assert torch.equal(backbone.trunk.get_parameter(name), weight), name
            continue
        scaled_back = plain_weight(backbone.trunk.get_submodule(name.removesuffix(".weight")))
        off = (scaled_back - weight).abs()
        if form == "int8":
            # A channel's 255 steps reach from minus its largest weight to plus it; a rounding is half of one.
            half_OI = weight.detach().abs().amax(dim=1, keepdim=True) / 127 / 2
        else:
            # Of a block's 16 levels from -1 to 1, the widest gap is between -1 and -0.696 (Dettmers et al. 2023,
            # appendix E); and the block's scale is rounded to eight bits.
            block = 32 if weight.shape[1] % 64 else 64
            largest_B = weight.detach().flatten().view(-1, block).abs().amax(dim=1, keepdim=True)
            half_OI = (largest_B * (0.304 / 2 + 0.02)).expand(-1, block).reshape(weight.shape)
        assert (off <= 1.01 * half_OI).all(), name
        assert off.any(), name
    assert backbone.fingerprint == plain.fingerprint
    assert backbone.contract == plain.contract
    assert parameter_count(backbone.trunk) == sum(parameter.numel() for parameter in plain.trunk.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_learns_on_them(tiny_backbones: Any, family: str, form: str) -> None:
    method = LoraMethod(sites="all-linear", rank=4)
    with adapter(narrow(tiny_backbones, family, form), "text-classification", method) as adapted:
        batch = batch_of(adapted)
        optimizer = torch.optim.Adam([*adapted.method_parameters().values(), *adapted.head_parameters().values()], 1e-2)
        losses = []
        for _ in range(8):
            loss = adapted.task.loss(adapted(batch.inputs), batch).mean
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_answers_and_gradients_are_those_of_the_weights_scaled_back(
    tiny_backbones: Any, family: str, form: str
) -> None:
    backbone, plain = (
        narrow(tiny_backbones, family, form),
        ak.Backbone.load(tiny_backbones[family].folder, device="cpu"),
    )
    with torch.no_grad():
        for path in quantised_linears(plain.trunk, plain.sites):
            plain.trunk.get_submodule(path).weight.copy_(plain_weight(backbone.trunk.get_submodule(path)))  # type: ignore[operator, union-attr]
    found = []
    for loaded in (backbone, plain):
        with adapter(loaded, "text-classification", LoraMethod(sites="all-linear", dora=True)) as adapted:
            disturb(adapted)
            batch = batch_of(adapted)
            loss = adapted.task.loss(adapted(batch.inputs), batch).mean
            loss.backward()
            gradients = [parameter.grad for parameter in adapted.method_parameters().values()]
            found.append([loss.detach(), *gradients])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_everything_else_has_the_compute_dtype(tiny_backbones: Any, form: str) -> None:
    backbone = narrow(tiny_backbones, "bert", form, compute_dtype="bfloat16")
    plain = [tensor for tensor in backbone.trunk.parameters() if type(tensor) is nn.Parameter]
    assert backbone.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in plain} == {torch.bfloat16}
    with adapter(backbone, "text-classification", LoraMethod()) as adapted:
        assert logits_of(adapted).isfinite().all()


def test_a_compute_dtype_beside_a_dtype_that_says_it_is_refused(tiny_backbones: Any) -> None:
    with pytest.raises(DeviceError, match="goes with int8 or nf4, and dtype is 'auto'"):
        narrow(tiny_backbones, "bert", "auto", compute_dtype="bfloat16")


def test_an_artifact_of_either_weights_verifies_on_the_other(tiny_backbones: Any, tmp_path: Path, form: str) -> None:
    backbone, plain = narrow(tiny_backbones, "bert", form), tiny_backbones["bert"]
    for name, trained_on, tried_on in (("narrow", backbone, plain), ("wide", plain, backbone)):
        wanted = recipe(tmp_path, plain, output=str(tmp_path / name))
        folder = train(wanted, backbone=trained_on).artifact
        assert ak.verify(folder, backbone=trained_on).ok
        assert ak.verify(folder, backbone=tried_on).ok


@pytest.mark.parametrize("method", [LoraMethod(), Ia3Method()], ids=["lora", "ia3"])
def test_merging_is_refused_and_changes_nothing(tiny_backbones: Mapping[str, Any], method: Any, form: str) -> None:
    with adapter(narrow(tiny_backbones, "bert", form), "text-classification", method) as adapted:
        disturb(adapted)
        before = logits_of(adapted)
        with pytest.raises(MergeError, match="quantised weights"):
            adapted.merge()
        assert torch.equal(logits_of(adapted), before)


def test_initialisations_that_split_the_weight_are_refused(tiny_backbones: Mapping[str, Any], form: str) -> None:
    with (
        pytest.raises(RecipeError, match="not quantised"),
        adapter(narrow(tiny_backbones, "bert", form), "text-classification", LoraMethod(initialization="pissa")),
    ):
        pass


def bytes_of(weight: Any) -> int:
    """What a weight takes, by the tensors that its package keeps for it."""
    if type(weight) is nn.Parameter:
        parts = [weight]
    elif hasattr(weight, "quant_state"):
        state = weight.quant_state
        parts = [weight, state.absmax, state.state2.absmax]
    else:
        parts = [weight.qdata, weight.scale, weight.zero_point]
    return sum(part.numel() * part.element_size() for part in parts)


def test_the_planner_counts_their_bytes(tiny_backbones: Mapping[str, Any], tmp_path: Path, form: str) -> None:
    backbone, plain = narrow(tiny_backbones, "bert", form), tiny_backbones["bert"]
    wanted = recipe(tmp_path, plain, backbone={"name": str(plain.folder), "dtype": form})
    planned, wide = ak.plan(wanted), ak.plan(recipe(tmp_path, plain))
    held = sum(bytes_of(tensor) for tensor in backbone.trunk.parameters())
    unused = sum(p.numel() * p.element_size() for p in plain.trunk.parameters()) - wide.memory.weights
    assert planned.memory.weights == pytest.approx(held - unused, rel=0.01)
    assert planned.memory.weights < wide.memory.weights


def test_gpt2s_linears_are_refused(tiny_backbones: Any, form: str) -> None:
    with pytest.raises(BackboneError, match="no linears that can be quantised") as caught:
        narrow(tiny_backbones, "gpt2", form)
    assert "Conv1D" in str(caught.value)


@pytest.mark.parametrize(("wanted", "module"), [("int8", "torchao.quantization"), ("nf4", "bitsandbytes.functional")])
def test_a_missing_package_is_named(
    tiny_backbones: Any, monkeypatch: pytest.MonkeyPatch, wanted: str, module: str
) -> None:
    modules = __import__("sys").modules
    monkeypatch.delitem(modules, "adapterkit.backbone.nf4", raising=False)
    monkeypatch.setitem(modules, module, None)
    with pytest.raises(BackboneError, match=f"need {PACKAGES[wanted]}"):
        narrow(tiny_backbones, "bert", wanted)


@pytest.fixture
def wide(tiny_backbones: Any, tmp_path: Path) -> Path:
    """A tiny Llama whose rows are whole blocks of 64 weights."""
    source, folder = tiny_backbones["llama"].folder, tmp_path / "wide"
    config = transformers.AutoConfig.from_pretrained(source, hidden_size=64, intermediate_size=128, head_dim=16)
    shutil.copytree(source, folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture
def stored(wide: Path, tmp_path: Path) -> Any:
    """A function that has transformers write that Llama through bitsandbytes."""
    pytest.importorskip("bitsandbytes", reason="such a checkpoint needs bitsandbytes")

    def store(**how: Any) -> Path:
        source, folder = wide, tmp_path / "stored"
        configuration = transformers.BitsAndBytesConfig(**how)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            source, quantization_config=configuration, device_map="cpu"
        )
        shutil.copytree(source, folder)
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder)
        return folder

    return store


NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}


def test_a_checkpoint_that_is_stored_in_nf4_is_what_loading_in_nf4_gives(wide: Path, stored: Any) -> None:
    found, made = (ak.Backbone.load(folder, dtype="nf4", device="cpu") for folder in (stored(**NF4), wide))
    assert found.quantised == "nf4"
    assert found.fingerprint != made.fingerprint
    answers = []
    for backbone in (found, made):
        with adapter(backbone, "text-classification", LoraMethod(sites="all-linear")) as adapted:
            disturb(adapted)
            answers.append(logits_of(adapted))
    assert torch.equal(*answers)


def test_rows_that_bitsandbytes_misreads_are_refused(tiny_backbones: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    nf4 = pytest.importorskip("adapterkit.backbone.nf4", reason="nf4 needs bitsandbytes")
    read = nf4.dequantize_4bit

    def misread(packed: Any, state: Any) -> torch.Tensor:
        """What CPUs with AVX-512 read where a block spans two rows."""
        found: torch.Tensor = read(packed, state)
        return found if state.shape[1] % state.blocksize == 0 else found.flip(0)

    monkeypatch.setattr(nf4, "dequantize_4bit", misread)
    narrow(tiny_backbones, "bert", "nf4")  # rows of 32 and 64 weights
    monkeypatch.setattr("adapterkit.backbone.quantisation.nf4_block", lambda inputs: 64)
    with pytest.raises(BackboneError, match="reads rows of 32 weights in nf4 wrongly on this CPU"):
        narrow(tiny_backbones, "bert", "nf4")


def test_the_rest_of_a_stored_checkpoint_has_the_compute_dtype(stored: Any) -> None:
    backbone = ak.Backbone.load(stored(**NF4), dtype="nf4", compute_dtype="bfloat16", device="cpu")
    assert {tensor.dtype for tensor in backbone.trunk.parameters()} == {torch.bfloat16}
    with adapter(backbone, "text-classification", LoraMethod()) as adapted:
        assert logits_of(adapted).isfinite().all()


def test_the_planner_knows_a_stored_checkpoint(stored: Any) -> None:
    hollow = hollow_backbone(BackboneSettings(name=str(stored(**NF4))), torch.float32).backbone
    assert hollow.quantised == "nf4"
    assert len(linear_weights(hollow.trunk, hollow.sites)) == 7 * 3  # of each of three layers


def test_a_stored_checkpoint_in_another_format_is_refused(stored: Any) -> None:
    folder = stored(**NF4)
    with pytest.raises(BackboneError, match="stored in nf4, and bfloat16 was asked for"):
        ak.Backbone.load(folder, dtype="bfloat16", device="cpu")
    config = json.loads((folder / "config.json").read_text())
    for change, word in (
        ({"quant_method": "gptq", "load_in_4bit": False}, "gptq"),
        ({"bnb_4bit_quant_type": "fp4"}, "fp4"),
    ):
        config["quantization_config"].update(change)
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(BackboneError, match=rf"quantised \({word}\)"):
            ak.Backbone.load(folder, device="cpu")
        config["quantization_config"].update(load_in_4bit=True)
