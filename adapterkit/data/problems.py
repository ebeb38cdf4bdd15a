"""Collects what is wrong with one source, so that one error reports all of it."""

from collections.abc import Sequence

from adapterkit.data.rows import Rows
from adapterkit.errors import DataError

SHOWN = 20
"""How many problems an error lists; it counts the others."""


class Problems:
    """The problems of one source.

    Args:
        source: the file or data set, as errors name it.
        remedy: what to do about them.
        at_once: raise on the first problem instead of collecting, which is what a stream has to do.

    Attributes:
        file: the one of several files that is being read, named before each place; else "".
    """

    def __init__(self, source: str, remedy: str = "", *, at_once: bool = False) -> None:
        self.source = source
        self.remedy = remedy
        self.at_once = at_once
        self.file = ""
        self.count = 0
        self._shown: list[str] = []
        self._remedies: dict[str, None] = {}

    def add(self, place: str, problem: str, remedy: str = "") -> None:
        """Note one problem, for example ``add("line 7", "not valid JSON")``, and what would do away with it."""
        self.count += 1
        if len(self._shown) < SHOWN:
            self._shown.append(f"{self.file} {place}: {problem}".lstrip())
            self._remedies.update({remedy: None} if remedy else {})
        if self.at_once:
            self.check()

    def check(self) -> None:
        """Raise what was found, if anything was.

        Raises DataError: with the first problems in full and the number of the others.
        """
        if not self.count:
            return
        more = self.count - len(self._shown)
        listed = [*self._shown, f"… and {more:,} more"] if more else self._shown
        noun = "problem" if self.count == 1 else "problems"
        remedy = " ".join([*self._remedies, self.remedy]).strip()
        raise DataError(f"{self.source} cannot be read ({self.count:,} {noun})", listed, remedy)


def listing(items: Sequence[object], shown: int = 10) -> str:
    """Numbers or names as a reader wants them: "3, 7, 9 and 41 more"."""
    text = ", ".join(map(str, items[:shown]))
    return f"{text} and {len(items) - shown:,} more" if len(items) > shown else text


def unusable_note(split: str, rows: Rows, problems: Sequence[tuple[int, str]]) -> str:
    """One line on the rows of a split that cannot be used, by reason; `problems`: (number, reason)."""
    reasons: dict[str, list[int]] = {}
    for number, reason in problems:
        reasons.setdefault(reason, []).append(number)
    shown = [f"{reason}: {rows.reading.unit}s {listing(numbers)}" for reason, numbers in list(reasons.items())[:5]]
    if len(reasons) > 5:
        shown.append(f"{len(reasons) - 5} more reasons")
    return f"{len(problems)} of {len(rows)} {split} rows cannot be used ({'; '.join(shown)})"
