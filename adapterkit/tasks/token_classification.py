"""Token classification: one tag for every word; the first sub-token of a word answers for it."""

# Axes: B rows of a batch, T tokens, W words of a window, C classes.

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from adapterkit.errors import DataError
from adapterkit.metrics import Compared, compare_entities, compare_words, judged, ratio_of
from adapterkit.metrics.tagged import ENTITY_METRICS, both_tags, entities, is_iob2
from adapterkit.recipe.task import TaskSettings
from adapterkit.tasks.checked_rows import check, encoded, places_of, refuse_rows
from adapterkit.tasks.confident import ConfidentTask
from adapterkit.tasks.encoding import (
    first_tokens,
    longest,
    middle_owner,
    needs_fast,
    surrounded,
    surroundings,
    windows_over,
)
from adapterkit.tasks.labels import find_classes, learn_labels
from adapterkit.tasks.losses import cross_entropy, labelled
from adapterkit.tasks.protocol import SAMPLE_TEXTS
from adapterkit.tasks.tag_notations import OUTSIDE, iob2_names, is_entity_tag, to_iob2
from adapterkit.tasks.tag_reader import TagReader
from adapterkit.tasks.values import IGNORED, Batch, Encoded, Feature, Features, Loss, Outputs, Purpose, Row, Vocabulary

WIDEST_OVERLAP = 64
"""Tokens that neighbouring windows share, at most; a quarter of a short window."""


class Tagged(NamedTuple):
    """The answer of one window: (W,) classes of its words and the probabilities of these; the summed cross-entropy of
    the words that are labelled, and how many these are."""

    classes: NDArray[np.int64]
    scores: NDArray[np.float32]
    loss_nats: float = 0.0
    labelled: int = 0


@dataclass(frozen=True, repr=False)
class TokenClassification(ConfidentTask, kind="token-classification"):
    """Tags for words, in the scheme "iob2" (spans, scored as entities) or "flat" (one tag per word). `fallback` is the
    tag of words that no sub-token stands for: "O", or the most frequent one of a flat scheme."""

    answers_places: ClassVar[bool] = True
    metric_directions: ClassVar[Mapping[str, bool]] = {
        **ENTITY_METRICS,
        "accuracy": True,
        "macro_f1": True,
        "loss": False,
    }

    settings: TaskSettings
    labels: tuple[str, ...] = ()
    scheme: str = "flat"
    fallback: str = "O"

    @classmethod
    def prepare(cls, settings: TaskSettings, rows: Sequence[Row]) -> Self:
        reader = TagReader(settings, "flat")
        usable, _ = check(rows, cls.columns, lambda row: reader.problem_of(row, "train"))
        names = [reader.names_of(row) for row in usable]
        scheme = reader.find_scheme(names, places_of(usable))
        if scheme == "iob2":
            names = [to_iob2(row) for row in names if all(map(is_entity_tag, row))]
        counts = Counter(tag for row in names for tag in row)
        # A rare type may have one-word entities only in training and longer ones in test: both its tags are labels.
        names_found = list(counts) if scheme == "flat" else both_tags(counts)
        given = settings.labels if scheme == "flat" or settings.labels is None else iob2_names(settings.labels)
        labels = learn_labels(names_found, given)
        if len(labels) < 2:
            raise DataError(
                "token classification needs at least two tags",
                [f"tags: found {', '.join(map(repr, labels)) or 'none'} in all {len(usable)} training rows"],
                "Check data.columns.tags, or name all tags in task.labels.",
            )
        most = min(labels, key=lambda tag: (-counts[tag], tag))
        task = cls(settings, labels, scheme, OUTSIDE if scheme == "iob2" and OUTSIDE in labels else most)
        problems = task.inconsistencies()
        if problems:
            raise DataError(f"the tags do not fit the scheme {scheme}", problems, "Correct task.labels or task.tags.")
        return task

    @classmethod
    def has_labels(cls, settings: TaskSettings) -> bool:
        return True

    @classmethod
    def sample_rows(cls, labels: Sequence[str] = (), problem: str = "") -> list[dict[str, Any]]:
        names = list(labels) or ["a", "b"]
        words = SAMPLE_TEXTS[0].split()
        rows = [{"tokens": [words[place % len(words)] for place in range(len(names))], "tags": names}]
        return rows + [{"tokens": text.split(), "tags": names[:1] * len(text.split())} for text in SAMPLE_TEXTS]

    def inconsistencies(self) -> list[str]:
        problems = super().inconsistencies()
        if self.scheme not in ("iob2", "flat"):
            problems.append(f"scheme: found {self.scheme!r:.40}, expected iob2 or flat")
        if len(self.labels) < 2:
            problems.append(f"labels: found {len(self.labels)}, expected at least 2")
        if self.fallback not in self.labels:
            problems.append(f"fallback: found {self.fallback!r:.40}, expected one of the labels")
        if self.scheme == "iob2":
            problems += [
                f"labels: found {tag!r:.40}, expected O, B-… or I-…" for tag in self.labels if not is_iob2(tag)
            ]
        return problems

    @property
    def metrics(self) -> tuple[str, ...]:
        return (*ENTITY_METRICS, "accuracy", "loss") if self.scheme == "iob2" else ("accuracy", "macro_f1", "loss")

    @cached_property
    def _reader(self) -> TagReader:
        return TagReader(self.settings, self.scheme)

    def problem_of(self, row: Row, purpose: Purpose) -> str | None:
        return self._reader.problem_of(row, purpose)

    def encode(self, rows: Sequence[Row], vocabulary: Vocabulary, purpose: Purpose = "train") -> Encoded:
        needs_fast(vocabulary, self.kind, "tags are set at words, which need them.")
        labels = None if purpose == "predict" else self._classes(rows)
        before, after = surroundings(vocabulary)
        room = max(1, longest(self.settings, vocabulary) - len(before) - len(after))
        features: list[Feature] = []
        for index, (ids, firsts) in enumerate(first_tokens([self._reader.words_of(row) for row in rows], vocabulary)):
            found = windows_over(len(ids), room, min(WIDEST_OVERLAP, room // 4))
            owner = middle_owner(found, len(ids))
            for place, window in enumerate(found):
                owned = [(token, word) for word, token in firsts.items() if owner[token] == place]
                tokens = surrounded(vocabulary, ids[window.start : window.stop], before, after)
                length = len(tokens["input_ids"])
                at = [len(before) + token - window.start for token, _ in owned]
                marks = None
                if labels is not None:
                    marks = [IGNORED] * length
                    for position, (_, word) in zip(at, owned, strict=True):
                        marks[position] = labels[index][word]
                extras = {"at": at, "words": [word for _, word in owned]}
                features.append(Feature(index, len(features), tokens, marks, length, extras))
        return encoded(rows, features)

    def summed_loss(self, logits: Any, batch: Batch, smoothing: float, weights: Tensor | None) -> Loss:
        return cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), smoothing, weights)

    def label_counts(self, rows: Sequence[Row]) -> dict[str, int]:
        counts = Counter(place for row in self._classes(rows) for place in row)
        return {label: counts[place] for place, label in enumerate(self.labels)}

    def outputs(self, logits: Any, batch: Batch) -> list[Any]:
        """Per feature: `Tagged` for the words of the window that no other window answers for."""
        logits_BTC = self.tempered(logits)
        top = logits_BTC.softmax(dim=-1).max(dim=-1)
        loss_B, labelled_B = [0.0] * len(logits_BTC), [0] * len(logits_BTC)
        if batch.labels is not None:
            logits_BCT = logits_BTC.transpose(1, 2)
            loss_BT = F.cross_entropy(logits_BCT, batch.labels, ignore_index=IGNORED, reduction="none")
            loss_B, labelled_B = loss_BT.sum(dim=1).tolist(), labelled(batch.labels).sum(dim=1).tolist()
        score_BT, class_BT = top.values.cpu().numpy(), top.indices.cpu().numpy()
        found = []
        for place, feature in enumerate(batch.features):
            at = np.asarray(feature.extras["at"], dtype=np.int64)
            found.append(Tagged(class_BT[place][at], score_BT[place][at], loss_B[place], labelled_B[place]))
        return found

    def predictions(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> list[dict[str, Any]]:
        answers = []
        for row, (tags, scores) in zip(rows, self._tags(rows, features, outputs), strict=True):
            words = self._reader.words_of(row)
            answer: dict[str, Any] = {"tokens": words, "tags": tags, "scores": scores}
            if self.scheme == "iob2":
                answer["entities"] = [
                    {"type": kind, "text": " ".join(words[start:stop]), "start": start, "stop": stop}
                    for kind, start, stop in entities(tags)
                ]
            answers.append(self.trusted(answer, _confidence(scores)))
        return answers

    def compared(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> Compared:
        """IOB2: entities, strictly, and the accuracy of words. Flat: words."""
        answers = self._tags(rows, features, outputs)
        gold, predicted = self._gold(rows), [tags for tags, _ in answers]
        found = words = compare_words(self.labels, gold, predicted)
        if self.scheme == "iob2":
            found = compare_entities(gold, predicted)
        losses_NS = np.zeros((len(rows), 2))
        for feature, output in zip(features, outputs, strict=True):
            losses_NS[feature.row] += output.loss_nats, output.labelled
        formulas = {**found.formulas, **words.formulas, "loss": ratio_of(*losses_NS.T)}
        right_N = [given == wanted for given, wanted in zip(predicted, gold, strict=True)]
        return found._replace(
            formulas={name: formulas[name] for name in self.metrics},
            judged=judged([_confidence(sure) for _, sure in answers], right_N, losses_NS[:, 0]),
        )

    def _tags(
        self, rows: Sequence[Row], features: Sequence[Feature], outputs: Sequence[Tagged]
    ) -> list[tuple[list[str], list[float]]]:
        """The tag of every word and its probability; `fallback` with 0 for words without a sub-token."""
        answers: list[tuple[list[str], list[float]]] = []
        for row in rows:
            words = len(self._reader.words_of(row))
            answers.append(([self.fallback] * words, [0.0] * words))
        for feature, output in zip(features, outputs, strict=True):
            tags, scores = answers[feature.row]
            for word, place, score in zip(feature.extras["words"], output.classes, output.scores, strict=True):
                tags[word], scores[word] = self.labels[int(place)], float(score)
        return answers

    def _gold(self, rows: Sequence[Row]) -> list[list[str]]:
        return [[self.labels[place] for place in row] for row in self._classes(rows)]

    def _classes(self, rows: Sequence[Row]) -> list[list[int]]:
        refuse_rows(rows, lambda row: self.problem_of(row, "score"), "have no usable tags")
        tags = [self._reader.read(row) for row in rows]
        return find_classes(tags, self.labels, places_of(rows), self.settings.labels)

    def notes(self, rows: Sequence[Row]) -> list[str]:
        return self._reader.notes([self._reader.names_of(row) for row in rows], self.labels)

    def is_countable(self, label: str) -> bool:
        return self.scheme != "iob2" or not label.startswith("I-")

    def telling_metric(self, rows: Sequence[Row]) -> tuple[str, str]:
        metric = self.main_metric
        outside = self.labels.index(OUTSIDE) if OUTSIDE in self.labels else -1
        if metric in ENTITY_METRICS and all(place == outside for row in self._classes(rows) for place in row):
            return "loss", f"they hold no entity, so that every state has an {metric} of 0"
        return metric, ""


def _confidence(scores: Sequence[float]) -> float:
    """The probability of all tags together. Words without a sub-token, whose tag nobody predicts, take no part."""
    return math.prod(score for score in scores if score)
