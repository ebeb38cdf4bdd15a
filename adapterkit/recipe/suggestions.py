"""Find the name that somebody meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The valid name most like `name`, or None if none is like it. Case and -, _ and blanks count as alike."""
    plain = {_plain(valid): valid for valid in names}
    initials = [valid for key, valid in plain.items() if "".join(word[:1] for word in key.split("_")) == name.lower()]
    if len(name) > 1 and len(initials) == 1:  # lr is how everybody says learning_rate
        return initials[0]
    found = get_close_matches(_plain(name), plain, n=1, cutoff=0.6)
    return plain[found[0]] if found else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """ "; did you mean x?", or "" if nothing is like `name`."""
    found = nearest(name, names)
    return f"; did you mean {found}?" if found else ""


def one_of(words: Iterable[str]) -> str:
    """ "lora, bottleneck or none"."""
    *first, last = words
    return f"{', '.join(first)} or {last}"


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(" ", "_")
