"""Columns by name: which column of a file holds which canonical column."""

from collections.abc import Collection, Mapping, Sequence

from adapterkit.data.rows import Row
from adapterkit.errors import DataError
from adapterkit.recipe.columns import Column
from adapterkit.recipe.suggestions import did_you_mean


def find_columns(present: Collection[str], asked: Mapping[str, str], needs: Mapping[str, Column]) -> dict[str, str]:
    """Canonical name -> the column that holds it, for those that exist.

    The order for one canonical column: what `asked` says (of columns that are there); a column of the canonical name;
    the first of the need's aliases that exists and that no other canonical column claims. Where no column has exactly
    that name, one counts that differs from it in case alone ("Text").
    """
    matched = dict(asked)
    for names in ([(name, (name,)) for name in needs], [(name, need.aliases) for name, need in needs.items()]):
        for name, aliases in names:
            if name not in matched:
                found = (column for alias in aliases if (column := _like(alias, present, matched)) is not None)
                if (column := next(found, None)) is not None:
                    matched[name] = column
    return matched


def match_columns(
    present: Sequence[str],
    asked: Mapping[str, str],
    needs: Mapping[str, Column] | None = None,
    source: str = "the data",
) -> dict[str, str]:
    """Find the file's column for every canonical column, in the order of `find_columns`.

    Args:
        present: the file's columns.
        asked: canonical name -> file's column, as the user wrote it (recipe field `data.columns`).
        needs: canonical name -> need, as the task declares it; None accepts any canonical name.
        source: the file, as errors name it.

    Returns:
        canonical name -> file's column, for the columns that exist.

    Raises:
        DataError: a column asked for or required does not exist, or a canonical name is not one of the task's;
            all at once, each with the nearest name.
    """
    problems: list[str] = []
    matched: dict[str, str] = {}
    for name, column in asked.items():
        if needs is not None and name not in needs:
            problems.append(
                f"columns.{name}: the task has no such column; it has {', '.join(needs)}{did_you_mean(name, needs)}"
            )
        elif column not in present:
            problems.append(f"columns.{name}: no column {column!r}{did_you_mean(column, present)}")
        else:
            matched[name] = column
    open_needs = {name: need for name, need in (needs or {}).items() if name not in asked}
    matched = find_columns(present, matched, open_needs)
    problems += [
        f"{name}: required, but there is no column of that name{did_you_mean(name, present)}"
        for name, need in open_needs.items()
        if need.required and name not in matched and matched.keys().isdisjoint(need.instead)
    ]
    if problems:
        raise DataError(
            f"{source} does not have the columns that are needed ({len(problems)} "
            f"{'problem' if len(problems) == 1 else 'problems'})",
            [*problems, f"columns found: {', '.join(map(repr, present)) or 'none'}"],
            "Name the file's columns: data.columns={canonical name: column of the file}",
        )
    return matched


def _like(name: str, present: Collection[str], taken: Mapping[str, str]) -> str | None:
    """The free column of this name, or the only one that differs from it in case alone."""
    free = [column for column in present if column not in taken.values()]
    if name in free:
        return name
    # Rows in memory may have a number for a column's name, which is no name of ours.
    alike = [column for column in free if isinstance(column, str) and column.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None


def overlooked(present: Sequence[str], matched: Mapping[str, str], needs: Mapping[str, Column]) -> dict[str, str]:
    """Columns that are not read though their names are usual for something that the task reads.

    Args:
        present: the columns of the rows.
        matched: canonical name -> column, as `match_columns` gave it.

    Returns:
        column -> the canonical column that it is usual for.
    """
    usual: dict[str, str] = {}
    for name, need in needs.items():
        for alias in (name, *need.aliases):
            usual.setdefault(alias.casefold(), name)
    read = {*matched, *matched.values()}
    return {column: usual[column.casefold()] for column in present if column not in read and column.casefold() in usual}


def rename(row: Row, matched: Mapping[str, str]) -> Row:
    """A row under canonical names. Columns without one keep theirs, unless a canonical name takes it: that one wins."""
    renamed = {name: row.get(column) for name, column in matched.items()}
    used = set(matched.values())
    for column, value in row.items():
        if column not in used and column not in renamed:
            renamed[column] = value
    return renamed
