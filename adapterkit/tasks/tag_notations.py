"""The ways in which data sets write entities into tags, all read as IOB2: B- opens an entity, I- goes on with it.

Read are IOB2, IOB1 (I- opens, B- only where an entity follows one of its own type), IO, BIOES, BILOU and BMES, with the
letter before the type or behind it, joined by - or _: B-PER, B_PER, PER-B.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from adapterkit.errors import DataError
from adapterkit.tasks.checked_rows import listed

OUTSIDE = "O"

_BEFORE = re.compile(r"([BIELSUM])([-_])(.+)", re.DOTALL)
_BEHIND = re.compile(r"(.+)([-_])([BIELSUM])", re.DOTALL)
_OPENS, _CLOSES = frozenset("BSU"), frozenset("ELSU")


class SpanTag(NamedTuple):
    """A tag of a word in an entity: where in it the word stands (one of BIELSUM), its type, and how it was written."""

    letter: str
    type: str
    notation: str


def parse_tag(tag: str) -> SpanTag | None:
    """A tag's letter and type; None for O, and for what is no tag of an entity."""
    if before := _BEFORE.fullmatch(tag):
        return SpanTag(before[1], before[3], f"B{before[2]}…")
    if behind := _BEHIND.fullmatch(tag):
        return SpanTag(behind[3], behind[1], f"…{behind[2]}B")
    return None


def is_entity_tag(tag: str) -> bool:
    """O, or a letter with a type."""
    return tag == OUTSIDE or parse_tag(tag) is not None


def to_iob2(tags: Sequence[str]) -> list[str]:
    """The entities of a row in IOB2. An entity goes on where its type does, unless a letter opens or closes one."""
    written: list[str] = []
    going_on = ""
    for tag in tags:
        found = parse_tag(tag)
        if found is None:
            written.append(tag)
            going_on = ""
            continue
        opens = found.letter in _OPENS or found.type != going_on
        written.append(f"{'B' if opens else 'I'}-{found.type}")
        going_on = "" if found.letter in _CLOSES else found.type
    return written


def iob2_names(names: Iterable[str]) -> tuple[str, ...]:
    """The IOB2 names of tags, in the same order; B- of a type that has an I- only comes last."""
    parsed = [(name, parse_tag(name)) for name in names]
    written = [name if tag is None else f"{'B' if tag.letter in _OPENS else 'I'}-{tag.type}" for name, tag in parsed]
    written += [f"B-{tag.type}" for _, tag in parsed if tag is not None]
    return tuple(dict.fromkeys(written))


def find_scheme(names: Sequence[Sequence[str]], places: Sequence[str]) -> str:
    """ "iob2" where the tags write entities, in whatever notation; else "flat". Letters other than B and I, an
    underscore, and a letter behind the type stand in names of other things too: they count where some tag is O and all
    others are of that notation.

    Raises DataError: most tags write entities and some do not, with the places of these.
    """
    every = dict.fromkeys(tag for row in names for tag in row)  # in order, so that of equals the first counts
    parsed = [found for tag in every if tag != OUTSIDE and (found := parse_tag(tag)) is not None]
    plain = any(found.notation == "B-…" and found.letter in "BI" for found in parsed)
    others = {tag for tag in every if not is_entity_tag(tag)}
    if not parsed or (OUTSIDE not in every and (others or not plain)) or (others and not plain):
        return "flat"
    common, _ = Counter(found.notation for found in parsed).most_common(1)[0]
    wrong = [
        f"{place}: tag {tag!r:.40}"
        for row, place in zip(names, places, strict=True)
        for tag in dict.fromkeys(row)
        if tag != OUTSIDE and ((found := parse_tag(tag)) is None or found.notation != common)
    ]
    if wrong:
        raise DataError(
            "some tags are IOB2 and some are not" if others else "tags are written in several ways",
            listed(wrong),
            f"Expected O, {common} or {common.replace('B', 'I')} everywhere. Correct these, or set task.tags: flat to"
            " score every word by itself (task.tags: iob2 leaves out the rows whose tags are of no entity).",
        )
    return "iob2"


def conversion_note(rows: Sequence[Sequence[str]]) -> str:
    """What these rows' tags were before they were read as IOB2, in words; "" where they are that already."""
    tags = [tag for row in rows for tag in row]
    changed = sum(old != new for row in rows for old, new in zip(row, to_iob2(row), strict=True))
    parsed = [found for tag in tags if (found := parse_tag(tag)) is not None]
    if not changed or not parsed:
        return ""
    letters = {found.letter for found in parsed}
    if letters & {"E", "S", "M"}:
        scheme = "BMES" if "M" in letters else "BIOES"
    elif letters & {"L", "U"}:
        scheme = "BILOU"
    elif "B" not in letters:
        scheme = "IO, which cannot tell neighbours of one type apart"
    elif all(_follows_its_type(row, place) for row in rows for place, tag in enumerate(row) if _letter(tag) == "B"):
        scheme = "IOB1, where I opens an entity"
    elif all(map(_opens_rightly, rows)):
        scheme = f"IOB2 written {parsed[0].notation}"
    else:
        return f"{changed:,} of {len(tags):,} tags open an entity with I, and are read as B"
    return f"tags are {scheme}: read as IOB2, {changed:,} of {len(tags):,} changed"


def _letter(tag: str) -> str:
    found = parse_tag(tag)
    return "" if found is None else found.letter


def _follows_its_type(row: Sequence[str], place: int) -> bool:
    found, before = parse_tag(row[place]), parse_tag(row[place - 1]) if place else None
    return found is not None and before is not None and found.type == before.type


def _opens_rightly(row: Sequence[str]) -> bool:
    """Whether no I of a row opens an entity."""
    return all(_letter(old) != "I" or new.startswith("I") for old, new in zip(row, to_iob2(row), strict=True))
