"""Artifacts of ours in programs that know nothing of adapterkit: PEFT, transformers, onnxruntime."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from adapterkit.artifact import export
from adapterkit.artifact.convert.answering import visible
from adapterkit.recipe import BottleneckMethod, HeadSettings, Ia3Method, LoraMethod
from adapterkit.recipe.kinds import FACTS
from tests.interop.environments import MissingError, run
from tests.interop.made import FAMILY, FIRST, SPANS, TAGS, TEXT, write
from tests.interop.worlds import Result, Worlds, answers, compare

SIDE = Path(__file__).with_name("plain_side.py")
CAUSAL, SEQ2SEQ, MASKED, CHOICE = "causal-lm", "seq2seq-lm", "masked-lm", "multiple-choice"
LORA, IA3 = LoraMethod(rank=3, alpha=5.0), Ia3Method()
PATTERNS = LoraMethod(rank=2, rank_pattern={"attention.value": 5}, rslora=True)
MEAN = HeadSettings(kind="linear", pooling="mean")
LOADED: list[tuple[str, str, Any]] = [
    *((family, TEXT, LORA) for family in ("bert", "roberta", "distilbert", "modernbert", "gpt2", "llama", "qwen2")),
    *((family, TAGS, LORA) for family in ("bert", "distilbert", "gpt2")),
    *((family, SPANS, LORA) for family in ("bert", "roberta", "bart")),
    *((family, CAUSAL, LORA) for family in ("gpt2", "llama", "qwen2")),
    ("t5", SEQ2SEQ, LORA),
    ("bert", TEXT, PATTERNS),
    ("bert", TEXT, LoraMethod(rank=2, dora=True)),
    ("bert", TEXT, LoraMethod(rank=2, initialization="pissa")),
    ("bert", TEXT, IA3),
    ("llama", CAUSAL, IA3),
]
MERGED: list[tuple[str, str, Any]] = [("bert", TEXT, PATTERNS), ("gpt2", CAUSAL, LORA), ("distilbert", TAGS, IA3)]
ONNX: list[tuple[str, str, Any, HeadSettings]] = [
    ("bert", TEXT, LORA, FAMILY),
    ("roberta", TEXT, BottleneckMethod(width=3), MEAN),
    ("modernbert", TEXT, LORA, HeadSettings(kind="attention")),
    ("distilbert", TAGS, BottleneckMethod(placement="houlsby", width=3), FAMILY),
    ("bert", SPANS, LORA, FAMILY),
    ("roberta", CHOICE, BottleneckMethod(placement="parallel", width=3), FIRST),
    ("bert", CHOICE, LORA, FAMILY),
    ("bert", MASKED, LORA, FAMILY),
    ("distilbert", MASKED, BottleneckMethod(width=3), FAMILY),
    ("bert", TEXT, LORA, HeadSettings(kind="linear", pooling="mean", normalize=True)),
    ("gpt2", CAUSAL, LORA, FAMILY),
    ("llama", CAUSAL, LORA, FAMILY),
    ("t5", SEQ2SEQ, LORA, FAMILY),
]


def loads(worlds: Worlds) -> Iterator[Result]:
    """Plain PEFT loads artifacts; transformers loads merged checkpoints."""
    jobs, expected = [], {}
    for number, (family, kind, method) in enumerate([*LOADED, *MERGED]):
        merged = number >= len(LOADED)
        name = f"{family}: {method.words}, {kind}{', merged' if merged else ''} ({number})"
        folder = write(worlds, f"plain/{number}", family, kind, method, FAMILY)
        inputs, backbone = worlds.inputs(family, kind), worlds.backbone(family)
        expected[name] = answers(folder, backbone, inputs)
        if merged:
            folder = export(folder, worlds.folder / f"merged/{number}", backbone=backbone)
        jobs.append(
            {
                "name": name, "folder": str(folder), "checkpoint": str(worlds.checkpoint(family)), "inputs": inputs,
                "class": FACTS[kind].auto_class, "labels": 3 if kind in (TEXT, TAGS) else 0, "merged": merged,
                "pad": backbone.tokenizer.pad_token_id,
            }
        )  # fmt: skip
    file = worlds.folder / "plain.json"
    file.write_text(json.dumps(jobs))
    for line in (line for line in run(sys.executable, SIDE, str(file)) if line.startswith('{"name"')):
        found = json.loads(line)
        name = found["name"]
        if "error" in found:
            yield Result(name, "wrong", found["error"][:300])
        else:
            yield compare(name, [torch.tensor(each) for each in found["logits"]], expected[name], 1e-5)


def onnx_models(worlds: Worlds) -> Iterator[Result]:
    """onnxruntime answers as the adapter does, at lengths that were not traced."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingError("onnxruntime is not installed: pip install 'adapterkit[onnx]'") from error
    for number, (family, kind, method, head) in enumerate(ONNX):
        folder = write(worlds, f"onnx/{number}", family, kind, method, head)
        out = export(folder, worlds.folder / f"onnx-out/{number}", to="onnx", backbone=worlds.backbone(family))
        session = onnxruntime.InferenceSession(str(out / "model.onnx"))
        asked = {each.name for each in session.get_inputs()}
        expected, found = [], []
        inputs = worlds.inputs(family, kind)
        for row, answer in zip(inputs, answers(folder, worlds.backbone(family), inputs), strict=True):
            tensors = {name: torch.tensor(value) for name, value in row.items()}
            logits = session.run(None, {name: each.numpy() for name, each in tensors.items() if name in asked})[0]
            found.append(visible(torch.from_numpy(logits), tensors))
            expected.append(visible(answer, tensors))
        yield compare(f"{family}: {method.words}, {head.kind} head, {kind}", found, expected, 1e-5)
