"""AdapterHub's folders become artifacts, and ours its, with the same answers. Expected logits are AdapterHub's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapterkit.artifact import export, import_adapterhub
from adapterkit.artifact.convert.adapterhub.head import HEAD_TYPES
from adapterkit.errors import AdapterkitError
from tests.interop.environments import ADAPTERHUB, python_with, run
from tests.interop.made import for_adapterhub
from tests.interop.worlds import Result, Worlds, answers, compare

NEAR = 1e-6
SIDE = Path(__file__).with_name("adapterhub_side.py")
FAMILIES = ("bert", "roberta", "distilbert", "gpt2", "t5", "bart")
LABELS = {0: "no", 1: "perhaps", 2: "yes"}
CLASSIFICATION = {"type": "classification", "num_labels": 3, "id2label": LABELS}
METHODS: dict[str, dict[str, Any]] = {
    "seq_bn": {"kind": "SeqBnConfig", "reduction_factor": 8},
    "double_seq_bn": {"kind": "DoubleSeqBnConfig", "reduction_factor": 8},
    "par_bn": {"kind": "ParBnConfig", "reduction_factor": 4},
    "scaled_par_bn": {"kind": "ParBnConfig", "reduction_factor": 4, "scaling": "learned"},
    "compacter": {"kind": "CompacterConfig", "reduction_factor": 8},
    "LoRA": {"kind": "LoRAConfig", "r": 3, "alpha": 6, "intermediate_lora": True},
    "IA3": {"kind": "IA3Config"},
}
OTHERS: dict[str, tuple[str, dict[str, Any], dict[str, Any] | None]] = {
    "compacter++": ("bert", {"kind": "CompacterPlusPlusConfig", "reduction_factor": 8}, CLASSIFICATION),
    "one layer left out": ("bert", {"kind": "SeqBnConfig", "leave_out": [1]}, CLASSIFICATION),
    "a width for each layer": (
        "bert",
        {"kind": "SeqBnConfig", "reduction_factor": {"1": 4, "default": 16}},
        CLASSIFICATION,
    ),
    "a scale for each channel": ("roberta", {"kind": "SeqBnConfig", "scaling": "channel"}, CLASSIFICATION),
    "tanh GELU": ("bert", {"kind": "SeqBnConfig", "non_linearity": "gelu_new"}, CLASSIFICATION),
    "houlsby at the feed-forward alone": ("bert", {"kind": "DoubleSeqBnConfig", "mh_adapter": False}, CLASSIFICATION),
    "the cross-attention too": ("bart", {"kind": "DoubleSeqBnConfig", "cross_adapter": True}, CLASSIFICATION),
    "LoRA on queries, keys and values": (
        "gpt2",
        {"kind": "LoRAConfig", "attn_matrices": ["q", "k", "v"], "output_lora": True},
        CLASSIFICATION,
    ),
    "the pooler's head": ("bert", METHODS["LoRA"], {**CLASSIFICATION, "layers": 1, "use_pooler": True}),
    "a head of one layer": ("distilbert", METHODS["seq_bn"], {**CLASSIFICATION, "layers": 1}),
    "tagging": ("bert", METHODS["seq_bn"], {"type": "tagging", "num_labels": 3, "id2label": LABELS}),
    "tagging on GPT-2": ("gpt2", METHODS["LoRA"], {"type": "tagging", "num_labels": 3, "id2label": LABELS}),
    "question answering": ("distilbert", METHODS["par_bn"], {"type": "question_answering"}),
    "question answering on BART": ("bart", METHODS["LoRA"], {"type": "question_answering"}),
    "multiple choice": ("bert", METHODS["IA3"], {"type": "multiple_choice", "num_choices": 2}),
    "multi-label": ("roberta", METHODS["LoRA"], {**CLASSIFICATION, "multilabel": True}),
}
CLASSES: dict[str, tuple[str, str, list[str], dict[str, Any]]] = {
    "BERT's own class": ("bert", "BertForSequenceClassification", ["classifier"], {"num_labels": 3}),
    "RoBERTa's own class": ("roberta", "RobertaForSequenceClassification", ["classifier"], {"num_labels": 3}),
    "DistilBERT's own class": (
        "distilbert",
        "DistilBertForSequenceClassification",
        ["pre_classifier", "classifier"],
        {"num_labels": 3},
    ),
    "GPT-2's language model": ("gpt2", "GPT2LMHeadModel", [], {}),
    "T5's language model": ("t5", "T5ForConditionalGeneration", [], {}),
    "BERT's masked language model": ("bert", "BertForMaskedLM", [], {}),
}
REFUSED: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "a gate": ("bert", {"kind": "SeqBnConfig", "use_gating": True}, CLASSIFICATION, "gate"),
    "invertible layers": ("bert", {"kind": "SeqBnInvConfig"}, CLASSIFICATION, "invertible"),
    "prefix tuning": (
        "bert",
        {"kind": "PrefixTuningConfig", "flat": True, "prefix_length": 2},
        CLASSIFICATION,
        "prefix tuning",
    ),
    "DoRA": ("bert", {"kind": "DoRAConfig"}, CLASSIFICATION, "DoRA"),
    "a norm before": ("bert", {"kind": "SeqBnConfig", "ln_before": True}, CLASSIFICATION, "layer norm"),
    "three layers of head": ("bert", {"kind": "SeqBnConfig"}, {**CLASSIFICATION, "layers": 3}, "1 or 2"),
    "a language model's own head": ("gpt2", METHODS["LoRA"], {"type": "causal_lm"}, "the checkpoint's"),
}


def imports(worlds: Worlds) -> Iterator[Result]:
    """AdapterHub makes, we import."""
    jobs = [dict(job, number=number) for number, job in enumerate(_jobs(worlds))]
    for job in jobs:
        job |= {"do": "make", "seed": job["number"], "folder": str(worlds.folder / "adapterhub" / str(job["number"]))}
        job["checkpoint"] = str(worlds.checkpoint(job["family"]))
        job["safetensors"] = "reason" not in job and bool(job["number"] % 4)  # the others are pickles, its default
        job["inputs"] = worlds.inputs(job["family"], _kind(job))
    for job, expected in _run(worlds, jobs, "make"):
        yield _imported(worlds, job, expected)


def exports(worlds: Worlds) -> Iterator[Result]:
    """We export, AdapterHub loads."""
    jobs, ours = [], {}
    for name, made in for_adapterhub(worlds).items():
        out = worlds.folder / "for-adapterhub" / str(len(jobs))
        backbone = worlds.backbone(made.family)
        export(made.folder, out, to="adapterhub", backbone=backbone)
        inputs = worlds.inputs(made.family, made.kind)
        ours[name] = answers(made.folder, backbone, inputs)
        jobs.append({"do": "load", "name": name, "folder": str(out), "inputs": inputs})
        jobs[-1]["checkpoint"] = str(worlds.checkpoint(made.family))
    for job, expected in _run(worlds, jobs, "load"):
        if "error" in expected:
            yield Result(job["name"], "wrong", expected["error"])
        else:
            yield compare(job["name"], ours[job["name"]], expected["logits"], NEAR)


def _jobs(worlds: Worlds) -> Iterator[dict[str, Any]]:
    for family in FAMILIES:
        for name, adapter in METHODS.items():
            yield {"name": f"{family}: {name}", "family": family, "adapter": adapter, "head": CLASSIFICATION}
    for family in ("bert", "roberta", "distilbert", "gpt2"):
        fused = {"fuse": ["one", "two"], "adapter": METHODS["seq_bn"], "head": CLASSIFICATION}
        yield {"name": f"{family}: Fuse", "family": family, **fused}
    static = {"fuse": ["one", "two"], "adapter": METHODS["double_seq_bn"], "fusion": "static", "head": CLASSIFICATION}
    yield {"name": "bert: static Fuse of Houlsby's", "family": "bert", **static}
    for name, (family, adapter, head) in OTHERS.items():
        yield {"name": f"{family}: {name}", "family": family, "adapter": adapter, "head": head}
    for name, (family, own, trained, options) in CLASSES.items():
        job = {"name": name, "family": family, "class": own, "trained": trained, "options": options}
        yield {**job, "adapter": METHODS["LoRA" if trained else "seq_bn"]}
    for name, (family, adapter, head, reason) in REFUSED.items():
        yield {"name": f"{family}: {name}", "family": family, "adapter": adapter, "head": head, "reason": reason}


def _run(worlds: Worlds, jobs: list[dict[str, Any]], name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    file = worlds.folder / f"{name}.json"
    file.write_text(json.dumps(jobs))
    lines = run(python_with("adapterhub-1.3.0", ADAPTERHUB), SIDE, str(file))
    found = [json.loads(line) for line in lines if line.startswith('{"name"')]
    yield from zip(jobs, found, strict=True)


def _kind(job: dict[str, Any]) -> str:
    if "class" in job:
        return "seq2seq-lm" if job["class"].endswith("ConditionalGeneration") else ""
    return HEAD_TYPES[job["head"]["type"]]


def _imported(worlds: Worlds, job: dict[str, Any], expected: dict[str, Any]) -> Result:
    name = job["name"]
    if "error" in expected:
        return Result(name, "wrong", f"AdapterHub: {expected['error'][:300]}")
    backbone = worlds.backbone(job["family"])
    out = worlds.folder / "imported" / str(job["number"]) / "artifact"
    labels = ["0", "1", "2"] if "class" in job and job["trained"] else None
    try:
        import_adapterhub(job["folder"], out, backbone, labels=labels)
    except AdapterkitError as error:
        expects = job.get("reason")
        told = str(error)
        right = bool(expects) and expects in told
        return Result(name, "refused" if right else "wrong", " ".join(told.split())[:300])
    if "reason" in job:
        return Result(name, "wrong", f"was imported, and should be refused ({job['reason']})")
    return compare(name, answers(out, backbone, job["inputs"]), expected["logits"], NEAR)
