"""Runs where sentence-transformers and SetFit are: makes folders, or loads ours, and prints what they answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import IA3Config, LoraConfig
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Dense, Normalize, Pooling, Transformer
from setfit import SetFitHead, SetFitModel
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier

MULTI = {"one-vs-rest": OneVsRestClassifier, "multi-output": MultiOutputClassifier, "chain": ClassifierChain}


def encoder(job: dict[str, Any]) -> SentenceTransformer:
    transformer = Transformer(job["checkpoint"])
    transformer.tokenizer.pad_token = transformer.tokenizer.pad_token or transformer.tokenizer.eos_token
    width = transformer.get_word_embedding_dimension()
    modules: list[Any] = [transformer, Pooling(width, job.get("pooling", "mean"))]
    if job.get("dense"):
        modules.append(Dense(width, width))
    if job.get("normalize_module"):
        modules.append(Normalize())
    model = SentenceTransformer(modules=modules, prompts=job.get("prompts"), default_prompt_name=job.get("prompt"))
    if "lora" in job:
        fields = {"task_type": "FEATURE_EXTRACTION", **job["lora"]}
        model.add_adapter(IA3Config(**fields) if "feedforward_modules" in fields else LoraConfig(**fields))
    generator = torch.Generator().manual_seed(job["seed"])
    for name, parameter in model.named_parameters():
        if "lora_" in name or "ia3_" in name or job.get("trained"):
            parameter.data = parameter.data + 0.3 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def make(job: dict[str, Any]) -> Any:
    model = encoder(job)
    if "head" not in job:
        model.save(job["folder"])
        return model.encode(job["texts"]).tolist()
    head, labels = dict(job["head"]), job.get("labels")
    kind, several = head.pop("kind", "logistic"), head.pop("several", None)
    classifier: Any = SetFitHead(in_features=32, out_features=3) if kind == "torch" else LogisticRegression(**head)
    if several:
        classifier = MULTI[several](classifier)
    setfit = SetFitModel(
        model_body=model, model_head=classifier, labels=labels, normalize_embeddings=job.get("normalize", False)
    )
    if kind != "torch":
        texts = [f"{text} {number}" for text in job["texts"] for number in range(4)]
        answers = np.arange(len(texts)) % job["classes"]
        wanted: Any = np.stack([(answers >> n) & 1 for n in range(3)], 1) if several else answers
        setfit.fit(texts, np.array(job["names"])[wanted] if "names" in job else wanted, num_epochs=1)
    setfit.save_pretrained(job["folder"])
    return setfit.predict_proba(job["texts"]).tolist()


def load(job: dict[str, Any]) -> Any:
    return SentenceTransformer(job["folder"]).encode(job["texts"]).tolist()


for one in json.loads(Path(sys.argv[1]).read_text()):
    try:
        print(json.dumps({"name": one["name"], "found": (make if one["do"] == "make" else load)(one)}), flush=True)
    except Exception as error:  # noqa: BLE001 (a job that fails is a finding)
        print(json.dumps({"name": one["name"], "error": f"{type(error).__name__}: {error}"}), flush=True)
