"""Sequence to sequence: a source text in, a target text out; both are truncated on their own.

What a tokenizer cannot write, such as T5's line breaks and braces, may be written with stand-ins.
"""

# Axes: B rows of a batch, T source tokens, U target tokens, V vocabulary.

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from adapterkit.errors import BackboneError
from adapterkit.metrics import Metric
from adapterkit.metrics import generated_text as text_scores
from adapterkit.tasks.alpaca import earlier, lines, optional_problem
from adapterkit.tasks.checked_rows import encoded, is_missing, optional_text, refuse_rows, text_problem
from adapterkit.tasks.encoding import encode_texts, longest
from adapterkit.tasks.language_model import LanguageModelTask
from adapterkit.tasks.protocol import SAMPLE_TEXTS, GeneratingTask
from adapterkit.tasks.values import IGNORED, Batch, Encoded, Feature, Features, Purpose, Row, Vocabulary

LOOKED_AT = 1000
"""Targets that are written and read back before training; all of a large set would take as long as encoding it."""
SHOWN = 8


@dataclass(frozen=True, repr=False)
class Seq2SeqLm(LanguageModelTask, GeneratingTask, kind="seq2seq-lm"):
    """Target texts from source texts.

    `score` is teacher-forced and cheap; `score_texts` compares generated text with every target of the same source.
    """

    metric_directions: ClassVar[Mapping[str, bool]] = {**LanguageModelTask.metric_directions, **text_scores.DIRECTIONS}
    generated_metrics: ClassVar[frozenset[str]] = frozenset(text_scores.DIRECTIONS)

    @classmethod
    def sample_rows(cls, labels: Sequence[str] = (), problem: str = "") -> list[dict[str, Any]]:
        return [{"source": text, "target": text} for text in SAMPLE_TEXTS]

    def problem_of(self, row: Row, purpose: Purpose) -> str | None:
        problem = optional_problem(row, "source", "instruction", "system")
        if is_missing(row.get("instruction")):
            problem = problem or text_problem(row, "source")
        if problem or purpose == "predict":
            return problem
        return text_problem(row, "target")

    def encode(self, rows: Sequence[Row], vocabulary: Vocabulary, purpose: Purpose = "train") -> Encoded:
        limit = longest(self.settings, vocabulary)
        spelling, note = Spelling(self.settings.spelling), ""
        texts = [self.settings.prefix + spelling.write(_source(row)) for row in rows]
        sources = encode_texts(vocabulary, texts, None, limit)
        targets: list[list[int] | None] = [None] * len(rows)
        cuts = Counter[int]()
        if purpose != "predict":
            refuse_rows(rows, lambda row: text_problem(row, "target"), "have no target")
            most = longest(self.settings, vocabulary, self.settings.max_target_tokens, "max_target_tokens")
            texts = [spelling.write(row["target"]) for row in rows]
            for index, (tokens, lost) in enumerate(encode_texts(vocabulary, texts, None, most)):
                cuts[index] += lost
                targets[index] = tokens["input_ids"]
            uncut = [None if cuts[index] else target for index, target in enumerate(targets)]
            note = unwritable_note([row["target"] for row in rows], uncut, vocabulary, spelling)
            alpaca = sum(not is_missing(row.get("instruction")) for row in rows)
            if alpaca and purpose == "train":
                said = f"{alpaca:,} of {len(rows):,} rows have an instruction, which is read before the source"
                note = "; ".join([said, *[note] * bool(note)])
        features = []
        for index, ((tokens, lost), target) in enumerate(zip(sources, targets, strict=True)):
            cuts[index] += lost
            # The decoder's tokens cost about as much as the encoder's.
            length = len(tokens["input_ids"]) + len(target or [])
            features.append(Feature(index, index, tokens, target, length))
        return encoded(rows, features, cuts, note)

    def collate(self, features: Features, vocabulary: Vocabulary, **drawing: Any) -> Batch:
        """Labels are (B, U); decoder_input_ids are the labels one to the right, behind the start token."""
        batch = super().collate(features, vocabulary, **drawing)
        if batch.labels is not None:
            batch.inputs["decoder_input_ids"] = _shifted(batch.labels, vocabulary)
        return batch

    def stops(self, feature: Feature, asked: Sequence[str] | None = None) -> tuple[str, ...]:
        spelling = Spelling(self.settings.spelling)
        return tuple(spelling.write(stop) for stop in super().stops(feature, asked))

    def groups(self, rows: Sequence[Row]) -> list[list[int]]:
        found: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            found.setdefault(_source(row), []).append(index)
        return list(found.values())

    def answers(self, rows: Sequence[Row], texts: Sequence[str]) -> list[dict[str, Any]]:
        spelling = Spelling(self.settings.spelling)
        return [{"text": spelling.read(text)} for text in texts]

    def score_texts(
        self, rows: Sequence[Row], texts: Sequence[str], *, resamples: int = 1000, seed: int = 0
    ) -> dict[str, Metric]:
        spelling = Spelling(self.settings.spelling)
        texts = [spelling.read(text) for text in texts]
        references = [[rows[index]["target"] for index in group] for group in self.groups(rows)]
        return text_scores.score_generated(texts, references, resamples=resamples, seed=seed)


def _source(row: Row) -> str:
    """The text to read. In the Alpaca format what holds for all of it, earlier turns and the instruction come first."""
    known = [text for exchange in earlier(row) for text in exchange]
    system, instruction, source = (optional_text(row, name) for name in ("system", "instruction", "source"))
    return lines(system, *known, instruction, source)


def _shifted(labels_BU: Tensor, vocabulary: Vocabulary) -> Tensor:
    """(B, U) decoder inputs: start token, then the labels but the last; padding where labels are ignored."""
    if vocabulary.decoder_start_id is None:
        raise BackboneError(
            "seq2seq-lm needs an encoder-decoder",
            ["decoder_start_token_id: the backbone's config names none"],
            "Use a backbone such as T5 or BART, or the kind causal-lm for a decoder.",
        )
    start_B1 = torch.full((labels_BU.shape[0], 1), vocabulary.decoder_start_id, dtype=labels_BU.dtype)
    shifted_BU = torch.cat([start_B1, labels_BU[:, :-1]], dim=1)
    return shifted_BU.masked_fill(shifted_BU == IGNORED, vocabulary.pad_id)


class Spelling:
    """Texts written with stand-ins, and read back.

    All of a mapping's texts are replaced at once, the longest first, so that none is found inside another's stand-in.
    """

    def __init__(self, stand_ins: Mapping[str, str]) -> None:
        """`stand_ins`: text -> what is written in its place; no two of them alike."""
        self._stand_ins = dict(stand_ins)
        self._texts = {short: text for text, short in stand_ins.items()}

    def write(self, text: str) -> str:
        """A text as the model is to see it."""
        return _replaced(text, self._stand_ins)

    def read(self, text: str) -> str:
        """A text of the model as people are to see it."""
        return _replaced(text, self._texts)


def _replaced(text: str, by: Mapping[str, str]) -> str:
    # The alternatives are literal, so that whatever a recipe names is found in one pass.
    literal = "|".join(re.escape(found) for found in sorted(by, key=len, reverse=True))
    return re.sub(literal, lambda match: by[match[0]], text) if by else text


def unwritable_note(
    targets: Sequence[str], written: Sequence[Sequence[int] | None], vocabulary: Vocabulary, spelling: Spelling
) -> str:
    """What the tokenizer loses of the targets, in words; "" where the model can write all that were looked at.
    `written`: the ids of every target; None for those that were cut."""
    whole = [place for place, ids in enumerate(written) if ids is not None]
    if not whole:
        return ""
    chosen = whole[:: math.ceil(len(whole) / LOOKED_AT)]
    texts = vocabulary.tokenizer.batch_decode([written[place] for place in chosen], skip_special_tokens=True)
    lost = [Counter(targets[place]) - Counter(spelling.read(text)) for place, text in zip(chosen, texts, strict=True)]
    for characters in lost:
        del characters[" "]  # tokenizers tidy spaces up, and scores hardly see them
    rows = sum(bool(characters) for characters in lost)
    if not rows:
        return ""
    most = [repr(character) for character, _ in sum(lost, Counter()).most_common(SHOWN)]
    return (
        f"the tokenizer cannot write {rows:,} of {len(chosen):,} targets: it loses {', '.join(most)}. "
        "No generated text can equal these; task.spelling names stand-ins"
    )
