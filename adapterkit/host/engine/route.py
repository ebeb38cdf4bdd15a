"""From the adapters of a batch's rows to what every module has to do.

Rows that carry the same structure stand next to each other; so they are a slice of every tensor, and one batched
product serves them all.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from adapterkit.host.engine.assembly import Packed
from adapterkit.host.engine.products import Gather, Weights
from adapterkit.host.engine.structure import Structure

Carried = tuple[Packed, ...]
"""What one row carries, applied in order: () nothing, one adapter usually, several for a composition."""


def order(adapters: Sequence[Carried]) -> list[int]:
    """A stable permutation after which rows of one structure stand together, and within it those of one adapter.

    Adapters of one structure stand by their number of rows, so that as many as possible fit one segment; then by when
    they were made, so that a mix that comes back in another order finds its adapters gathered (see `gathering`).
    """
    if len(adapters) == 1:
        return [0]
    counts = Counter(adapters)
    kinds: dict[tuple[Structure, ...], int] = {}
    for index, carried in enumerate(adapters):
        kinds.setdefault(_structures(carried), index)
    keys = {
        carried: (bool(carried), kinds[_structures(carried)], count, [packed.number for packed in carried])
        for carried, count in counts.items()
    }
    return sorted(range(len(adapters)), key=lambda index: keys[adapters[index]])


def row_runs(adapters: Sequence[Carried], gather: Gather) -> Iterator[tuple[tuple[int, int], Structure, Weights]]:
    """What is applied to runs of rows, before any repetition, that stand in `order`, a row's own in its order; rows
    without adapters are in none. Any order gives right answers. Of a run all adapters have one structure, and each the
    same number of rows. `gather`: makes one tensor of several adapters'; see `Weights`."""
    runs: list[tuple[Carried, int, int]] = []
    low = 0
    for carried, same in groupby(adapters):
        high = low + len(list(same))
        runs.append((carried, low, high))
        low = high
    for (structures, _), alike in groupby(runs, key=lambda run: (_structures(run[0]), run[2] - run[1])):
        members = list(alike)
        rows = members[0][1], members[-1][2]
        for place, structure in enumerate(structures):
            yield rows, structure, Weights(structure, [carried[place].flat for carried, _, _ in members], gather)


def _structures(carried: Carried) -> tuple[Structure, ...]:
    return tuple(packed.structure for packed in carried)
