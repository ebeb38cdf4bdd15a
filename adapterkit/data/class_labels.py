"""Class numbers of `datasets` as the names that they stand for."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import ClassLabel

from adapterkit.errors import DataError


def labels_by_name(features: Mapping[str, Any] | None) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that puts names where a row has class numbers, also inside lists and structures.

    -1 is `datasets`' sign for a missing label and becomes None. Numbers stay where the names are only the numbers
    written out ("0", "1", …), because then they are positions, as in multiple choice.
    """
    naming = {name: one for name, feature in (features or {}).items() if (one := _naming(feature)) is not None}
    if not naming:
        return dict

    def named(row: dict[str, Any]) -> dict[str, Any]:
        return {name: naming[name](value) if name in naming else value for name, value in row.items()}

    return named


def _naming(feature: Any) -> Callable[[Any], Any] | None:
    if isinstance(feature, ClassLabel):
        names = list(feature.names or [])
        if names == [str(position) for position in range(len(names))]:
            return None
        return lambda value: _name_of(value, names)
    if isinstance(feature, dict):
        named = labels_by_name(feature)
        return None if named is dict else lambda value: named(value) if isinstance(value, dict) else value
    inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
    if inner is None or (one := _naming(inner)) is None:
        return None
    return lambda value: [one(item) for item in value] if isinstance(value, list) else value


def _name_of(value: Any, names: Sequence[str]) -> Any:
    if not isinstance(value, int):
        return value
    if value >= len(names):
        raise DataError(
            "A class number has no name",
            [f"found: {value}, expected less than {len(names)} ({', '.join(names[:5])}, …)"],
        )
    return names[value] if value >= 0 else None
