"""Reads LoRAs with vLLM's own loader: its checks of the config, its parser of names, its scales.

    python vllm_side.py SOURCES JOBS.json     # a line of JSON for every job

Of vLLM these few modules are there alone. What they import of the rest, kernels and platforms, are names of nothing.
"""

from __future__ import annotations

import json
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, get_args
from unittest.mock import MagicMock

SOURCES = Path(sys.argv[1])
OWN = ("config.lora", "config.utils", "lora.lora_model", "lora.lora_weights", "lora.peft_helper", "lora.utils")


class Rest(MetaPathFinder, Loader):
    """Finds the modules that are there, and names of nothing for all others of vLLM."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package, _, rest = name.partition(".")
        if package != "vllm":
            return None
        if rest in OWN:
            return spec_from_file_location(name, SOURCES / f"{name.replace('.', '/')}.py")
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.PIN_MEMORY = False  # type: ignore[attr-defined]
        module.__getattr__ = _nothing  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is in it."""


def _nothing(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return MagicMock(name=name)


sys.meta_path.insert(0, Rest())

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from vllm.config.lora import LoRAConfig, MaxLoRARanks  # noqa: E402
from vllm.lora.lora_model import LoRAModel  # noqa: E402
from vllm.lora.peft_helper import PEFTHelper  # noqa: E402


def read(job: dict[str, Any]) -> dict[str, Any]:
    """Write what vLLM would add to every module, and the head, as tensors."""
    helper = PEFTHelper.from_local_dir(job["folder"], None)
    helper.validate_legal(LoRAConfig(max_lora_rank=job["rank"]))
    model = LoRAModel.from_local_checkpoint(
        job["folder"], set(job["linears"]), helper, lora_model_id=1, device="cpu", dtype=torch.float32
    )
    found = {}
    for name, lora in model.loras.items():
        lora.optimize()
        found[name] = lora.lora_b @ lora.lora_a
    found |= {f"{name}.weight": head.weight for name, head in model.modules_to_save.items()}
    save_file(found, job["read"])
    return {"name": job["name"], "rank": helper.r}


for one in json.loads(Path(sys.argv[2]).read_text()):
    try:
        print(json.dumps(read(one)), flush=True)
    except Exception as error:  # noqa: BLE001 (a job that fails is a finding)
        print(json.dumps({"name": one["name"], "error": f"{type(error).__name__}: {error}"}), flush=True)
print(json.dumps({"name": "ranks", "ranks": get_args(MaxLoRARanks)}))
