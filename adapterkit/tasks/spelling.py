"""Stand-ins for what a tokenizer cannot write, such as T5's for line breaks and braces, and how to find that out."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from adapterkit.tasks.values import Vocabulary

LOOKED_AT = 1000
"""Targets that are written and read back before training; all of a large set would take as long as encoding it."""
SHOWN = 8


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
