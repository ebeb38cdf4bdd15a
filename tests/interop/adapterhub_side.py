"""AdapterHub's half of `interop.adapterhub`: runs in its own environment, without adapterkit.

    python adapterhub_side.py JOBS.json     # a list of jobs; what each gave is printed as one line of JSON

A job to make: a checkpoint, settings of an adapter and of its head; the folder is saved, and the logits of every input
are given back. A job to load: a checkpoint and a folder, whose logits are given back.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import adapters
import torch
import transformers
from adapters import AutoAdapterModel
from adapters.composition import Fuse

HEADS = {
    "classification": "add_classification_head",
    "tagging": "add_tagging_head",
    "question_answering": "add_qa_head",
    "multiple_choice": "add_multiple_choice_head",
    "causal_lm": "add_causal_lm_head",
    "seq2seq_lm": "add_seq2seq_lm_head",
}


def shake(model: Any, seed: int) -> None:
    """Random values for all that is not the checkpoint's, as if it had been trained."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        if any(mark in name for mark in ("adapters.", "loras.", "shared_parameters", "adapter_fusion", "heads.")):
            scale = 0.2 if parameter.dim() > 1 else 0.1
            noise = torch.randn(parameter.shape, generator=generator) * scale
            parameter.data = parameter.data + noise if "lora_B" in name and parameter.shape[-1] == 1 else noise


def answer(model: Any, inputs: list[dict[str, list[Any]]]) -> list[Any]:
    found = []
    for row in inputs:
        with torch.inference_mode():
            output = model(**{name: torch.tensor(value) for name, value in row.items()})
        if "start_logits" in output:
            logits = torch.stack([output.start_logits, output.end_logits], dim=-1)
        else:
            logits = output.logits
        found.append(logits.double().tolist())
    return found


def config_of(settings: dict[str, Any]) -> Any:
    kind = settings.pop("kind")
    return getattr(adapters, kind)(**settings)


def loaded_model(job: dict[str, Any]) -> Any:
    if "class" in job:  # one of transformers' own classes, which AdapterHub wraps
        model = getattr(transformers, job["class"]).from_pretrained(job["checkpoint"], **job.get("options", {}))
        adapters.init(model)
        return model
    return AutoAdapterModel.from_pretrained(job["checkpoint"])


def make(job: dict[str, Any]) -> list[Any]:
    torch.manual_seed(job["seed"])
    model = loaded_model(job)
    names = job.get("fuse", ["made"])
    for name in names:
        model.add_adapter(name, config=config_of(dict(job["adapter"])))
    Path(job["folder"]).parent.mkdir(parents=True, exist_ok=True)
    head = dict(job.get("head") or {})
    if "id2label" in head:
        head["id2label"] = {int(number): label for number, label in head["id2label"].items()}
    if head:
        getattr(model, HEADS[head.pop("type")])("made", **head)
    setup: Any = names[0]
    if len(names) > 1:
        setup = Fuse(*names)
        model.add_adapter_fusion(setup, job.get("fusion", "dynamic"))
    shake(model, job["seed"])
    if "class" in job:
        generator = torch.Generator().manual_seed(job["seed"])
        for part in job["trained"]:
            for parameter in model.get_submodule(part).parameters():
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    model.set_active_adapters(setup)
    if head or job.get("head"):
        model.active_head = "made"
    model.eval()
    safe = job.get("safetensors", True)
    if len(names) > 1:
        model.save_adapter_setup(job["folder"], setup, head_setup="made", use_safetensors=safe)
    else:
        with_head = bool(job.get("head")) or "class" in job
        model.save_adapter(job["folder"], names[0], with_head=with_head, use_safetensors=safe)
    return answer(model, job["inputs"])


def load(job: dict[str, Any]) -> list[Any]:
    model = loaded_model(job)
    if (Path(job["folder"]) / "adapter_setup.json").exists():
        model.load_adapter_setup(job["folder"], set_active=True, use_safetensors=True)
    else:
        name = model.load_adapter(job["folder"], set_active=True, use_safetensors=True)
        model.set_active_adapters(name)
    return answer(model.eval(), job["inputs"])


def main() -> None:
    torch.set_num_threads(1)
    for job in json.loads(Path(sys.argv[1]).read_text()):
        try:
            logits: Any = (make if job["do"] == "make" else load)(job)
            print(json.dumps({"name": job["name"], "logits": logits}), flush=True)
        except Exception as error:  # noqa: BLE001 (a job that fails is a finding)
            print(json.dumps({"name": job["name"], "error": f"{type(error).__name__}: {error}"}), flush=True)


if __name__ == "__main__":
    main()
