"""Every error that adapterkit raises on purpose.

Each message says what was found, what was expected, where, and what to do. All problems of one cause are
reported at once. Every class also derives from the built-in that a caller would catch.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

SHOWN = 200
"""Problems of one error that are printed; `problems` has all of them."""


def plain(text: str, spelled: Callable[[str], str] = lambda letter: letter.encode("unicode_escape").decode()) -> str:
    """A text in which nothing steers a terminal: control characters, and marks that turn the direction of writing, are
    spelled out, but for line breaks and tabs. Labels and names come from strangers' files."""
    if text.isascii() and text.isprintable():
        return text
    steers = (unicodedata.category(letter)[0] == "C" and letter not in "\n\t" for letter in text)
    return "".join(spelled(letter) if wild else letter for letter, wild in zip(text, steers, strict=True))


def first_line(error: BaseException) -> str:
    """What a library's error says, as one problem of ours."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


class AdapterkitError(Exception):
    """Base of every error that adapterkit raises on purpose.

    Attributes:
        summary: one line that says what went wrong.
        problems: every problem found, each as "place: found, expected".
        remedy: what to do about it, or "".
        shared: whether another process of the same run reports it.
    """

    shared: bool = False

    @property
    def code(self) -> str:
        """What went wrong in a word for machines, from the class's name: "bad_row", "not_mounted", "contract"."""
        return re.sub(r"\B(?=[A-Z])", "_", type(self).__name__.removesuffix("Error")).lower()

    @property
    def shown(self) -> tuple[str, ...]:
        """The problems that are printed: all, or the first ones and how many more there are."""
        more = len(self.problems) - SHOWN
        return self.problems if more <= 0 else (*self.problems[:SHOWN], f"and {more:,} more")

    @property
    def message(self) -> str:
        """Everything that the error says, in one line."""
        found = f"{self.summary}: {'; '.join(self.shown)}" if self.problems else self.summary
        end = "" if found.endswith((".", "?", "!", "…")) else "."
        return f"{found}{end} {self.remedy}" if self.remedy else found

    def as_json(self) -> dict[str, str]:
        """Code and message, as a service gives them."""
        return {"code": self.code, "message": self.message}

    def __init__(self, summary: str, problems: Sequence[str] = (), remedy: str = "") -> None:
        self.summary = plain(summary)
        self.problems = tuple(map(plain, problems))
        self.remedy = plain(remedy)
        super().__init__(self.summary)

    def __str__(self) -> str:
        lines = [self.summary, *(f"  {problem}" for problem in self.shown)]
        if self.remedy:
            lines.append(self.remedy)
        return "\n".join(lines)


class RecipeError(AdapterkitError, ValueError):
    """A recipe, or an override of one of its fields, is not valid."""


class PluginError(AdapterkitError, KeyError):
    """A method or a head of another package that is not installed, or that cannot be used."""


class DataError(AdapterkitError, ValueError):
    """Rows, columns, labels or files of a data set cannot be used."""


class BadRowError(DataError):
    """A row that cannot be answered. `predict(…, errors="return")` gives it in the row's place."""


class BackboneError(AdapterkitError, ValueError):
    """A backbone cannot be loaded, or is of a kind that adapterkit cannot use."""


class DeviceError(AdapterkitError, RuntimeError):
    """A device or a precision was asked for that this machine does not have."""


class SiteError(AdapterkitError, LookupError):
    """A site, or a layer, that the backbone does not have."""


class MergeError(AdapterkitError, ValueError):
    """A method that cannot be folded into the backbone's weights, or values that would spoil them."""


class CompositionError(AdapterkitError, ValueError):
    """A composition of adapters that makes no sense, or a file that does not describe one."""


class ExportError(AdapterkitError, ValueError):
    """An adapter that another format cannot express, or an export that does not answer as the adapter does."""


class NotFiniteError(AdapterkitError, ArithmeticError):
    """Rows whose answers are no numbers: the weights are finite, and what they compute is not.

    `predict(…, errors="return")` gives it in the place of such a row.
    """


class DetachedError(AdapterkitError, RuntimeError):
    """An adapter that was taken off its backbone is asked for an answer or for its weights."""


class RoutingError(AdapterkitError, ValueError):
    """The rows of a batch are not those that their adapters were named for."""


class HeadError(AdapterkitError, ValueError):
    """A head that does not fit the task or the backbone."""


class ContractError(AdapterkitError, ValueError):
    """An artifact and a backbone do not fit each other."""


class ArtifactError(AdapterkitError, ValueError):
    """An artifact is damaged, incomplete, unsafe or of an unknown version."""


class HubError(ArtifactError):
    """A model hub does not give or take an artifact."""


class OutputError(AdapterkitError, FileExistsError):
    """An output folder is in the way, or cannot be written."""


class TrainingError(AdapterkitError, RuntimeError):
    """A training run cannot go on: a loss that is not finite, or a checkpoint that does not fit."""


class DivergedError(TrainingError):
    """A loss, a gradient or a weight is not finite any more."""


class SweepError(AdapterkitError, ValueError):
    """A sweep's grid cannot be read, or its folder holds another sweep."""


class MountError(AdapterkitError, LookupError):
    """A name that is not mounted on a host, or one that is taken."""


class NotMountedError(MountError):
    """A name that is not mounted on a host. `predict(…, errors="return")` gives it in the place of the name's rows."""


class GenerationError(AdapterkitError, ValueError):
    """Settings of a generation that cannot be honoured, or a task that does not generate text."""


class HostClosedError(AdapterkitError, RuntimeError):
    """A host that was closed is asked for something."""


class HostForkedError(AdapterkitError, RuntimeError):
    """A host is asked for something in a process that was forked from the one that made it."""


class RegistryError(AdapterkitError, ValueError):
    """A registry cannot be opened, read or written, or does not have what was asked for."""


class ConflictError(RegistryError):
    """Somebody else changed the same thing in the registry first."""


class GateError(RegistryError):
    """A version does not pass the gate of a channel."""


class TrafficError(AdapterkitError, ValueError):
    """Rules of a fleet's traffic that make no sense."""


class SignatureError(AdapterkitError, ValueError):
    """A key that cannot be used, or a signature that is not whose it should be."""


class ServingError(AdapterkitError, RuntimeError):
    """A service cannot start, or cannot honour what it was asked."""
