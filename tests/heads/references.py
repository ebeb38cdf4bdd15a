"""transformers' own model of a kind, loaded by transformers alone, with the head values of ours."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn

from adapterkit.adapted import Adapted
from adapterkit.tasks.protocol import Batch

AUTO_CLASSES = {
    "text-classification": transformers.AutoModelForSequenceClassification,
    "token-classification": transformers.AutoModelForTokenClassification,
    "question-answering": transformers.AutoModelForQuestionAnswering,
    "multiple-choice": transformers.AutoModelForMultipleChoice,
    "masked-lm": transformers.AutoModelForMaskedLM,
    "causal-lm": transformers.AutoModelForCausalLM,
    "seq2seq-lm": transformers.AutoModelForSeq2SeqLM,
}

LOSES_ITS_TRUNK = {"llama", "qwen2"}
"""Families whose question answering class calls its trunk `transformer` while a causal checkpoint calls it `model`:
`from_pretrained` finds no weight for it, and goes on with random ones and a warning."""

PROBLEMS = {
    "single-label": "single_label_classification",
    "multi-label": "multi_label_classification",
    "regression": "regression",
}


def reference(adapted: Adapted) -> Any:
    """The `AutoModelFor…` of a checkpoint, in eval mode, with copies of our head's trained values."""
    backbone, task = adapted.backbone, adapted.task
    settings: dict[str, Any] = {"num_labels": task.classes} if task.classes > 0 else {}
    if task.problem:
        settings["problem_type"] = PROBLEMS[task.problem]
    if backbone.is_decoder:
        settings["pad_token_id"] = backbone.tokenizer.pad_token_id
    model: Any = AUTO_CLASSES[task.kind].from_pretrained(backbone.folder, **settings)
    if task.kind == "question-answering" and backbone.config.model_type in LOSES_ITS_TRUNK:
        model.transformer = transformers.AutoModel.from_pretrained(backbone.folder)
    values = {name: parameter.detach().clone() for name, parameter in adapted.head_parameters().items()}
    unknown = model.load_state_dict(values, strict=False).unexpected_keys
    assert unknown == []
    return model.eval()


def answer(model: Any, kind: str, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits and loss as transformers computes them, in the shape of ours."""
    inputs = {name: tensor for name, tensor in batch.inputs.items() if name != "decoder_input_ids"}
    labels: Any = batch.labels
    if kind == "question-answering":
        given = {"start_positions": labels[:, 0], "end_positions": labels[:, 1]}
    else:
        given = {"labels": labels}
    with torch.no_grad():
        output = model(**inputs, **given)
    if kind == "question-answering":
        return torch.stack([output.start_logits, output.end_logits], dim=-1), output.loss
    return output.logits, output.loss


def trunk_values(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all tensors by name."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def of_tokens(logits: Tensor, batch: Batch) -> Tensor:
    """Logits without those of padding, where they are per token: nobody computes what nobody reads."""
    mask = batch.inputs["attention_mask"]
    return logits[mask.bool()] if logits.shape[:2] == mask.shape and logits.dim() == 3 else logits
