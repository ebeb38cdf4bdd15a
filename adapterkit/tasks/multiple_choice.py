"""Multiple choice: one of any number of choices per row, all read in one batch."""

# Axes: B rows of a batch, K choices, T tokens, N rows.

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from adapterkit.metrics import Compared, judged_classes, ratio_of
from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks.as_json import OPTIONAL
from adapterkit.tasks.checked_rows import (
    check,
    encoded,
    is_missing,
    optional_text,
    refuse_rows,
    string_problem,
    text_problem,
)
from adapterkit.tasks.confident import ConfidentTask
from adapterkit.tasks.encoding import encode_texts, longest, pad
from adapterkit.tasks.labels import label_name, stands_for_none
from adapterkit.tasks.losses import masked_cross_entropy
from adapterkit.tasks.protocol import SAMPLE_TEXTS
from adapterkit.tasks.right_choice import READINGS, choices_of, find_reading, notes_of, place_of, readings_of
from adapterkit.tasks.values import Batch, Checked, Encoded, Feature, Features, Loss, Outputs, Purpose, Row, Vocabulary


@dataclass(frozen=True, repr=False)
class MultipleChoice(ConfidentTask, kind="multiple-choice"):
    """The right one of a row's choices. `reading`: how the labels of the training rows name it, a key of `READINGS`; ""
    where no rows were read."""

    answers_places: ClassVar[bool] = True
    metric_directions: ClassVar[Mapping[str, bool]] = {"accuracy": True}

    settings: TaskSettings
    reading: str = field(default="", metadata=OPTIONAL)

    @classmethod
    def prepare(cls, settings: TaskSettings, rows: Sequence[Row]) -> Self:
        task, asked = cls(settings), settings.right_choice
        usable, _ = check(rows, cls.columns, lambda row: task.problem_of(row, "train"))
        return replace(task, reading=find_reading(usable) if asked == "auto" else asked)

    def inconsistencies(self) -> list[str]:
        unknown = self.reading and self.reading not in READINGS
        wrong = [f"reading: found {self.reading!r:.40}, expected one of {', '.join(READINGS)}"] if unknown else []
        return super().inconsistencies() + wrong

    @classmethod
    def sample_rows(cls, labels: Sequence[str] = (), problem: str = "") -> list[dict[str, Any]]:
        return [{"question": text, "choices": ["yes", "no", "perhaps"], "label": 0} for text in SAMPLE_TEXTS]

    @property
    def classes(self) -> int:
        return 1

    def problem_of(self, row: Row, purpose: Purpose) -> str | None:
        asked = self.settings.right_choice
        return self._problem(row, purpose, "" if asked == "auto" else asked)

    def _problem(self, row: Row, purpose: Purpose, reading: str) -> str | None:
        """Why a row cannot be used where labels are read in one way, or in any way where it is ""."""
        problem = text_problem(row, "question", optional=["context"])
        if problem:
            return problem
        choices = choices_of(row)
        if choices is None:
            return "no choices" if row.get("choices") is None else "choices is not a list of texts"
        for place, choice in enumerate(choices):
            if problem := string_problem(choice, "choice"):
                return f"choices[{place}]: {problem}"
        if purpose == "predict":
            return None if choices else "no choices"
        if len(choices) < 2:
            return f"{len(choices)} choices, expected at least two"
        if is_missing(row.get("label")):
            return "no label"
        if stands_for_none(row["label"], ()):
            return f"label {label_name(row['label'])} stands for 'no label'"
        readable = place_of(row, reading) is not None if reading else bool(readings_of(row))
        return None if readable else f"label {row['label']!r:.40} is none of the {len(choices)} choices"

    def check_rows(self, rows: Sequence[Row], purpose: Purpose = "train") -> Checked:
        """Split off the rows that cannot be used. Raises DataError: no row can be used, or the labels can only be read
        in another way than those of training rows."""
        if purpose == "predict" or self.settings.right_choice != "auto":
            return super().check_rows(rows, purpose)
        reading = find_reading(rows, self.reading)
        return check(rows, self.columns, lambda row: self._problem(row, purpose, reading), purpose)

    def notes(self, rows: Sequence[Row]) -> list[str]:
        return [] if self.settings.right_choice != "auto" else notes_of(self.reading, rows)

    def encode(self, rows: Sequence[Row], vocabulary: Vocabulary, purpose: Purpose = "train") -> Encoded:
        limit = longest(self.settings, vocabulary)
        labels = [None] * len(rows) if purpose == "predict" else self._labels(rows)
        owners: list[int] = []
        firsts: list[str] = []
        seconds: list[str | None] = []
        for index, row in enumerate(rows):
            for choice in choices_of(row) or []:
                context, question = optional_text(row, "context"), row["question"]
                owners.append(index)
                firsts.append(question if context is None else context)
                seconds.append(choice if context is None else f"{question} {choice}")
        cuts = Counter[int]()
        inputs: list[dict[str, list[Any]]] = [{} for _ in rows]
        for index, (tokens, lost) in zip(owners, encode_texts(vocabulary, firsts, seconds, limit), strict=True):
            cuts[index] += lost
            for name, values in tokens.items():
                inputs[index].setdefault(name, []).append(values)
        features = []
        for index, choices in enumerate(inputs):
            length = max(len(ids) for ids in choices["input_ids"])
            features.append(Feature(index, index, choices, labels[index], length))
        return encoded(rows, features, cuts)

    def padded(self, features: Features, vocabulary: Vocabulary, multiple: int) -> dict[str, Tensor]:
        """(B, K, T) each. A row with fewer choices repeats its first one; `loss` and `outputs` leave it out."""
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
        return inputs

    def stacked(self, labels: Sequence[Any], multiple: int) -> Tensor:
        return torch.tensor(labels, dtype=torch.long)

    def summed_loss(self, logits: Any, batch: Batch, smoothing: float, weights: Tensor | None) -> Loss:
        return masked_cross_entropy(logits, batch.labels, _there(batch, logits), smoothing)

    def outputs(self, logits: Any, batch: Batch) -> list[Any]:
        """Per feature (K,): the probability of each of its own choices."""
        share_BK = self.tempered(logits).masked_fill(~_there(batch, logits), -torch.inf).softmax(dim=-1).cpu().numpy()
        return [share_BK[row, : len(feature.inputs["input_ids"])] for row, feature in enumerate(batch.features)]

    def predictions(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> list[dict[str, Any]]:
        answers = []
        for row, output in zip(rows, outputs, strict=True):
            best = int(np.argmax(output))
            answer = {
                "choice": best,
                "text": (choices_of(row) or [])[best],
                "score": float(output[best]),
                "probabilities": [float(share) for share in output],
            }
            answers.append(self.trusted(answer, float(output[best])))
        return answers

    def compared(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> Compared:
        """Choices are called by their position, from 1."""
        share_NK, gold_N = np.array([*zip_longest(*outputs, fillvalue=0.0)]).T, self._labels(rows)
        found = judged_classes(share_NK, gold_N)
        pairs = zip(gold_N, share_NK.argmax(axis=1).tolist(), strict=True)
        confused = [(str(right + 1), str(given + 1)) for right, given in pairs]
        return Compared(len(rows), {"accuracy": ratio_of(found.right)}, judged=found, confused=confused)

    def _labels(self, rows: Sequence[Row]) -> list[int]:
        asked = self.settings.right_choice
        reading = find_reading(rows, self.reading) if asked == "auto" else asked
        told = "label {!r:.40} is none of the choices"
        refuse_rows(
            rows,
            lambda row: told.format(row.get("label")) if place_of(row, reading) is None else None,
            "have no right choice",
        )
        return [place for row in rows if (place := place_of(row, reading)) is not None]


def _there(batch: Batch, logits_BK: Tensor) -> Tensor:
    """(B, K) bool: the choices that a row has."""
    counts_B = torch.tensor([len(feature.inputs["input_ids"]) for feature in batch.features], device=logits_BK.device)
    return torch.arange(logits_BK.shape[1], device=logits_BK.device)[None] < counts_B[:, None]
