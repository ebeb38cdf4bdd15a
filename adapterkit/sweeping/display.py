"""What a person sees of a sweep: a bar over all points, and a line for each point that is done."""

from collections.abc import Mapping
from typing import Any

from adapterkit.training.progress import ProgressDisplay


class SweepDisplay(ProgressDisplay):
    """Shows a sweep's runs."""

    def __init__(self, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self._done, self._total = 0, 0
        self._running = ""
        self._decisions: set[str] = set()

    def begin(self, total: int, done: int) -> None:
        """So many runs are ahead, of which some were done earlier."""
        self._total, self._done = total, done
        self._bar.update(self._task, total=total - done, completed=0)
        self._bar.start()
        if done:
            self.say(f"{done} of {total} runs were done before")

    def running(self, name: str, runs: int) -> None:
        """A run begins, or goes on, with others beside it."""
        self._running = name if runs == 1 else f"{name} and {runs - 1} more"
        self._bar.update(self._task, description=self._running)

    def ended(self, name: str) -> None:
        """A run has ended in another process; what it gave comes with `done`."""
        self._bar.update(self._task, description=f"{name} has ended")

    def share(self, done: float) -> None:
        """So much of what runs now is done, from 0 to 1."""
        self._bar.update(self._task, description=f"{self._running}: {done:.0%}")

    def decided(self, decision: str) -> None:
        """How runs are trained side by side; the same is not said again."""
        if decision not in self._decisions:
            self._decisions.add(decision)
            self.say(f"together: {decision}")

    def done(self, name: str, line: Mapping[str, Any]) -> None:
        """A run has ended, or pauses. What it decided on the trunk cache is told once for each folder of states."""
        self._done += 1
        self._bar.advance(self._task)
        told = f"failed: {line['reason']}" if line.get("reason") else "no score"
        if line["value"] is not None:
            told = f"{line['metric']} {line['value']:.4f}  {line['seconds']:.1f} s"
        self.say(f"[{self._done}/{self._total}] {name}  {told}")
        decision = line.get("trunk_cache")
        folder = str(decision).rpartition("; in ")[2]
        if decision and folder not in self._decisions:
            self._decisions.add(folder)
            self.say(f"trunk cache: {decision}")
