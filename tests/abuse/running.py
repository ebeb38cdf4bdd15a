"""Runs attempts at breaking something: by number, so that each can be repeated, in processes that may die of them.

What counts as broken is the same for every subject: an exception that is not adapterkit's own, a promise that does not
hold (an AssertionError of the attempt), a process that dies, an attempt that does not end, and memory that runs away.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Protocol

SUBJECTS: dict[str, tuple[str, str, int]] = {
    "artifacts": ("tests.abuse.artifacts", "Artifacts", 10_000),
    "imports": ("tests.abuse.imports", "Imports", 2_000),
    "pickles": ("tests.abuse.pickles", "Pickles", 2_000),
    "checkpoints": ("tests.abuse.checkpoints", "Checkpoints", 500),
    "caches": ("tests.abuse.caches", "Caches", 300),
    "kills": ("tests.abuse.kills", "Kills", 200),
    "registry-kills": ("tests.abuse.registry_kills", "RegistryKills", 200),
    "swaps": ("tests.abuse.swaps", "Swaps", 200),
    "artifacts-in-peft": ("tests.abuse.peft_side", "ArtifactsInPeft", 400),
}
"""Subject -> its module, its class, and how many attempts the full run makes."""

CHUNK = 50
MOST_SECONDS = 60.0
"""One attempt. Where none takes a second, this only tells slow from hanging."""
MOST_GROWTH_MIB = 512
"""By how much one attempt may raise a process's peak. The inputs have some kilobytes."""


class Subject(Protocol):
    """Something to be broken.

    Attributes:
        judged: whether what goes wrong is a finding. Of a neighbour it is counted by name instead.
        most_seconds: how long an attempt may take; `MOST_SECONDS` where it does not say.
    """

    judged: bool

    def __init__(self, folder: Path) -> None:
        """Build, in this folder, what the attempts are made on."""

    def attempt(self, number: int, folder: Path) -> str:
        """Try number `number`, in an empty folder.

        Returns:
            How it ended, in a word or two that can be counted. An AdapterkitError that is raised counts as "refused".

        Raises:
            AssertionError: a promise does not hold; says which.
        """


@dataclass
class Outcome:
    """What attempts came to.

    Attributes:
        counts: how it ended -> how often.
        findings: what is broken, each with its number.
        longest_seconds: of one attempt.
        peak_mib: of a process.
    """

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0
    peak_mib: int = 0

    def add(self, other: Outcome) -> None:
        self.counts += other.counts
        self.findings += other.findings
        self.longest_seconds = max(self.longest_seconds, other.longest_seconds)
        self.peak_mib = max(self.peak_mib, other.peak_mib)


def attempts(subject: Subject, numbers: Sequence[int], root: Path) -> Outcome:
    """Make these attempts in this process."""
    from adapterkit.errors import AdapterkitError

    outcome = Outcome(peak_mib=_peak_mib())
    for number in numbers:
        folder = Path(tempfile.mkdtemp(prefix=f"{number}-", dir=root))
        started = time.monotonic()
        try:
            with _limited(getattr(subject, "most_seconds", MOST_SECONDS)):
                word = subject.attempt(number, folder)
        except AdapterkitError:
            word = "refused"
        except _HangsError:
            word = "hangs"
        except AssertionError as error:
            word = f"broken promise: {error}"
        except Exception as error:  # noqa: BLE001 (raw exceptions are what is looked for)
            word = f"raw {type(error).__name__}" if not subject.judged else f"raw error: {_told(error)}"
        if subject.judged and word.startswith(("hangs", "broken promise", "raw error")):
            outcome.findings.append(f"{number}: {word}")
            word = word.partition(":")[0]
        outcome.counts[word] += 1
        outcome.longest_seconds = max(outcome.longest_seconds, time.monotonic() - started)
        peak = _peak_mib()
        if subject.judged and peak > outcome.peak_mib + MOST_GROWTH_MIB:
            outcome.findings.append(f"{number}: took {peak - outcome.peak_mib} MiB more than any attempt before it")
        outcome.peak_mib = max(outcome.peak_mib, peak)
        shutil.rmtree(folder, ignore_errors=True)
    return outcome


def run(name: str, numbers: Sequence[int], processes: int, tell: Callable[[int], None] = lambda done: None) -> Outcome:
    """Make attempts at a subject in processes of their own, each of which builds it anew.

    Args:
        tell: is called with the number of attempts made so far.
    """
    outcome, chunks = Outcome(), [numbers[start : start + CHUNK] for start in range(0, len(numbers), CHUNK)]
    done = 0
    while chunks:
        left = []
        with _pool(SUBJECTS[name], processes) as pool:
            asked = {pool.submit(_chunk, chunk): chunk for chunk in chunks}
            for future in as_completed(asked):
                chunk = asked[future]
                try:
                    outcome.add(future.result())
                except BrokenProcessPool:
                    left.append(chunk)
                    continue
                done += len(chunk)
                tell(done)
        if len(left) == len(chunks):  # the process that died tells nothing: find out which attempt it was
            done += _one_by_one(name, left.pop(0), outcome)
        chunks = left
    return outcome


def _one_by_one(name: str, chunk: Sequence[int], outcome: Outcome) -> int:
    for number in chunk:
        with _pool(SUBJECTS[name], 1) as pool:
            try:
                outcome.add(pool.submit(_chunk, [number]).result())
            except BrokenProcessPool:
                outcome.counts["kills the process"] += 1
                outcome.findings.append(f"{number}: kills the process")
    return len(chunk)


def make(place: tuple[str, str, int], folder: Path) -> Subject:
    """Build a subject of the table in a folder."""
    module, class_name, _ = place
    subject: Subject = getattr(import_module(module), class_name)(folder)
    return subject


_here: dict[str, Any] = {}


def _pool(place: tuple[str, str, int], processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_start, initargs=(place,))


def _start(place: tuple[str, str, int]) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    root = Path(tempfile.mkdtemp(prefix="adapterkit-abuse-"))
    Finalize(None, shutil.rmtree, (root, True), exitpriority=0)
    os.environ["ADAPTERKIT_CACHE"] = str(root / "cache")
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (transformers and PEFT talk about every load)
    _here["subject"], _here["root"] = make(place, root), root


def _chunk(numbers: Sequence[int]) -> Outcome:
    return attempts(_here["subject"], numbers, _here["root"])


class _HangsError(BaseException):
    """No Exception, so that nothing on its way takes it for a failure of its own."""


@contextmanager
def _limited(most_seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise _HangsError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, most_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
