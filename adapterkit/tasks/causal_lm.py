"""Causal language modelling: predict every next token of texts, completions or chats; continue a prompt.

A document becomes one feature, or several blocks where it is longer than a block. With `pack_documents` short ones
share a block in training (see `fill_blocks`); the loss of each is what it would be alone.
"""

# Axes: B blocks of a batch, T tokens, V vocabulary.

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from adapterkit.errors import RecipeError
from adapterkit.tasks.checked_rows import encoded
from adapterkit.tasks.documents import Documents, document_problem
from adapterkit.tasks.encoding import longest, surrounded, windows_over
from adapterkit.tasks.language_model import LanguageModelTask
from adapterkit.tasks.protocol import GeneratingTask
from adapterkit.tasks.values import IGNORED, Encoded, Feature, Purpose, Row, Vocabulary

OPEN_BLOCKS = 64
"""Blocks that are filled at the same time. More: less room is left over, and more of the rows are looked at."""


@dataclass(frozen=True, repr=False)
class CausalLm(LanguageModelTask, GeneratingTask, kind="causal-lm"):
    """Next tokens of documents. A row is a `text`, a `prompt` with a `completion`, an `instruction` with an `input` and
    its output, or a list of chat `messages`."""

    running_text: ClassVar[bool] = True
    pads_left: ClassVar[bool] = True
    metric_directions: ClassVar[Mapping[str, bool]] = {
        "perplexity": False,
        "bits_per_character": False,
        "token_accuracy": True,
    }

    def problem_of(self, row: Row, purpose: Purpose) -> str | None:
        return document_problem(row, predict=purpose == "predict", completions_only=self.settings.completions_only)

    def encode(self, rows: Sequence[Row], vocabulary: Vocabulary, purpose: Purpose = "train") -> Encoded:
        """Blocks of at most block_tokens.

        train: every token is predicted once; a block starts with the last token of the block before. Blocks of several
            documents have `position_ids`, which begin at 0 in each.
        score: every token is predicted once, after at least half a block of context (but at the document's start).
        predict: one prompt per row, cut on its left to leave room for max_new_tokens, or for half of what the backbone
            takes where that is less.
        """
        cuts, documents = Counter[int](), Documents(vocabulary, self.settings)
        features: list[Feature] = []
        if purpose == "predict":
            limit = longest(self.settings, vocabulary)
            if vocabulary.max_tokens is not None:
                room = vocabulary.max_tokens - self.settings.max_new_tokens
                limit = min(limit, max(room, vocabulary.max_tokens // 2))
            for index, prompt in enumerate(documents.prompts(rows)):
                if prompt is not None:
                    cuts[index] = len(prompt.ids) - limit
                    tokens = surrounded(vocabulary, prompt.ids[-limit:], [], [])
                    ends = {"stop": prompt.stop}
                    features.append(Feature(index, len(features), tokens, None, len(tokens["input_ids"]), ends))
            if documents.refused:
                raise documents.refusal(rows)
            return encoded(rows, features, cuts)
        size = self._block_tokens(vocabulary)
        overlap = 1 if purpose == "train" else size // 2
        for index, document in enumerate(documents.read(rows)):
            if document is None:
                continue
            for place, block in enumerate(windows_over(len(document.ids), size, overlap)):
                # A training block needs only one token of context, so the last one stays short.
                start = max(block.start, block.fresh - overlap) if place else block.start
                labels = [
                    token if at >= block.fresh and counted else IGNORED
                    for at, (token, counted) in enumerate(
                        zip(document.ids[start : block.stop], document.counted[start : block.stop], strict=True), start
                    )
                ]
                # The first token of a feature has nothing before it to be predicted from.
                labels[:1] = [IGNORED] * len(labels[:1])
                tokens = surrounded(vocabulary, document.ids[start : block.stop], [], [])
                if any(label != IGNORED for label in labels):
                    new = not features or features[-1].row != index
                    extras = {"characters": document.characters if new else 0}
                    features.append(Feature(index, len(features), tokens, labels, len(labels), extras))
        if purpose == "train" and len(documents.refused) == len(rows):
            raise documents.refusal(rows)
        if purpose == "train" and self.settings.pack_documents:
            features = fill_blocks(features, size)
        return encoded(rows, features, cuts, "; ".join(documents.notes(rows, alpaca=purpose == "train")))

    def targets(self, labels_BT: Tensor) -> Tensor:
        """At each token the label of the one after it."""
        return F.pad(labels_BT[:, 1:], (0, 1), value=IGNORED)

    def _block_tokens(self, vocabulary: Vocabulary) -> int:
        size = longest(self.settings, vocabulary)
        if self.settings.block_tokens is not None:
            size = longest(self.settings, vocabulary, self.settings.block_tokens, "block_tokens")
        if size < 2:
            raise RecipeError("a block needs at least two tokens", [f"task.block_tokens: found {size}"])
        return size


def fill_blocks(features: Sequence[Feature], size: int) -> list[Feature]:
    """Put features together into blocks of at most `size` tokens: each into the fullest block that has room for it.

    A block takes the row of its first document; `extras["rows"]` names all of them. Positions begin again with every
    document: whoever computes a batch with `position_ids` lets none see another (see `heads.unpadded`). Its first label
    is ignored, so that its first token is not predicted from the last one of the document before.
    """
    blocks: list[list[Feature]] = []
    open_blocks: dict[int, int] = {}
    for feature in features:
        fitting = [number for number, room in open_blocks.items() if room >= feature.length_tokens]
        if fitting:
            number = min(fitting, key=lambda fits: (open_blocks[fits], fits))
            blocks[number].append(feature)
        else:
            number = len(blocks)
            blocks.append([feature])
            open_blocks[number] = size
            if len(open_blocks) > OPEN_BLOCKS:
                del open_blocks[min(open_blocks, key=lambda fits: (open_blocks[fits], fits))]
        if number in open_blocks:
            open_blocks[number] -= feature.length_tokens
    return [_block(number, documents) for number, documents in enumerate(blocks)]


def _block(number: int, documents: Sequence[Feature]) -> Feature:
    inputs = {name: [item for document in documents for item in document.inputs[name]] for name in documents[0].inputs}
    inputs["position_ids"] = [place for document in documents for place in range(document.length_tokens)]
    return Feature(
        documents[0].row,
        number,
        inputs,
        [label for document in documents for label in document.labels],
        len(inputs["input_ids"]),
        {
            "characters": sum(document.extras["characters"] for document in documents),
            "rows": [document.row for document in documents],
        },
    )
