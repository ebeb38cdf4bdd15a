"""Flat LoRAs of ours in what servers read them with: llama.cpp's converter, vLLM's loader of a checkpoint.

What vLLM adds to a module has to be what PEFT adds there of the artifact before it was flat.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import Tensor, nn

from adapterkit.artifact import export
from adapterkit.artifact.convert.flat import SERVERS
from adapterkit.backbone.checkpoint import silence
from adapterkit.errors import ExportError
from adapterkit.recipe import HeadSettings, LoraMethod
from adapterkit.recipe.kinds import FACTS
from tests.interop.environments import LLAMA_CPP, VLLM, run, sources
from tests.interop.made import FAMILY, TAGS, TEXT, write
from tests.interop.worlds import Result, Worlds, compare

CAUSAL = "causal-lm"
DECODERS = ("llama", "qwen2", "mistral")
PATTERNS = LoraMethod(rank=2, rank_pattern={"attention.value": 5}, alpha_pattern={"attention.value": 7.0}, rslora=True)
METHODS: Mapping[str, Any] = {
    "rsLoRA with patterns": PATTERNS,
    "every linear": LoraMethod(rank=4, sites="all-linear"),
    "values of one layer": LoraMethod(rank=2, alpha=9.0, layers=(1,), sites=("attention.value",)),
    "PiSSA": LoraMethod(rank=2, alpha=2.0, initialization="pissa"),
}
REFUSED: Mapping[str, tuple[str, Any, HeadSettings, str]] = {
    "tagging": (TAGS, PATTERNS, FAMILY, "serves LoRA for"),
    "a head of our own": (TEXT, PATTERNS, HeadSettings(kind="mlp", pooling="last"), "one linear called score"),
    "a rank of 600": (CAUSAL, LoraMethod(rank=600), FAMILY, "a rank of at most 512"),
}
TOOLS = ("setuptools-rust==1.13.0", "setuptools-scm==10.3.4")
SIDE = Path(__file__).with_name("vllm_side.py")


def gguf(worlds: Worlds) -> Iterator[Result]:
    """llama.cpp's own converter takes flat LoRAs."""
    source = sources(LLAMA_CPP, "vendor/llama.cpp/") / "vendor" / "llama.cpp"
    converter = source / "convert_lora_to_gguf.py"
    for family in DECODERS:
        for name in ("rsLoRA with patterns", "every linear"):
            folder = write(worlds, f"gguf/{family}-{len(name)}", family, CAUSAL, METHODS[name], FAMILY)
            out = worlds.folder / "gguf-out" / f"{family}-{len(name)}"
            export(folder, out, to="peft", flat=True, server="gguf", backbone=worlds.backbone(family))
            command = [sys.executable, str(converter), "--base", str(worlds.checkpoint(family)), "--outtype", "f32"]
            done = subprocess.run(
                [*command, "--outfile", str(out / "lora.gguf"), str(out)],
                capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(source / "gguf-py")},
            )  # fmt: skip
            written = (out / "lora.gguf").exists() and not done.returncode
            size = f"{(out / 'lora.gguf').stat().st_size:,} bytes" if written else done.stderr[-300:]
            yield Result(f"{family}: {name}", "equal" if written else "wrong", size)


def vllm(worlds: Worlds) -> Iterator[Result]:
    """vLLM's own reader takes flat LoRAs, and artifacts of causal language models as they are."""
    source = sources(VLLM, "vllm/", TOOLS, VLLM_TARGET_DEVICE="empty", VLLM_VERSION_OVERRIDE=VLLM.rpartition("=")[2])
    jobs: list[dict[str, Any]] = []
    expected: dict[str, dict[str, Tensor]] = {}
    for number, (family, kind, method, flat) in enumerate(_cases()):
        name = f"{family}: {method}, {kind}{', flat' if flat else ''}"
        folder = write(worlds, f"vllm/{number}", family, kind, METHODS[method], FAMILY)
        plain = _plain(worlds.checkpoint(family), kind)
        linears = [path.rpartition(".")[2] for path, each in plain.named_modules() if isinstance(each, nn.Linear)]
        expected[name] = _added(plain, folder)
        if flat:
            out = worlds.folder / "vllm-out" / str(number)
            folder = export(folder, out, to="peft", flat=True, server="vllm", backbone=worlds.backbone(family))
        read = str(worlds.folder / f"vllm-{number}.safetensors")
        jobs.append({"name": name, "folder": str(folder), "rank": 8, "linears": linears, "read": read})
    file = worlds.folder / "vllm.json"
    file.write_text(json.dumps(jobs))
    told = {found["name"]: found for found in map(json.loads, run(sys.executable, SIDE, str(source), str(file)))}
    for job in jobs:
        if "error" in (found := told[job["name"]]):
            yield Result(job["name"], "wrong", found["error"])
        else:
            yield _same(job["name"], load_file(job["read"]), expected[job["name"]])
    ranks = set(SERVERS["vllm"].ranks) <= set(told["ranks"]["ranks"])
    yield Result("the ranks that it takes", "equal" if ranks else "wrong", str(told["ranks"]["ranks"]))
    for name, (kind, method, head, reason) in REFUSED.items():
        folder = write(worlds, f"vllm/refused-{len(name)}", "llama", kind, method, head)
        out = worlds.folder / "vllm-out" / "refused"
        try:
            export(folder, out, to="peft", flat=True, server="vllm", backbone=worlds.backbone("llama"))
        except ExportError as error:
            yield Result(name, "refused" if reason in str(error) else "wrong", " ".join(str(error).split())[:300])
        else:
            yield Result(name, "wrong", "was exported")


def _cases() -> Iterator[tuple[str, str, str, bool]]:
    for family in DECODERS:
        yield from ((family, CAUSAL, method, flat) for method in METHODS for flat in (True, False))
    yield from ((family, TEXT, method, True) for family in ("llama", "qwen2") for method in METHODS)


def _plain(checkpoint: Path, kind: str) -> Any:
    labels = {"num_labels": 3} if kind == TEXT else {}
    with silence():
        return getattr(transformers, FACTS[kind].auto_class).from_pretrained(checkpoint, dtype=torch.float32, **labels)


def _added(plain: Any, folder: Path) -> dict[str, Tensor]:
    """What plain PEFT adds to every module, and the head that it puts there."""
    model = PeftModel.from_pretrained(plain, str(folder)).get_base_model()
    found = {
        path: each.get_delta_weight("default") for path, each in model.named_modules() if isinstance(each, LoraLayer)
    }
    heads = {"score.weight": model.score.modules_to_save["default"].weight} if hasattr(model, "score") else {}
    return {name: tensor.detach().contiguous() for name, tensor in {**found, **heads}.items()}


def _same(case: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Result:
    """The same modules, and nothing but zeros at those that PEFT does not adapt."""
    if missing := sorted(set(expected) - set(found)):
        return Result(case, "wrong", f"missing: {', '.join(missing)}")
    wanted = [expected.get(name, torch.zeros_like(tensor)) for name, tensor in found.items()]
    return compare(case, list(found.values()), wanted, 1e-6)
