"""Batches of rows of similar length, so that little of a batch is padding."""

import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

_MOST_POOL_BATCHES = 50


def group_by_length(
    lengths: Sequence[int],
    *,
    batch_size: int | None = None,
    batch_tokens: int | None = None,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
) -> list[list[int]]:
    """Global batches of indices into `lengths`; every index stands in exactly one.

    Shuffled: all rows are shuffled, cut into pools, sorted by length within each pool and cut into batches, whose order
    is then shuffled. The plan depends on the arguments alone, not on the process or on how many there are; `shard`
    gives each process its part of a batch. Not shuffled: longest rows first, so that memory runs out at once or never.

    Args:
        lengths: tokens per row.
        batch_size: rows per batch.
        batch_tokens: instead, the most tokens per batch, padding included (rows · longest row). A row that is longer
            than this on its own makes a batch of its own.

    Raises:
        ValueError: not exactly one of batch_size and batch_tokens is given, or it is below 1.
    """
    if (batch_size is None) == (batch_tokens is None):
        raise ValueError(f"give batch_size or batch_tokens, not {'both' if batch_size else 'neither'}")
    limit = batch_size if batch_size is not None else batch_tokens
    if limit is None or limit < 1:
        raise ValueError(f"batch_size and batch_tokens are at least 1, not {limit}")
    if not shuffle:
        ordered = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
        return list(_cut(ordered, lengths, batch_size, batch_tokens))
    chance = random.Random(f"batches {seed} {epoch}")
    indices = list(range(len(lengths)))
    chance.shuffle(indices)
    batches: list[list[int]] = []
    pool_rows = _pool_rows(lengths, batch_size, batch_tokens)
    for start in range(0, len(indices), pool_rows):
        pool = sorted(indices[start : start + pool_rows], key=lambda index: -lengths[index])
        batches.extend(_cut(pool, lengths, batch_size, batch_tokens))
    chance.shuffle(batches)
    return batches


def shard(batch: Sequence[Item], process_index: int, process_count: int) -> list[Item]:
    """One process's part of a global batch. The parts of all processes are disjoint and make up the batch.

    They differ by at most one row, and in length as little as the batch allows (every n-th row). A batch with fewer
    rows than processes leaves some with none: they still have to take part in the step. Raises ValueError: the index is
    not below the count."""
    if not 0 <= process_index < process_count:
        raise ValueError(f"process {process_index} of {process_count}: the index is from 0 to the count less one")
    return list(batch[process_index::process_count])


def _pool_rows(lengths: Sequence[int], batch_size: int | None, batch_tokens: int | None) -> int:
    """Rows per pool: up to 50 batches, and at least 4 pools where there are rows for that, so that epochs differ."""
    if batch_size is not None:
        rows = batch_size
    else:
        mean_tokens = max(sum(lengths) / max(len(lengths), 1), 1.0)
        rows = max(int((batch_tokens or 1) / mean_tokens), 1)
    return rows * max(min(len(lengths) // (4 * rows), _MOST_POOL_BATCHES), 1)


def _cut(
    ordered: Sequence[int], lengths: Sequence[int], batch_size: int | None, batch_tokens: int | None
) -> Iterator[list[int]]:
    """Consecutive batches of indices that are sorted by descending length."""
    if batch_size is not None:
        for start in range(0, len(ordered), batch_size):
            yield list(ordered[start : start + batch_size])
        return
    batch: list[int] = []
    longest = 0
    for index in ordered:
        if batch and (len(batch) + 1) * longest > (batch_tokens or 0):
            yield batch
            batch = []
        if not batch:
            longest = lengths[index]
        batch.append(index)
    if batch:
        yield batch
