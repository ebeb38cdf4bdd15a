"""The demo's data, intents and slots over the same sentences, with phrasings held out for the test.

Sentences are those of `grammar.yaml` beside this file: phrasings, fillers, the noise of natural speech, a tag per word.
"""

import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

Split = Literal["train", "validation", "test"]
Pools = Mapping[str, Mapping[str, Sequence[str]]]


@dataclass(frozen=True)
class Grammar:
    """The word lists of the demo.

    Attributes:
        phrases: split -> intent -> phrasings, none in two splits.
        fillers: "everywhere" or "test", for those that training never uses -> slot -> fillers.
        asides: "learned" or "test" -> what is said beside a request.
        openings, closings: what is said before and after it.
        contractions: long form -> short form.
    """

    phrases: Mapping[Split, Mapping[str, Sequence[str]]]
    fillers: Pools
    asides: Mapping[str, Sequence[str]]
    openings: Sequence[str]
    closings: Sequence[str]
    contractions: Mapping[str, str]


GRAMMAR = Grammar(**yaml.safe_load(Path(__file__).with_name("grammar.yaml").read_text(encoding="utf-8")))
INTENTS: tuple[str, ...] = tuple(sorted(GRAMMAR.phrases["train"]))
SLOTS: tuple[str, ...] = tuple(sorted(GRAMMAR.fillers["everywhere"]))

Word = tuple[str, str]
"""A word and its IOB2 tag."""

OUTSIDE = "O"

ROWS: dict[Split, int] = {"train": 1200, "validation": 200, "test": 400}

_PIECES = re.compile(r"\{(\w+)\}|(\S+)")
_ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True)
class Sentence:
    """A sentence with its intent and its slots.

    Attributes:
        words, tags: as many words as tags; punctuation is a word.
        phrasing: the template that it was made from.
    """

    intent: str
    phrasing: str
    words: tuple[str, ...]
    tags: tuple[str, ...]

    @property
    def text(self) -> str:
        """The words as people write them: no space before punctuation."""
        return re.sub(r" ([,.?!:])", r"\1", " ".join(self.words))


def sentences(seed: int = 0) -> dict[Split, list[Sentence]]:
    """The demo's sentences: every text once over all splits, the intents in equal shares, in shuffled order.

    The same seed gives the same sentences on every machine.
    """
    texts: set[str] = set()
    made: dict[Split, list[Sentence]] = {}
    for split, count in ROWS.items():
        chance = random.Random(f"demo {split} {seed}")
        rows: list[Sentence] = []
        while len(rows) < count:
            sentence = make_sentence(split, INTENTS[len(rows) % len(INTENTS)], chance)
            key = sentence.text.casefold()
            if key not in texts:
                texts.add(key)
                rows.append(sentence)
        chance.shuffle(rows)
        made[split] = rows
    return made


def generate(folder: str | Path, seed: int = 0) -> dict[str, Path]:
    """Write the demo's six files into a folder, which is made where it is missing.

    Returns:
        "intents/train", "intents/validation", "intents/test" -> JSON lines with `text` and `label`;
        "slots/train", "slots/validation", "slots/test" -> JSON lines with `tokens` and `tags` (IOB2).
    """
    paths: dict[str, Path] = {}
    for split, rows in sentences(seed).items():
        intents = ({"text": row.text, "label": row.intent} for row in rows)
        slots = ({"tokens": list(row.words), "tags": list(row.tags)} for row in rows)
        paths[f"intents/{split}"] = _write(Path(folder) / "intents" / f"{split}.jsonl", intents)
        paths[f"slots/{split}"] = _write(Path(folder) / "slots" / f"{split}.jsonl", slots)
    return paths


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(lines.encode("utf-8"))
    return path


def make_sentence(split: Split, intent: str, chance: random.Random) -> Sentence:
    """A sentence of this split's phrasings. Half of a test sentence's fillers are ones that training never uses."""
    phrasing = chance.choice(GRAMMAR.phrases[split][intent])
    said = _ALTERNATIVES.sub(lambda found: chance.choice(found[1].split("|")), phrasing)
    words = _spoken(_filled(_contracted(said, chance), split, chance), split, chance)
    words = _written(words, chance)
    return Sentence(intent, phrasing, tuple(word for word, _ in words), tuple(tag for _, tag in words))


def _plain(text: str) -> list[Word]:
    return [(word, OUTSIDE) for word in text.split()]


def _contracted(phrasing: str, chance: random.Random) -> str:
    for long, short in GRAMMAR.contractions.items():
        if chance.random() < 0.5:
            phrasing = re.sub(rf"\b{long}\b", short, phrasing)
    return phrasing


def _filled(phrasing: str, split: Split, chance: random.Random) -> list[Word]:
    words: list[Word] = []
    for slot, word in _PIECES.findall(phrasing):
        if slot:
            new = split == "test" and chance.random() < 0.5
            filler = chance.choice(GRAMMAR.fillers["test" if new else "everywhere"][slot]).split()
            words += [(piece, f"{'I' if number else 'B'}-{slot}") for number, piece in enumerate(filler)]
        else:
            words.append((word, OUTSIDE))
    if phrasing.rstrip().endswith(" {date}") and chance.random() < 0.25:
        start = max(place for place, (_, tag) in enumerate(words) if tag == "B-date")
        words = words[start:] + words[:start]
    return words


def _spoken(words: list[Word], split: Split, chance: random.Random) -> list[Word]:
    """Politeness and an aside that has nothing to do with the request."""
    if chance.random() < 0.35:
        words = _plain(chance.choice(GRAMMAR.openings)) + words
    if chance.random() < 0.2:
        closing = _plain(chance.choice(GRAMMAR.closings))
        words = [*words, (",", OUTSIDE), *closing] if words[-1][1] != "I-message" else words
    if chance.random() < 0.4:
        asides = GRAMMAR.asides["test" if split == "test" else "learned"]
        aside = _filled(_contracted(chance.choice(asides), chance), split, chance)
        if chance.random() < 0.6:
            words = [*aside, *_plain(chance.choice((", so", ".", ", anyway ,", "and"))), *words]
        elif words[-1][1] != "I-message":
            words = [*words, *_plain(chance.choice((",", "because", "."))), *aside]
    return words


def _written(words: list[Word], chance: random.Random) -> list[Word]:
    """Case, end marks and typing errors (never inside a slot)."""
    if chance.random() < 0.5:
        words = [*words, (chance.choice((".", ".", "!", "?")), OUTSIDE)]
    if chance.random() < 0.4:
        words = [(word.lower(), tag) for word, tag in words]
    else:
        first, tag = words[0]
        words = [(first[:1].upper() + first[1:], tag), *words[1:]]
    if chance.random() < 0.12:
        places = [place for place, (word, tag) in enumerate(words) if tag == OUTSIDE and len(word) > 4]
        if places:
            place = chance.choice(places)
            word = words[place][0]
            at = chance.randrange(1, len(word) - 2)
            swapped = word[at + 1] + word[at] + word[at + 2 :]
            words[place] = (word[:at] + (swapped if chance.random() < 0.5 else word[at + 1 :]), OUTSIDE)
    return words
