"""Masked language modelling: hide 15 % of the tokens, predict them; fill the masks of a text."""

# Axes: B blocks of a batch, T tokens, V vocabulary.

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import numpy as np

from adapterkit.errors import BackboneError, RecipeError
from adapterkit.tasks.checked_rows import encoded, encoded_whole, text_problem
from adapterkit.tasks.encoding import bare_ids, blocks, encode_texts, longest, surrounded, surroundings
from adapterkit.tasks.language_model import LanguageModelTask
from adapterkit.tasks.values import IGNORED, Batch, Encoded, Feature, Features, Outputs, Purpose, Row, Vocabulary

MASK = "[MASK]"
"""How a text may write the mask, whatever the tokenizer calls it."""
FILLERS = 5
"""Tokens that are offered for every mask."""
EVALUATION_SEED = 20181011
"""Draws the masks of evaluation: the same for every model and every run."""


class Filled(NamedTuple):
    """A text with its masks filled, and per mask the (token, probability) that were offered, most likely first."""

    text: str
    masks: list[list[tuple[str, float]]]


@dataclass(frozen=True, repr=False)
class MaskedLm(LanguageModelTask, kind="masked-lm"):
    """Hidden tokens. A text is cut into blocks; no block mixes two texts."""

    running_text: ClassVar[bool] = True
    draws_anew: ClassVar[bool] = True

    def problem_of(self, row: Row, purpose: Purpose) -> str | None:
        return text_problem(row, "text")

    def encode(self, rows: Sequence[Row], vocabulary: Vocabulary, purpose: Purpose = "train") -> Encoded:
        if vocabulary.tokenizer.mask_token_id is None:
            raise BackboneError(
                "masked-lm needs a mask token",
                [f"tokenizer: {type(vocabulary.tokenizer).__name__} has none"],
                "Use a backbone that was trained with masks (BERT, RoBERTa, DistilBERT, ModernBERT).",
            )
        features: list[Feature] = []
        if purpose == "predict":
            texts = [row["text"].replace(MASK, vocabulary.tokenizer.mask_token) for row in rows]
            found = encode_texts(vocabulary, texts, None, longest(self.settings, vocabulary))
            return encoded_whole(rows, found, [None] * len(rows))
        before, after = surroundings(vocabulary)
        block_tokens = self.settings.block_tokens
        room = longest(self.settings, vocabulary, block_tokens, "block_tokens") if block_tokens else None
        room = (room or longest(self.settings, vocabulary)) - len(before) - len(after)
        if room < 1:
            raise RecipeError(f"a block has no room for text beside {len(before) + len(after)} special tokens")
        for index, ids in enumerate(bare_ids(vocabulary, [row["text"] for row in rows])):
            for block in blocks(len(ids), room):
                tokens = surrounded(vocabulary, ids[block.start : block.stop], before, after)
                first = len(before)
                extras = {"from": first, "to": first + block.stop - block.start}
                length = len(tokens["input_ids"])
                features.append(Feature(index, len(features), tokens, tokens["input_ids"], length, extras))
        return encoded(rows, features)

    def drawn(self, feature: Feature, vocabulary: Vocabulary, seed: int | None, epoch: int) -> Feature:
        """Inputs with masks; labels are the tokens that were there, IGNORED elsewhere.

        Of a share of the text's tokens, one at least, 80 % become the mask, 10 % any token, 10 % stay (Devlin et al.
        2018, section 3.1).
        """
        if feature.labels is None:
            return feature
        key = (EVALUATION_SEED, feature.index) if seed is None else (seed, epoch, feature.index, 1)
        chance, random_ids = np.random.default_rng(key), _random_ids(vocabulary)
        ids = list(feature.inputs["input_ids"])
        labels = [IGNORED] * len(ids)
        room = np.arange(feature.extras["from"], feature.extras["to"])
        count = min(len(room), max(1, round(self.settings.mask_probability * len(room))))
        chosen = chance.permutation(room)[:count].tolist()
        draws, others = chance.random(count).tolist(), chance.integers(0, len(random_ids), count).tolist()
        for place, draw, other in zip(chosen, draws, others, strict=True):
            labels[place] = ids[place]
            if draw < 0.8:
                ids[place] = vocabulary.tokenizer.mask_token_id
            elif draw < 0.9:
                ids[place] = random_ids[other]
        return replace(feature, inputs={**feature.inputs, "input_ids": ids}, labels=labels)

    def outputs(self, logits: Any, batch: Batch) -> list[Any]:
        """Per feature its `Likelihood`; without labels its text with every mask `Filled`."""
        if batch.labels is not None:
            return super().outputs(logits, batch)
        tokenizer = batch.vocabulary.tokenizer
        found = []
        for row, feature in enumerate(batch.features):
            ids = list(feature.inputs["input_ids"])
            at = [place for place, token in enumerate(ids) if token == tokenizer.mask_token_id]
            shares_MV = logits[row, at].detach().float().softmax(dim=-1)
            best = shares_MV.topk(min(FILLERS, shares_MV.shape[-1]), dim=-1)
            masks = []
            for place, offered, shares in zip(at, best.indices.tolist(), best.values.tolist(), strict=True):
                ids[place] = offered[0]
                words = [str(tokenizer.decode([token])).strip() for token in offered]
                masks.append(list(zip(words, shares, strict=True)))
            found.append(Filled(str(tokenizer.decode(ids, skip_special_tokens=True)).strip(), masks))
        return found

    def predictions(self, rows: Sequence[Row], features: Features, outputs: Outputs) -> list[dict[str, Any]]:
        """The text with every mask filled and the tokens offered for each; of scored rows, how likely they are."""
        if all(isinstance(output, Filled) for output in outputs):
            return [
                {
                    "text": output.text,
                    "masks": [[{"token": word, "probability": share} for word, share in mask] for mask in output.masks],
                }
                for output in outputs
            ]
        return super().predictions(rows, features, outputs)


@lru_cache(maxsize=4)
def _random_ids(vocabulary: Vocabulary) -> Sequence[int]:
    """Every id of the vocabulary that is no special token."""
    special = set(vocabulary.tokenizer.all_special_ids)
    return [place for place in range(len(vocabulary.tokenizer)) if place not in special]
