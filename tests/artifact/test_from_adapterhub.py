"""AdapterHub's folders become artifacts with the same answers.

`make interop` tries folders that AdapterHub itself made; here they are written by hand, and what they answer is
computed by its equations on plain transformers.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from adapterkit.artifact import import_adapterhub, load
from adapterkit.errors import ArtifactError
from tests.artifact.conftest import ROWS, logits

D = 32
BOTTLENECK: dict[str, Any] = {
    "mh_adapter": False, "output_adapter": True, "reduction_factor": 8, "non_linearity": "relu",
    "original_ln_before": True, "original_ln_after": True, "ln_before": False, "ln_after": False, "scaling": 1.0,
}  # fmt: skip
LORA: dict[str, Any] = {"architecture": "lora", "r": 2, "alpha": 6, "attn_matrices": ["q", "v"]}
HEAD = {"head_type": "classification", "num_labels": 2, "layers": 1, "activation_function": "tanh", "use_pooler": False}
LABELS = {"no": 0, "yes": 1}
generator = torch.Generator().manual_seed(3)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator) * 0.2


def write(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], head: dict[str, Any] | None = None) -> Path:
    """A folder as AdapterHub's `save_adapter` leaves it, with a head of one linear."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"config": config, "name": "a", "model_name": "somewhere"}))
    save_file(tensors, folder / "adapter.safetensors")
    settings = {**HEAD, "label2id": LABELS, **(head or {})}
    (folder / "head_config.json").write_text(
        json.dumps({"config": settings, "name": "a", "model_class": "BertAdapterModel"})
    )
    save_file({"heads.a.1.weight": noise(2, D), "heads.a.1.bias": noise(2)}, folder / "model_head.safetensors")
    return folder


def bottlenecks(prefix: str = "bert.encoder.layer.{}.output", layers: int = 3, width: int = 4) -> dict[str, Tensor]:
    shapes = {"adapter_down.0.weight": (width, D), "adapter_down.0.bias": (width,), "adapter_up.weight": (D, width)}
    shapes["adapter_up.bias"] = (D,)
    return {f"{prefix.format(n)}.adapters.a.{end}": noise(*s) for n in range(layers) for end, s in shapes.items()}


def head_of(folder: Path) -> tuple[Tensor, Tensor]:
    from safetensors.torch import load_file

    tensors = load_file(folder / "model_head.safetensors")
    return tensors["heads.a.1.weight"], tensors["heads.a.1.bias"]


def found_and_states(folder: Path, out: Path, backbone: Any, model: Any, place: int) -> tuple[Tensor, Tensor]:
    """What the artifact answers, and the head over a plain model's states at one place of each row."""
    import_adapterhub(folder, out, backbone)
    with load(out, backbone) as adapted:
        found = logits(adapted)
    weight, bias = head_of(folder)
    states = []
    with torch.inference_mode():
        for row in ROWS[:3]:
            states.append(model(**backbone.tokenizer(row["text"], return_tensors="pt")).last_hidden_state[:, place])
    return found, torch.cat(states) @ weight.T + bias


def adapt(model: Any, change: Callable[[int, Tensor, Tensor, Any], Tensor]) -> None:
    """Give every feed-forward of a plain BERT another end: a function of layer, h, r and the norm."""
    for number, layer in enumerate(model.encoder.layer):
        end = layer.output

        def forward(hidden: Tensor, r: Tensor, end: Any = end, number: int = number) -> Tensor:
            return change(number, end.dense(hidden), r, end.LayerNorm)

        end.forward = forward


@pytest.mark.parametrize("scaling", [1.0, 2.5, "learned", "channel"])
def test_a_sequential_bottleneck_answers_by_adapterhubs_equation(
    tmp_path: Path, tiny_backbones: Any, tiny_folders: Any, scaling: Any
) -> None:
    tensors = bottlenecks()
    if isinstance(scaling, str):
        size = D if scaling == "channel" else 1
        tensors |= {f"bert.encoder.layer.{n}.output.adapters.a.scaling": noise(size) for n in range(3)}
    folder = write(tmp_path / "in", {**BOTTLENECK, "scaling": scaling}, tensors)
    model = transformers.BertModel.from_pretrained(tiny_folders["bert"]).eval()

    def change(number: int, h: Tensor, r: Tensor, norm: Any) -> Tensor:
        down, down_bias, up, up_bias = (
            tensors[f"bert.encoder.layer.{number}.output.adapters.a.{end}"]
            for end in ("adapter_down.0.weight", "adapter_down.0.bias", "adapter_up.weight", "adapter_up.bias")
        )
        f = torch.relu(norm(h + r) @ down.T + down_bias) @ up.T + up_bias
        factor = tensors.get(f"bert.encoder.layer.{number}.output.adapters.a.scaling", scaling)
        return norm(f * factor + h + r)

    adapt(model, change)
    found, expected = found_and_states(folder, tmp_path / "out", tiny_backbones["bert"], model, 0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_compacter_is_the_sum_of_its_kronecker_products(
    tmp_path: Path, tiny_backbones: Any, tiny_folders: Any
) -> None:
    rule, tensors = noise(4, 4, 4), {}
    for number in range(3):
        start = f"bert.encoder.layer.{number}.output.adapters.a."
        for side, inputs, outputs in (("adapter_down.0", D, 4), ("adapter_up", 4, D)):
            tensors[f"{start}{side}.W_left"], tensors[f"{start}{side}.W_right"] = (
                noise(4, inputs // 4, 1),
                noise(4, 1, outputs // 4),
            )
            tensors[f"{start}{side}.b"] = noise(outputs)
    folder = write(
        tmp_path / "in", {**BOTTLENECK, "phm_layer": True}, {**tensors, "bert.shared_parameters.a.phm_rule": rule}
    )

    def linear(x: Tensor, start: str) -> Tensor:
        small = tensors[f"{start}.W_left"] @ tensors[f"{start}.W_right"]
        whole = torch.einsum("nab,nio->aibo", rule, small).reshape(x.shape[-1], -1)
        return x @ whole + tensors[f"{start}.b"]

    def change(number: int, h: Tensor, r: Tensor, norm: Any) -> Tensor:
        start = f"bert.encoder.layer.{number}.output.adapters.a."
        f = linear(torch.relu(linear(norm(h + r), f"{start}adapter_down.0")), f"{start}adapter_up")
        return norm(f + h + r)

    model = transformers.BertModel.from_pretrained(tiny_folders["bert"]).eval()
    adapt(model, change)
    found, expected = found_and_states(folder, tmp_path / "out", tiny_backbones["bert"], model, 0)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [False, True], ids=["LoRA", "IA3"])
def test_what_gpt2_makes_with_one_linear_is_adapted_matrix_by_matrix(
    tmp_path: Path, tiny_backbones: Any, tiny_folders: Any, scale: bool
) -> None:
    config = {**LORA, "r": 1, "alpha": 1, "composition_mode": "scale", "attn_matrices": ["k", "v"]} if scale else LORA
    model = transformers.GPT2Model.from_pretrained(tiny_folders["gpt2"]).eval()
    tensors = {}
    for number, block in enumerate(model.h):
        a, b = noise(4, D), noise(2 * D, 1 if scale else 2)
        start = f"transformer.h.{number}.attn.c_attn.loras.a."
        tensors |= {f"{start}lora_B": b} | ({} if scale else {f"{start}lora_A": a})
        with torch.no_grad():
            weight, bias = block.attn.c_attn.weight, block.attn.c_attn.bias  # (inputs, 3 outputs)
            if scale:
                weight[:, D:] *= b.T
                bias[D:] *= b[:, 0]
            else:
                weight[:, :D] += 3.0 * (b[:D] @ a[:2]).T
                weight[:, 2 * D :] += 3.0 * (b[D:] @ a[2:]).T
    folder = write(tmp_path / "in", config, tensors, {"bias": True})
    found, expected = found_and_states(folder, tmp_path / "out", tiny_backbones["gpt2"], model, -1)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("config", "head", "reason"),
    [
        ({**BOTTLENECK, "use_gating": True}, {}, "a gate"),
        ({**BOTTLENECK, "inv_adapter": "nice"}, {}, "invertible"),
        ({**BOTTLENECK, "ln_after": True}, {}, "layer norm of its own"),
        ({**BOTTLENECK, "residual_before_ln": "post_add"}, {}, "residual_before_ln"),
        ({**BOTTLENECK, "mh_adapter": True}, {}, "output_adapter alone"),
        ({**BOTTLENECK, "non_linearity": "prelu"}, {}, "non_linearity"),
        ({**BOTTLENECK, "from_the_future": 1}, {}, "from_the_future: a field that is not known"),
        ({"architecture": "prefix_tuning"}, {}, "prefix tuning"),
        ({"architecture": "union", "configs": [{"architecture": "lora"}]}, {}, "union of lora"),
        ({**LORA, "use_dora": True}, {}, "DoRA"),
        ({**LORA, "vera_d": 0.1}, {}, "VeRA"),
        (BOTTLENECK, {"layers": 3}, "heads have 1 or 2"),
        (BOTTLENECK, {"head_type": "dependency_parsing"}, "dependency_parsing"),
    ],
)
def test_what_has_no_place_here_is_refused_with_the_reason(
    tmp_path: Path, tiny_backbones: Any, config: dict[str, Any], head: dict[str, Any], reason: str
) -> None:
    folder = write(tmp_path / "in", config, bottlenecks(), head)
    with pytest.raises(ArtifactError, match=reason):
        import_adapterhub(folder, tmp_path / "out", tiny_backbones["bert"])
    assert not (tmp_path / "out").exists()


def test_tensors_of_another_backbone_are_refused_by_name(tmp_path: Path, tiny_backbones: Any) -> None:
    folder = write(tmp_path / "in", BOTTLENECK, bottlenecks("roberta.encoder.layer.{}.output_adapters"))
    with pytest.raises(ArtifactError, match="no place for it"):
        import_adapterhub(folder, tmp_path / "out", tiny_backbones["bert"])
    wide = write(tmp_path / "wide", BOTTLENECK, bottlenecks(layers=5))
    with pytest.raises(ArtifactError, match=r"layer\.3.*no place for it"):
        import_adapterhub(wide, tmp_path / "out", tiny_backbones["bert"])


class Shout:
    """What a pickle would build, if it were let."""

    def __reduce__(self) -> Any:
        return os.system, ("touch shouted",)


def test_a_pickle_is_read_for_tensors_and_for_nothing_else(
    tmp_path: Path, tiny_backbones: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tensors = bottlenecks()
    safe = write(tmp_path / "safe", BOTTLENECK, tensors)
    pickled = write(tmp_path / "pickled", BOTTLENECK, tensors)
    (pickled / "adapter.safetensors").unlink()
    (pickled / "model_head.safetensors").unlink()
    weight, bias = head_of(safe)
    torch.save(tensors, pickled / "pytorch_adapter.bin")
    torch.save({"heads.a.1.weight": weight, "heads.a.1.bias": bias}, pickled / "pytorch_model_head.bin")
    first = import_adapterhub(safe, tmp_path / "first", tiny_backbones["bert"])
    second = import_adapterhub(pickled, tmp_path / "second", tiny_backbones["bert"])
    assert (first / "adapter_model.safetensors").read_bytes() == (second / "adapter_model.safetensors").read_bytes()
    torch.save({"x": Shout()}, pickled / "pytorch_adapter.bin")
    with pytest.raises(ArtifactError, match=r"pytorch_adapter\.bin"):
        import_adapterhub(pickled, tmp_path / "third", tiny_backbones["bert"])
    assert not (tmp_path / "shouted").exists()
    with zipfile.ZipFile(pickled / "pytorch_adapter.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 100_000)
    with pytest.raises(ArtifactError, match="compressed"):
        import_adapterhub(pickled, tmp_path / "third", tiny_backbones["bert"])
