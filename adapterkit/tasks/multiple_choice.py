"""Multiple choice: one of any number of choices per row, all read in one batch."""

# Axes: B rows of a batch, K choices, T tokens, N rows.

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from adapterkit.errors import DataError
from adapterkit.metrics import Metric, bootstrap, ratio
from adapterkit.recipe.columns import COLUMNS, Column
from adapterkit.tasks.checked_rows import Cuts, listed, numbers_of, text_problem
from adapterkit.tasks.encoding import encode_texts, longest, pad
from adapterkit.tasks.losses import masked_cross_entropy
from adapterkit.tasks.protocol import (
    Batch,
    Encoded,
    Feature,
    Loss,
    Purpose,
    Row,
    Vocabulary,
    reject_class_weights,
)
from adapterkit.tasks.sample_texts import SAMPLE_TEXTS
from adapterkit.tasks.unlabelled import UnlabelledTask


@dataclass(frozen=True)
class MultipleChoice(UnlabelledTask):
    """The right one of a row's choices."""

    kind: ClassVar[str] = "multiple-choice"
    columns: ClassVar[Mapping[str, Column]] = COLUMNS["multiple-choice"]
    answers_places: ClassVar[bool] = True
    metric_directions: ClassVar[Mapping[str, bool]] = {"accuracy": True}

    @classmethod
    def sample_rows(cls, labels: Sequence[str] = (), problem: str = "") -> list[dict[str, Any]]:
        return [{"question": text, "choices": ["yes", "no", "perhaps"], "label": 0} for text in SAMPLE_TEXTS]

    @property
    def classes(self) -> int:
        return 1

    def problem_of(self, row: Row, purpose: Purpose) -> str | None:
        problem = text_problem(row, "question", *(["context"] if row.get("context") is not None else []))
        if problem:
            return problem
        choices = choices_of(row)
        if choices is None:
            return "no choices" if row.get("choices") is None else "choices is not a list of texts"
        for place, choice in enumerate(choices):
            if problem := text_problem({"choice": choice}, "choice"):
                return f"choices[{place}]: {problem}"
        if purpose == "predict":
            return None if choices else "no choices"
        if len(choices) < 2:
            return f"{len(choices)} choices, expected at least two"
        if row.get("label") is None:
            return "no label"
        if _place(row, choices) is None:
            return f"label {row['label']!r:.40} is none of the {len(choices)} choices"
        return None

    def encode(self, rows: Sequence[Row], vocabulary: Vocabulary, purpose: Purpose = "train") -> Encoded:
        limit = longest(self.settings, vocabulary)
        labels = [None] * len(rows) if purpose == "predict" else self._labels(rows)
        owners: list[int] = []
        firsts: list[str] = []
        seconds: list[str | None] = []
        for index, row in enumerate(rows):
            for choice in choices_of(row) or []:
                context, question = row.get("context"), row["question"]
                owners.append(index)
                firsts.append(question if context is None else context)
                seconds.append(choice if context is None else f"{question} {choice}")
        cuts = Cuts(rows)
        inputs: list[dict[str, list[Any]]] = [{} for _ in rows]
        for index, (tokens, lost) in zip(owners, encode_texts(vocabulary, firsts, seconds, limit), strict=True):
            cuts.add(index, lost)
            for name, values in tokens.items():
                inputs[index].setdefault(name, []).append(values)
        features = []
        for index, choices in enumerate(inputs):
            length = max(len(ids) for ids in choices["input_ids"])
            features.append(Feature(index, index, choices, labels[index], length))
        return cuts.encoded(features)

    def collate(
        self,
        features: Sequence[Feature],
        vocabulary: Vocabulary,
        *,
        seed: int | None = None,
        epoch: int = 0,
        multiple: int = 1,
    ) -> Batch:
        """Inputs are (B, K, T). A row with fewer choices repeats its first one; `loss` and `outputs` leave it out."""
        most = max(len(feature.inputs["input_ids"]) for feature in features)
        inputs = {}
        for name in features[0].inputs:
            flat = [
                choices[place] if place < len(choices) else choices[0]
                for choices in (feature.inputs[name] for feature in features)
                for place in range(most)
            ]
            padding = vocabulary.pad_id if name == "input_ids" else 0
            inputs[name] = pad(flat, padding, multiple).reshape(len(features), most, -1)
        labels = None
        if all(feature.labels is not None for feature in features):
            labels = torch.tensor([feature.labels for feature in features], dtype=torch.long)
        return Batch(inputs, labels, features, vocabulary)

    def loss(
        self, logits: Any, batch: Batch, *, label_smoothing: float = 0.0, class_weights: Tensor | None = None
    ) -> Loss:
        reject_class_weights(self, class_weights)
        return masked_cross_entropy(logits, batch.labels, _there(batch, logits), label_smoothing)

    def outputs(self, logits: Any, batch: Batch) -> list[Any]:
        """Per feature (K,): the probability of each of its own choices."""
        share_BK = logits.detach().float().masked_fill(~_there(batch, logits), -torch.inf).softmax(dim=-1).cpu().numpy()
        return [share_BK[row, : len(feature.inputs["input_ids"])] for row, feature in enumerate(batch.features)]

    def predictions(
        self, rows: Sequence[Row], features: Sequence[Feature], outputs: Sequence[Any]
    ) -> list[dict[str, Any]]:
        answers = []
        for row, output in zip(rows, outputs, strict=True):
            best = int(np.argmax(output))
            answers.append(
                {
                    "choice": best,
                    "text": (choices_of(row) or [])[best],
                    "score": float(output[best]),
                    "probabilities": [float(share) for share in output],
                }
            )
        return answers

    def score(
        self,
        rows: Sequence[Row],
        features: Sequence[Feature],
        outputs: Sequence[Any],
        *,
        resamples: int = 1000,
        seed: int = 0,
    ) -> dict[str, Metric]:
        right_N = [
            float(int(np.argmax(output)) == label) for output, label in zip(outputs, self._labels(rows), strict=True)
        ]
        statistics_NS = np.stack([right_N, np.ones(len(right_N))], axis=1)
        formulas = {"accuracy": lambda sums_S: ratio(sums_S[..., 0], sums_S[..., 1])}
        return bootstrap(statistics_NS, formulas, self.metric_directions, resamples=resamples, seed=seed)

    def _labels(self, rows: Sequence[Row]) -> list[int]:
        numbers = numbers_of(rows)
        places = [_place(row, choices_of(row) or []) for row in rows]
        bad = [
            f"line {numbers[index]}: label {rows[index].get('label')!r:.40} is none of the choices"
            for index, place in enumerate(places)
            if place is None
        ]
        if bad:
            raise DataError(f"{len(bad)} rows have no right choice", listed(bad))
        return [place for place in places if place is not None]


def choices_of(row: Row) -> list[str] | None:
    """The choices of a row: a list, or the list under "text" of a dict (ARC, CommonsenseQA on the hub)."""
    choices = row.get("choices")
    if isinstance(choices, Mapping):
        choices = choices.get("text")
    return choices if isinstance(choices, list) else None


def _place(row: Row, choices: Sequence[str]) -> int | None:
    """The position of the right choice, from its position, its text, its name in the row, or its letter."""
    label = row.get("label")
    if isinstance(label, bool):
        return None
    if isinstance(label, int):
        return label if 0 <= label < len(choices) else None
    if not isinstance(label, str):
        return None
    raw = row.get("choices")
    names = raw.get("label") if isinstance(raw, Mapping) else None
    for known in (list(choices), names, string.ascii_uppercase[: len(choices)], list(map(str, range(len(choices))))):
        if known is not None and list(known).count(label) == 1:
            return list(known).index(label)
    return None


def _there(batch: Batch, logits_BK: Tensor) -> Tensor:
    """(B, K) bool: the choices that a row has."""
    counts_B = torch.tensor([len(feature.inputs["input_ids"]) for feature in batch.features], device=logits_BK.device)
    return torch.arange(logits_BK.shape[1], device=logits_BK.device)[None] < counts_B[:, None]
