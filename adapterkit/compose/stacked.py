"""`stack`: adapters one on top of the other."""

from dataclasses import dataclass
from typing import Any, Protocol

from adapterkit.adapted import PREFIX
from adapterkit.artifact.updates import prefix_of
from adapterkit.backbone import Backbone
from adapterkit.compose.members import head_problems, heads_of, method_state, name_problems, open_members
from adapterkit.compose.mountable import Composition, Find, HeadState, MethodState, Mountable
from adapterkit.errors import CompositionError
from adapterkit.methods.table import method_of


class Stackable(Composition, Protocol):
    """A composition that can be a member of a stack.

    Attributes:
        heads: the members whose heads it offers.
    """

    @property
    def heads(self) -> tuple[str, ...]: ...

    def words(self) -> str:
        """The composition in one line."""
        ...


@dataclass(frozen=True)
class Stack:
    """Adapters one on top of the other: a composition. Made by `stack`.

    LoRAs on one linear read the same input, and their updates add. Bottlenecks at one sublayer apply in sequence: the
    second one reads what the first one has made.

    Attributes:
        members: (name in the composition, what is looked for or a composition) of each, the lowest first.
        heads: the members whose heads answer.

    Raises:
        CompositionError: with every problem.
    """

    members: tuple[tuple[str, str | Stackable], ...]
    heads: tuple[str, ...]

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise CompositionError("this stack makes no sense", problems)

    def words(self) -> str:
        """The composition in one line: `language, then task`."""
        return ", then ".join(
            name if isinstance(source, str) else f"({source.words()})" for name, source in self.members
        )

    def build(self, find: Find, backbone: Backbone) -> Mountable:
        """The members' methods in order, with the chosen heads. Raises CompositionError: a member that is not found, or
        DoRA or IA3 where another member changes the same linear; ContractError: a member of another backbone."""
        simple = {name: source for name, source in self.members if isinstance(source, str)}
        opened = open_members(simple, find, backbone)
        methods: list[tuple[str, MethodState]] = []
        heads: dict[str, HeadState] = heads_of([name for name in self.heads if name in opened], opened, self.words())
        reports: list[dict[str, Any]] = []
        for name, source in self.members:
            if isinstance(source, str):
                manifest = opened[name].manifest
                reports.append({"name": name, "method": manifest.method.words, "sha256": manifest.sha256})
                if manifest.method.attaches:
                    methods.append((name, method_state(opened[name])))
                continue
            inner = source.build(find, backbone)
            reports.append({"name": name, **inner.report})
            methods += [(name, own) for own in inner.methods]
            heads |= {head: inner.heads[head] for head in self.heads if head in inner.heads}
        _check_order_free(methods, backbone)
        report = {"composition": "stack", "words": self.words(), "members": reports, "heads": list(self.heads)}
        return Mountable(tuple(own for _, own in methods), {name: heads[name] for name in self.heads}, report)

    def _problems(self) -> list[str]:
        names = [name for name, _ in self.members]
        problems = name_problems(names)
        offered = [head for name, source in self.members for head in offered_by(name, source)]
        again = sorted({name for name in offered if offered.count(name) > 1 and names.count(name) < 2})
        problems += [f"members: two of them offer a head {name!r}; give one another name" for name in again]
        return problems + head_problems(self.heads, offered)


def offered_by(name: str, source: str | Stackable) -> tuple[str, ...]:
    """The heads that a member offers: its own, or those of a composition."""
    return (name,) if isinstance(source, str) else source.heads


def _check_order_free(methods: list[tuple[str, MethodState]], backbone: Backbone) -> None:
    """DoRA and IA3 rescale a linear, so beside another change of that linear it would matter which comes first.
    Raises CompositionError: with every such pair of members."""
    problems = []
    words = set()
    changed = [
        (name, own, _changed(own, backbone))
        for name, own in methods
        if not method_of(own.method).why_not_merged(own.method)
    ]
    for place, (name, own, paths) in enumerate(changed):
        for other, _, others in changed[:place] + changed[place + 1 :]:
            both = sorted(paths & others)
            word = method_of(own.method).rescales(own.method)
            if word and both:
                more = f" and {len(both) - 1} more" if len(both) > 1 else ""
                problems.append(f"{name}: {word} on {both[0]}{more}, which {other} changes too")
                words.add(word)
    if problems:
        raise CompositionError(
            f"{' and '.join(sorted(words))} cannot share a linear with another change of it",
            problems,
            "What rescales a linear was trained with that linear alone. Stack adapters of other sites, or plain LoRA.",
        )


def _changed(own: MethodState, backbone: Backbone) -> set[str]:
    """Linears whose weights a method changes, or whose biases."""
    prefix = prefix_of(own.config, backbone)
    biases = {name.removeprefix(PREFIX).removesuffix(".bias") for name in own.state if name.endswith(".bias")}
    return {path.removeprefix(prefix) for path in {*own.config["target_modules"], *biases}}
