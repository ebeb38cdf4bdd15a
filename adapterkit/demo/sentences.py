"""Sentences of `grammar.yaml` beside this file: phrasings, fillers and the noise of natural speech, a tag per word."""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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


def make_sentence(split: Split, intent: str, chance: random.Random) -> Sentence:
    """A sentence of this split's phrasings. Half of a test sentence's fillers are ones that training never uses."""
    phrasing = chance.choice(GRAMMAR.phrases[split][intent])
    said = _ALTERNATIVES.sub(lambda found: chance.choice(found[1].split("|")), phrasing)
    words = _spoken(_filled(_contracted(said, chance), split, chance), split, chance)
    words = _written(words, chance)
    return Sentence(intent, phrasing, tuple(word for word, _ in words), tuple(tag for _, tag in words))


def expansions(phrasing: str) -> list[str]:
    """Every way to choose among a phrasing's alternatives."""
    found = _ALTERNATIVES.search(phrasing)
    if found is None:
        return [" ".join(phrasing.split())]
    head, tail = phrasing[: found.start()], phrasing[found.end() :]
    return [whole for choice in found[1].split("|") for whole in expansions(head + choice + tail)]


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
            words[place] = (_mistyped(words[place][0], chance), OUTSIDE)
    return words


def _mistyped(word: str, chance: random.Random) -> str:
    at = chance.randrange(1, len(word) - 2)
    if chance.random() < 0.5:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + word[at + 1 :]
