"""What every block of a recipe has in common."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from adapterkit.glance import in_short

T = TypeVar("T")

Many = Annotated[tuple[T, ...], Field(strict=False)]
"""A tuple that may be written as a list, which is all that YAML and JSON have."""


class Settings(BaseModel):
    """A block of a recipe: unknown keys, numbers written as text, NaN and infinity are refused.

    A block never changes after it was made; `model_copy(update=…)` does not validate, so build a new one.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    __repr__ = __str__ = in_short()

    def defaults(self) -> dict[str, Any]:
        """What its fields and those of its blocks are where nobody sets them; none for one that has to be set."""
        found = {}
        values = dict(self)
        for name, field in type(self).model_fields.items():
            value, default = values[name], field.get_default(call_default_factory=True, validated_data=values)
            if isinstance(value, Settings) and (field.is_required() or isinstance(default, Settings)):
                found[name] = value.defaults()
            elif not field.is_required():
                found[name] = default
        return found


class SettingsError(ValueError):
    """Fields that are right alone and wrong together.

    Attributes:
        problems: (path of the field inside the block, what is wrong and what was expected), every one found.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{path}: {problem}" for path, problem in problems))


def refuse(problems: Sequence[tuple[str, str]]) -> None:
    """Raise SettingsError if there is any problem."""
    if problems:
        raise SettingsError(problems)


def foreign(given: Iterable[str], owners: Mapping[str, Sequence[str]], own: str) -> list[tuple[str, str]]:
    """Those of the given fields that have owners, and not this one."""
    strange = sorted(name for name in given if name in owners and own not in owners[name])
    return [(name, f"belongs to {' and '.join(owners[name])}, not to {own}; remove it") for name in strange]


def twice(path: str, values: Sequence[Any]) -> list[tuple[str, str]]:
    """Values that stand more than once in a list."""
    found = sorted(repr(value) for value, count in Counter(values).items() if count > 1)
    return [(path, f"holds {', '.join(found)} more than once; name each once")] if found else []
