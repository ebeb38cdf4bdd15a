"""What the demo's sentences are made of, read from `grammar.yaml` beside this file."""

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


GRAMMAR = Grammar(**yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")))
INTENTS: tuple[str, ...] = tuple(sorted(GRAMMAR.phrases["train"]))
SLOTS: tuple[str, ...] = tuple(sorted(GRAMMAR.fillers["everywhere"]))
