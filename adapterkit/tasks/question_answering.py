"""Question answering: the answer is a span of the context, or nothing where a question may have no answer."""

# Axes: B windows of a batch, T tokens, A answer lengths, n candidates of a window.

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from adapterkit.errors import DataError
from adapterkit.metrics import Compared, Groups, judged, ratio_of
from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks.answers import NULL, Span, best_spans, best_threshold, exact_match, f1, gold_answers, token_mask
from adapterkit.tasks.checked_rows import by_row, check, refuse_rows, text_problem
from adapterkit.tasks.confident import ConfidentTask
from adapterkit.tasks.encoding import longest, needs_fast
from adapterkit.tasks.losses import cross_entropy
from adapterkit.tasks.protocol import SAMPLE_TEXTS
from adapterkit.tasks.question_windows import encode_windows
from adapterkit.tasks.values import Batch, Encoded, Feature, Features, Loss, Outputs, Purpose, Row, Vocabulary

DEFAULT_MAX_TOKENS = 384
"""Tokens of a window where the recipe says nothing, as in BERT's SQuAD runs."""
QUESTION_WORDS = {"what", "which", "who", "whom", "whose", "when", "where", "why", "how"}
CANDIDATES = 20
"""Spans of every window that are kept."""


@dataclass(frozen=True, repr=False)
class QuestionAnswering(ConfidentTask, kind="question-answering"):
    """Answer spans. "No answer" is given, where it is an answer, if its score beats the best span's by
    more than the threshold."""

    answers_places: ClassVar[bool] = True
    metric_directions: ClassVar[Mapping[str, bool]] = {"f1": True, "exact_match": True}

    settings: TaskSettings
    unanswerable: bool = False
    threshold: float = 0.0

    @classmethod
    def prepare(cls, settings: TaskSettings, rows: Sequence[Row]) -> Self:
        lenient = cls(settings, unanswerable=True)
        usable, _ = check(rows, cls.columns, lambda row: lenient.problem_of(row, "train"))
        without = [row for row in usable if not gold_answers(row["answers"])]
        if len(without) == len(usable):
            told = [f"answers: found none in all {len(usable)} usable rows"]
            raise DataError("no training row has an answer", told, "Check data.columns.answers.")
        wanted = settings.unanswerable
        return cls(settings, bool(without) if wanted == "auto" else wanted)

    @property
    def classes(self) -> int:
        return 2

    @classmethod
    def sample_rows(cls, labels: Sequence[str] = (), problem: str = "") -> list[dict[str, Any]]:
        context, answer = SAMPLE_TEXTS[0], "the lazy dog"
        answers = {"text": [answer], "answer_start": [context.index(answer)]}
        return [{"question": f"Over whom? {place}", "context": context, "answers": answers} for place in range(4)]

    def problem_of(self, row: Row, purpose: Purpose) -> str | None:
        problem = text_problem(row, "question", "context")
        if problem or purpose == "predict":
            return problem
        if problem := _answers_problem(row):
            return problem
        answers = gold_answers(row["answers"]) or []
        if not answers:
            return None if self.unanswerable else "no answer, and the task has no unanswerable questions"
        if purpose == "train":
            wrong = [
                f"answer {text!r:.40} does not stand at character {start} of the context"
                for text, start in answers
                if start is None or row["context"][start : start + len(text)] != text
            ]
            if len(wrong) == len(answers):  # what stands where it should is learned from, whatever stands beside it
                return wrong[0]
        return None

    def encode(self, rows: Sequence[Row], vocabulary: Vocabulary, purpose: Purpose = "train") -> Encoded:
        needs_fast(vocabulary, self.kind, "answers are cut out of the context, which needs them.")
        wanted = self.settings.max_tokens
        limit = longest(self.settings, vocabulary, wanted)
        if wanted is None:
            limit = min(limit, DEFAULT_MAX_TOKENS)
        golds: list[Any] = [None] * len(rows)
        if purpose != "predict":
            refuse_rows(rows, _answers_problem, "have no usable answers")
            golds = [gold_answers(row["answers"]) for row in rows]
        return encode_windows(rows, golds, vocabulary, limit, self.settings.stride_tokens)

    def stacked(self, labels: Sequence[Any], multiple: int) -> Tensor:
        """(B, 2): first and last token of the answer."""
        return torch.tensor(labels, dtype=torch.long).reshape(-1, 2)

    @property
    def smooths(self) -> bool:
        return False

    def summed_loss(self, logits: Any, batch: Batch, smoothing: float, weights: Tensor | None) -> Loss:
        """Mean of the cross-entropies of first and last token, over all tokens but padding.

        transformers' loss lets padding take part, so that a row's loss depends on its batch; without padding the two
        are equal.
        """
        padded_BT1 = batch.inputs["attention_mask"][..., None] == 0
        logits_BT2 = logits.float().masked_fill(padded_BT1, torch.finfo(torch.float32).min)
        first = cross_entropy(logits_BT2[..., 0], batch.labels[:, 0])
        last = cross_entropy(logits_BT2[..., 1], batch.labels[:, 1])
        return Loss((first.total + last.total) / 2, first.weight)

    def outputs(self, logits: Any, batch: Batch) -> list[Any]:
        """Per window its best spans as `Span` arrays: first token, last token, score; and the score of no answer."""
        mask_BT = token_mask(batch.features, logits.shape[1]).to(logits.device)
        null_B = torch.tensor([feature.extras["null"] for feature in batch.features], device=logits.device)
        return best_spans(logits.detach().float(), mask_BT, null_B, self.settings.max_answer_tokens, CANDIDATES)

    def predictions(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> list[dict[str, Any]]:
        """The best span over a row's windows; `start` and `stop` are character offsets into the context."""
        answers = []
        for index, positions in enumerate(by_row(features, len(rows))):
            null, spans = _merged([features[at] for at in positions], [outputs[at] for at in positions])
            answer = self._answer(rows[index]["context"], null, spans)
            answers.append(self.trusted(answer, min(1.0, answer["probability"])))
        return answers

    def compared(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> Compared:
        """Exact match and F1 as SQuAD defines them, in [0, 1]; rows grouped by their question word."""
        answers = self.predictions(rows, features, outputs)
        pairs = [(answer["answer"], golds) for answer, golds in zip(answers, _accepted(rows), strict=True)]
        right_N = [max(exact_match(text, gold) for gold in golds) for text, golds in pairs]
        f1_N = [max(f1(text, gold) for gold in golds) for text, golds in pairs]
        asked: dict[str, list[float]] = {}
        for row, value in zip(rows, f1_N, strict=True):
            words = re.findall(r"\w+", row["question"].lower())
            asked.setdefault(next((word for word in words if word in QUESTION_WORDS), "another"), []).append(value)
        groups = [(word, sum(values) / len(values), len(values)) for word, values in sorted(asked.items())]
        return Compared(
            len(rows),
            {"f1": ratio_of(f1_N), "exact_match": ratio_of(right_N)},
            judged=judged([answer["confidence"] for answer in answers], right_N),
            groups=Groups("question word", "F1", groups),
        )

    def calibrated(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> Self:
        """The task with the threshold that gives the best F1 on these rows, and with that of its confidence."""
        if not self.unanswerable:
            return super().calibrated(rows, features, outputs)
        always = replace(self, unanswerable=False).predictions(rows, features, outputs)
        gaps, gains, empties = [], [], []
        for golds, answer in zip(_accepted(rows), always, strict=True):
            gaps.append(answer["null_score"] - answer["score"])
            gains.append(max(f1(answer["answer"], gold) for gold in golds))
            empties.append(float(golds == [""]))
        chosen = replace(self, threshold=best_threshold(gaps, gains, empties))
        return super(QuestionAnswering, chosen).calibrated(rows, features, outputs)

    def _answer(self, context: str, null: float, spans: Sequence[tuple[float, int, int]]) -> dict[str, Any]:
        if not spans:
            return {
                "answer": "", "start": None, "stop": None, "score": NULL, "null_score": null, "probability": 1.0,
                "candidates": [],
            }  # fmt: skip
        scores = np.array([score for score, _, _ in spans] + ([null] if self.unanswerable else []))
        weights = np.exp((scores - scores.max()) / self.temperature)
        shares = (weights / weights.sum()).tolist()
        candidates = [
            {"answer": context[start:stop], "start": start, "stop": stop, "score": score, "probability": share}
            for (score, start, stop), share in zip(spans, shares, strict=False)
        ]
        answer = {**candidates[0], "null_score": null, "candidates": candidates[:5]}
        if self.unanswerable and null - candidates[0]["score"] > self.threshold:
            answer |= {"answer": "", "start": None, "stop": None, "probability": shares[-1]}
        return answer


def _answers_problem(row: Row) -> str | None:
    """Why a row's answers cannot be read, or None where they can."""
    if gold_answers(row.get("answers")) is not None:
        return None
    return "no answers" if row.get("answers") is None else "answers is not {text: [...], answer_start: [...]}"


def _accepted(rows: Sequence[Row]) -> list[list[str]]:
    """The right answers of every row; "" alone where no answer is the right one."""
    return [[text for text, _ in gold_answers(row.get("answers")) or []] or [""] for row in rows]


def _merged(features: Sequence[Feature], outputs: Sequence[Span]) -> tuple[float, list[tuple[float, int, int]]]:
    """The lowest no-answer score of a row's windows, and its best distinct spans as (score, start, stop) characters."""
    found: dict[tuple[int, int], float] = {}
    for feature, output in zip(features, outputs, strict=True):
        offsets = feature.extras["offsets"]
        for first, last, score in zip(output.first, output.last, output.score, strict=True):
            if np.isfinite(score) and score > NULL:
                place = (offsets[first][0], offsets[last][1])
                found[place] = max(found.get(place, float(score)), float(score))
    ranked = sorted(((score, *place) for place, score in found.items()), key=lambda span: (-span[0], span[1:]))
    return min((float(output.null) for output in outputs), default=NULL), ranked[:CANDIDATES]
