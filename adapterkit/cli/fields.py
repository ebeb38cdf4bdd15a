"""`--epochs 5`: a field of the recipe, or a neighbour's name for one, written as an option."""

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

TRUTHS = ("true", "false")


class Fields(TyperCommand):
    """A verb of recipes whose words may hold fields as options; each becomes path=value, which is how they are set."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        return list(super().parse_args(ctx, as_overrides(args, own)))


def as_overrides(args: Sequence[str], own: set[str]) -> list[str]:
    """Words with every option that is a field in the form path=value; all others stay, such as the verb's `own`."""
    words: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        path = "" if option in own or not option.startswith("--") else _field(option[2:].replace("-", "_"))
        if not path:
            words.append(word)
            continue
        if not equals:
            follows = rest and (rest[0].lower() in TRUTHS if _is_switch(path) else not rest[0].startswith("--"))
            value = rest.pop(0) if follows else "true"
        words.append(f"{path}={value}")
    return words


def _field(name: str) -> str:
    """The path of a name that one block alone has, a neighbour's name itself, or ""."""
    if "." in name:
        return name
    from adapterkit.recipe.neighbours import NEIGHBOURS
    from adapterkit.recipe.problems import fields_of

    homes = [f"{block}.{name}".removeprefix(".") for block, fields in fields_of({}).items() if name in fields]
    if name in NEIGHBOURS:
        return name
    return homes[0] if len(homes) == 1 else ""


def _is_switch(path: str) -> bool:
    """Whether it stands alone, and the word behind it is the next one."""
    from adapterkit.recipe.neighbours import NEIGHBOURS
    from adapterkit.recipe.problems import is_switch

    neighbour = NEIGHBOURS.get(path)
    return is_switch(path) if neighbour is None else neighbour.switch or is_switch(neighbour.path)
