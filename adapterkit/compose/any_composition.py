"""What all compositions have in common: members, of which some answer. A file holds the very fields."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from adapterkit.recipe.settings import Many, Settings, refuse
from adapterkit.recipe.suggestions import did_you_mean

Text = Annotated[str, Field(min_length=1)]
Sources = dict[Text, Text] | Many[Text]
"""Name in the composition -> folder, hub id or mounted name. A list: the names are what is looked for."""


class AnyComposition(Settings):
    """What all compositions have in common."""

    members: Any
    """Name in the composition → what is looked for; or a list of these."""
    head: Text | None = None
    """The member whose head answers. null: the first member's, in a stack the last one's."""
    heads: Many[Text] | None = None
    """Several members whose heads answer, instead of head; an answer then is {member: answer}."""

    @property
    def sources(self) -> tuple[tuple[str, Any], ...]:
        """Name in the composition, and what is looked for, of each member."""
        given = self.members
        return tuple(given.items()) if isinstance(given, Mapping) else tuple((name, name) for name in given)

    @property
    def kind(self) -> str:
        """The name of its block in a file."""
        return type(self).__name__.lower()

    @property
    def names(self) -> list[str]:
        """Of the members, in their order."""
        return [name for name, _ in self.sources]

    @property
    def offered(self) -> list[str]:
        """The heads to choose from."""
        return self.names

    @property
    def chosen(self) -> tuple[str, ...]:
        """The members whose heads answer."""
        if self.heads is not None:
            return self.heads
        return (self.head,) if self.head is not None else tuple(self.offered[:1])

    @model_validator(mode="after")
    def _makes_sense(self) -> Any:
        problems = [("members", f"{name!r} stands there twice") for name in _twice(self.names)]
        if not self.names:
            problems.append(("members", "none; name at least one"))
        if self.head is not None and self.heads is not None:
            problems.append(("heads", "stands beside head; give one of the two"))
        elif self.heads == ():
            problems.append(("heads", "is empty; name at least one member"))
        problems += self.problems()
        if self.names and not _twice(self.names):
            field, names = "head" if self.heads is None else "heads", ", ".join(self.offered)
            problems += [
                (field, f"{name!r} is not a member; members are {names}{did_you_mean(name, self.offered)}")
                for name in self.chosen
                if name not in self.offered
            ]
            problems += [("heads", f"{name!r} stands there twice") for name in _twice(self.chosen)]
        refuse(problems)
        return self

    def problems(self) -> Iterator[tuple[str, str]]:
        """What is wrong with the fields of its own: (path, what)."""
        yield from ()


def weight_problems(names: list[str], weights: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Weights of what is no member, and members without one."""
    for name in sorted(weights.keys() - set(names)):
        yield f"weights.{name}", f"is not a member; members are {', '.join(names)}{did_you_mean(name, names)}"
    for name in names:
        if name not in weights:
            yield "weights", f"lacks {name!r}; write 0 to leave a member out"


def _twice(names: Any) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
