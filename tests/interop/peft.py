"""Folders that plain PEFT saved become artifacts with the same answers, or are refused with the right reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import IA3Config, LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from adapterkit.artifact import import_peft
from adapterkit.errors import AdapterkitError
from adapterkit.heads.headed import logits_of
from adapterkit.recipe.kinds import FACTS
from tests.interop.worlds import Result, Worlds, answers, compare

NEAR = 1e-5
TEXT, TAGS, SPANS, CAUSAL, SEQ2SEQ = (
    "text-classification", "token-classification", "question-answering", "causal-lm", "seq2seq-lm"
)  # fmt: skip
LABELS = ["no", "perhaps", "yes"]
ENCODERS = {
    "bert": ["query", "value"],
    "roberta": ["query", "value"],
    "distilbert": ["q_lin", "v_lin"],
    "modernbert": ["Wqkv"],
}
DECODERS = {
    "gpt2": ["c_attn"],
    "llama": ["q_proj", "v_proj"],
    "qwen2": ["q_proj", "v_proj"],
    "mistral": ["q_proj", "v_proj"],
}
BOTH = {"t5": ["q", "v"], "bart": ["q_proj", "v_proj"]}


@dataclass(frozen=True)
class Case:
    """An adapter to make with PEFT.

    Attributes:
        family: of the checkpoint.
        kind: of the task.
        config: PEFT's fields; `targets` are target_modules.
        refused: the words that the refusal must hold; None where it must be imported.
        after: what is done to the folder: a name of `DAMAGE`.
        ia3: whether it is IA3 instead of LoRA.
    """

    family: str
    kind: str
    targets: Any
    config: Mapping[str, Any] = field(default_factory=dict)
    refused: str | None = None
    after: str = ""
    ia3: bool = False


def cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    every = {**ENCODERS, **DECODERS, **BOTH}
    for family, targets in every.items():
        lost = "classification_head" if family in BOTH else None  # which PEFT neither trains nor saves by itself
        found[f"{family}: LoRA, {TEXT}"] = Case(family, TEXT, targets, refused=lost)
    for family, targets in BOTH.items():
        whole = {"modules_to_save": ["classification_head"]}
        found[f"{family}: LoRA and the head, {TEXT}"] = Case(family, TEXT, targets, whole)
    for family in ("bert", "roberta", "distilbert", "modernbert", "gpt2", "llama", "qwen2", "t5"):
        found[f"{family}: LoRA, {TAGS}"] = Case(family, TAGS, every[family])
    for family in ("bert", "roberta", "distilbert", "gpt2", "bart", "t5"):
        found[f"{family}: LoRA, {SPANS}"] = Case(family, SPANS, every[family])
    for family, targets in DECODERS.items():
        found[f"{family}: LoRA, {CAUSAL}"] = Case(family, CAUSAL, targets)
    for family, targets in BOTH.items():
        found[f"{family}: LoRA, {SEQ2SEQ}"] = Case(family, SEQ2SEQ, targets)
    for family in ("bert", "roberta", "llama", "qwen2", "t5", "bart"):
        lost = "classification_head" if family in BOTH else None
        found[f"{family}: all-linear"] = Case(family, TEXT, "all-linear", refused=lost)
    for name, config in {
        "DoRA": {"use_dora": True},
        "rsLoRA": {"use_rslora": True},
        "rank and alpha by module": {"rank_pattern": {"value": 5}, "alpha_pattern": {"value": 3}},
        "biases": {"bias": "lora_only"},
        "all biases": {"bias": "all"},
        "one layer": {"layers_to_transform": [1]},
        "PiSSA, as trained": {"init_lora_weights": "pissa"},
        "OLoRA, as trained": {"init_lora_weights": "olora"},
    }.items():
        found[f"bert: {name}"] = Case("bert", TEXT, ["query", "value"], config)
    found["bert: the pooler saved whole"] = Case("bert", TEXT, ["query"], {"modules_to_save": ["pooler", "classifier"]})
    found["bert: LoRA on every dense, the pooler's too"] = Case("bert", TEXT, ["query", "value", "dense"])
    found["bert: a pattern"] = Case("bert", TEXT, r".*attention\.self\.(query|key)")
    for family, targets in {"bert": ["key", "value"], "llama": ["k_proj", "v_proj"], "gpt2": ["c_attn"]}.items():
        found[f"{family}: IA3"] = Case(family, TEXT, targets, {"feedforward_modules": []}, ia3=True)
    for name in ("unsloth", "axolotl", "llama-factory"):
        found[f"llama: a folder by {name}"] = Case("llama", CAUSAL, ["q_proj", "v_proj"], after=name)
    for name in ("module.", "_fsdp_wrapped_module."):
        found[f"llama: names with {name}"] = Case("llama", CAUSAL, ["q_proj", "v_proj"], after=name)
    found["llama: embeddings trained"] = Case(
        "llama", CAUSAL, ["q_proj"], {"modules_to_save": ["embed_tokens", "lm_head"]}, refused="embedding"
    )
    found["llama: norms trained"] = Case("llama", CAUSAL, ["q_proj"], {"modules_to_save": ["norm"]}, refused="norm")
    found["llama: LoRA on embeddings"] = Case("llama", CAUSAL, ["q_proj", "embed_tokens"], refused="embedding")
    found["llama: tokens added"] = Case("llama", CAUSAL, ["q_proj"], after="tokens", refused="token")
    found["bert: another method"] = Case("bert", TEXT, ["query"], after="method", refused="VERA")
    return found


def imports(worlds: Worlds) -> Iterator[Result]:
    for number, (name, case) in enumerate(cases().items()):
        folder = worlds.folder / "peft" / str(number)
        yield tried(worlds, name, case, folder)


def tried(worlds: Worlds, name: str, case: Case, folder: Path) -> Result:
    backbone, inputs = worlds.backbone(case.family), worlds.inputs(case.family, case.kind)
    expected = _made(worlds, case, folder, inputs)
    labels = LABELS if case.kind in (TEXT, TAGS) else None
    try:
        out = import_peft(folder, folder / "artifact", backbone, labels=labels)
    except AdapterkitError as error:
        said = " ".join(str(error).split())
        right = case.refused is not None and case.refused in said
        return Result(name, "refused" if right else "wrong", said[:400])
    if case.refused is not None:
        return Result(name, "wrong", f"was imported, and should be refused ({case.refused})")
    return compare(name, answers(out, backbone, inputs), expected, NEAR)


def _made(worlds: Worlds, case: Case, folder: Path, inputs: list[dict[str, Any]]) -> list[torch.Tensor]:
    """Let PEFT make and save the adapter; what it answers."""
    facts = FACTS[case.kind]
    labels = {"num_labels": 3} if case.kind in (TEXT, TAGS) else {}
    torch.manual_seed(0)
    checkpoint = worlds.checkpoint(case.family)
    plain = getattr(transformers, facts.auto_class).from_pretrained(checkpoint, dtype=torch.float32, **labels)
    plain.config.pad_token_id = worlds.backbone(case.family).tokenizer.pad_token_id
    config = (IA3Config if case.ia3 else LoraConfig)(
        task_type=facts.peft_type,
        target_modules=case.targets,
        **({} if case.ia3 else {"r": 4, "lora_alpha": 6}),
        **case.config,
    )
    model = get_peft_model(plain, config)
    generator = torch.Generator().manual_seed(1)
    for each, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad and (
            "lora_" in each or "ia3" in each or "modules_to_save" in each or each.endswith("bias")
        ):
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            parameter.data = parameter.data + noise if "ia3" in each or "magnitude" in each else noise
    model.eval()
    with torch.inference_mode():
        expected = [logits_of(model(**{n: torch.tensor(v) for n, v in row.items()})).float() for row in inputs]
    model.save_pretrained(str(folder))
    if case.after:
        worlds.backbone(case.family).tokenizer.save_pretrained(folder)
    _after(case.after, folder)
    return expected


def _after(what: str, folder: Path) -> None:
    """What other programs leave in a folder."""
    file, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    config = json.loads(file.read_text())
    if what == "unsloth":
        config |= {
            "unsloth_fixed": True,
            "auto_mapping": {
                "base_model_class": "LlamaForCausalLM",
                "parent_library": "transformers.models.llama.modeling_llama",
                "unsloth_fixed": True,
            },
        }
    elif what == "axolotl":
        config |= {"target_modules": sorted(config["target_modules"]), "peft_version": "0.19.0", "use_qalora": False}
        (folder / "config.yml").write_text("adapter: lora\n")
    elif what == "llama-factory":
        config |= {"lora_bias": False, "layer_replication": None}
        (folder / "trainer_log.jsonl").write_text("{}\n")
        (folder / "training_args.bin").write_bytes(b"not read")
    elif what.endswith("."):
        tensors = {
            n.replace("base_model.model.", f"base_model.model.{what}", 1): t for n, t in load_file(weights).items()
        }
        save_file(tensors, weights)
    elif what == "method":
        config["peft_type"] = "VERA"
    elif what == "tokens":
        tensors = load_file(weights)
        tensors["base_model.model.model.embed_tokens.weight"] = torch.randn(370, 32)
        save_file(tensors, weights)
    file.write_text(json.dumps(config))
