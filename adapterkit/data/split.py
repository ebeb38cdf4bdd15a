"""A validation share, split off training rows."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from adapterkit.data.rows import Row, Rows, RowStream, canonical
from adapterkit.errors import DataError


def split_validation(
    rows: Rows, share: float, seed: int = 0, stratify_by: str | Callable[[Row], Any] | None = None
) -> tuple[Rows, Rows]:
    """Split rows into (train, validation), both in file order and with their numbers.

    Which rows go depends on their content and the seed alone: not on their order, nor on which other classes there
    are beyond the rounding of the quotas. Identical rows stay together, so that none is trained on and validated on.

    Each class gives its share, rounded so that the whole comes out at `round(share · rows)` where the classes allow it
    (largest remainder). A class with one row stays in training whole, and every class keeps one row there.

    Args:
        share: of all rows, above 0 and below 1.
        stratify_by: a column, or a function of a row, whose value is the class; None for one class. A list of labels
            is one class per combination. Do not stratify by numbers of a regression.

    Raises:
        DataError: a share out of range, or so small (or classes so small) that no row would be left for validation.
    """
    _check_share(share)
    groups: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, row in enumerate(rows):
        found = stratify_by(row) if callable(stratify_by) else None if stratify_by is None else row.get(stratify_by)
        groups[canonical(found)][_rank(row, seed)].append(index)
    sizes = {name: sum(map(len, members.values())) for name, members in groups.items()}
    chosen: set[int] = set()
    for name, quota in _quotas(sizes, share).items():
        left = quota
        for _, members in sorted(groups[name].items()):
            if len(members) <= left:
                chosen.update(members)
                left -= len(members)
    if not chosen:
        raise DataError(
            f"{rows.source}: no row is left for validation",
            [
                f"found: {len(rows):,} rows in {len(sizes):,} classes, a share of {share}",
                _why_none(share, sizes, {name: list(map(len, found.values())) for name, found in groups.items()}),
            ],
            "Name a validation file (data.validation=path), raise the share, or go without (data.validation=null).",
        )
    everything = range(len(rows))
    return rows.select(i for i in everything if i not in chosen), rows.select(i for i in everything if i in chosen)


def _why_none(share: float, sizes: dict[str, int], alike: dict[str, list[int]]) -> str:
    """Why a share of such classes is no row; `alike`: class -> how many rows are alike, for each different row."""
    if max(sizes.values()) == 1:
        return "every class has one row, which training keeps"
    wanted = _quotas(sizes, share)
    if not any(wanted.values()):
        return f"{share} of {sum(sizes.values()):,} rows is less than one row"
    different = sum(map(len, alike.values()))
    fewest = min(min(alike[name]) for name, quota in wanted.items() if quota)
    return (
        f"the different rows number {different:,} only: those that are alike stay on one side, and the smallest such"
        f" group has {fewest:,} rows, where the share has room for {max(wanted.values()):,}"
    )


def split_stream(stream: RowStream, share: float, seed: int = 0) -> tuple[RowStream, RowStream]:
    """Split a stream into (train, validation) by each row's content, without a look at the others.

    Not stratified, and the share holds only on average. Raises DataError: a share out of range."""
    _check_share(share)
    limit = int(share * 2**64)

    def is_validation(row: Row) -> bool:
        return int(_rank(row, seed)[:16], 16) < limit

    train = stream.where(lambda _, row: not is_validation(row))
    return train, stream.where(lambda _, row: is_validation(row))


def _check_share(share: float) -> None:
    if not 0.0 < share < 1.0:
        raise DataError("The validation share is out of range", [f"found: {share}", "expected: above 0 and below 1"])


def _rank(row: Row, seed: int) -> str:
    """A number in hexadecimal, as good as random, that the row's content and the seed decide."""
    return hashlib.sha256(f"{seed}\n{canonical(row)}".encode("utf-8", "surrogatepass")).hexdigest()


def _quotas(sizes: dict[str, int], share: float) -> dict[str, int]:
    """Validation rows per class: the exact share rounded down, then one more by the largest remainder."""
    exact = {name: min(share * size, size - 1.0) for name, size in sizes.items()}
    quotas = {name: math.floor(value) for name, value in exact.items()}
    wanted = math.floor(share * sum(sizes.values()) + 0.5)
    by_remainder = sorted(exact, key=lambda name: (quotas[name] - exact[name], name))
    for name in by_remainder:
        if sum(quotas.values()) >= wanted:
            break
        if quotas[name] + 1 <= sizes[name] - 1:
            quotas[name] += 1
    return quotas
