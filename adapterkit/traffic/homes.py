"""Which replicas a request is offered first: those at home with its tasks, more of them the more a task is asked.

Rendezvous hashing gives every task an order of the replicas that all who ask compute alike. Its first replicas are its
homes: there its adapter stays in memory. A replica that comes or goes moves only the tasks that it is the home of.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from math import floor

from adapterkit.traffic.splits import unit

UNKNOWN_ROWS = 256
"""Rows of nobody that the first shares are of, so that the first task that is asked is not taken for a hot one."""


class Shares:
    """What share of the rows each task was asked of late. `memory_rows`: after so many rows all counts are halved."""

    def __init__(self, memory_rows: int = 8192) -> None:
        self._memory_rows, self._rows = memory_rows, Counter[str]()

    def add(self, asked: Mapping[str, int]) -> None:
        """Count a request: task -> rows."""
        self._rows.update(asked)
        if self._rows.total() > self._memory_rows:
            self._rows = Counter({task: rows // 2 for task, rows in self._rows.items() if rows > 1})

    def of(self, task: str) -> float:
        """In [0, 1]."""
        return self._rows[task] / (self._rows.total() + UNKNOWN_ROWS)


def homes_of(task: str, replicas: Collection[str], share: float) -> list[str]:
    """The replicas that a task is at home on: one, and one more for every whole replica that its share would fill."""
    order = sorted(replicas, key=lambda replica: unit(f"{task}\0{replica}"), reverse=True)
    return order[: 1 + floor(share * len(order))]


def ranked(asked: Mapping[str, int], held: Mapping[str, Collection[str]], shares: Shares) -> list[list[str]]:
    """Replicas in the order in which a request is offered to them; those of one rank are alike.

    First those at home with most of its rows, then those that hold an adapter of it in memory, then the others. A
    request that names no task is anybody's. `asked`: task -> rows of it; `held`: replica -> tasks in its memory.
    """
    rows = Counter[str]()
    for task, number in asked.items():
        rows.update(dict.fromkeys(homes_of(task, held, shares.of(task)), number))
    most = max(rows.values(), default=0)
    first = [replica for replica in held if rows[replica] == most]
    others = [replica for replica in held if rows[replica] < most]
    holding = [replica for replica in others if not asked.keys().isdisjoint(held[replica])]
    return [first, holding, [replica for replica in others if replica not in holding]]
