"""What texts are cut into to be compared, by the script that they are written in.

BLEU and ROUGE were made for English. sacrebleu's usual tokens (13a) leave a Chinese sentence in one piece, and
rouge-score's usual ones are made of ASCII letters alone, so that a right answer in Russian or Thai scores nothing.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Literal
from unicodedata import category, name

Spacing = Literal["", "han", "other"]

_OTHERS = ("HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")
_ASCII_WORD = re.compile(r"[a-z0-9]+")
MOST_KANA = 0.1
"""Share of other letters without spaces up to which a text is Chinese; Japanese has some half of kana."""


@cache
def unspaced(letter: str) -> Spacing:
    """ "han" or "other" for a letter of a script that writes no spaces between words, else ""."""
    called = name(letter, "")
    if called.startswith(("CJK ", "IDEOGRAPHIC ")):
        return "han"
    return "other" if called.startswith(_OTHERS) else ""


def words(text: str) -> list[str]:
    """Runs of letters, marks and digits in lower case; each letter by itself where a script writes no spaces.

    Of ASCII texts these are rouge-score's own tokens.
    """
    text = text.lower()
    if text.isascii():
        return _ASCII_WORD.findall(text)
    found: list[str] = []
    is_open = False
    for character in text:
        what = category(character)[0]
        if what == "M" and found:
            found[-1] += character
        elif what in "LMN":
            alone = bool(unspaced(character))
            if is_open and not alone:
                found[-1] += character
            else:
                found.append(character)
            is_open = not alone
        else:
            is_open = False
    return found


def bleu_tokens(references: Iterable[str]) -> Literal["13a", "zh", "char"]:
    """sacrebleu's tokenizer for a corpus: zh for Chinese, char for other scripts without spaces, else 13a.

    A script counts where more than half of all letters are of it.
    """
    letters: Counter[Spacing] = Counter()
    for reference in references:
        if not reference.isascii():
            letters.update(unspaced(character) for character in reference if character.isalpha())
        else:
            letters[""] += sum(map(str.isalpha, reference))
    without = letters["han"] + letters["other"]
    if 2 * without <= letters.total():
        return "13a"
    return "zh" if letters["other"] <= MOST_KANA * without else "char"
