"""`stack`: adapters one on top of the other, compositions among them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from pydantic import model_validator

from adapterkit.adapted import PREFIX
from adapterkit.artifact.updates import prefix_of
from adapterkit.backbone import Backbone
from adapterkit.compose.any_composition import AnyComposition, Text
from adapterkit.compose.average import Average
from adapterkit.compose.members import heads_of, method_state, open_members
from adapterkit.compose.mountable import Find, HeadState, MethodState, Mountable
from adapterkit.compose.weighted import Weighted
from adapterkit.errors import CompositionError
from adapterkit.methods.table import method_of
from adapterkit.recipe.settings import Many, Settings, refuse


class Stack(AnyComposition):
    """Adapters one on top of the other, the lowest first.

    LoRAs on one linear read the same input, and their updates add. Bottlenecks at one sublayer apply in sequence: the
    second one reads what the first one has made.
    """

    members: dict[Text, Text | CompositionBlock] | Many[Text]
    """Name in the composition → folder, hub id, mounted name, or another one; or a list of names. The order counts."""

    @property
    def sources(self) -> tuple[tuple[str, str | Weighted | Average | Stack], ...]:
        """See `AnyComposition`; what is looked for may be a composition."""
        given = super().sources
        return tuple((name, each.given if isinstance(each, CompositionBlock) else each) for name, each in given)

    @property
    def offered(self) -> list[str]:
        """The heads of the members, and those that compositions among them have chosen."""
        return [head for name, source in self.sources for head in _offered_by(name, source)]

    @property
    def chosen(self) -> tuple[str, ...]:
        """The members whose heads answer: by itself the last one's."""
        if self.head is not None or self.heads is not None:
            return super().chosen
        return _offered_by(*self.sources[-1]) if self.sources else ()

    def words(self) -> str:
        """The composition in one line: `language, then task`."""
        return ", then ".join(
            name if isinstance(source, str) else f"({source.words()})" for name, source in self.sources
        )

    def build(self, find: Find, backbone: Backbone) -> Mountable:
        """The members' methods in order, with the chosen heads. Raises CompositionError: a member that is not found, or
        DoRA or IA3 where another member changes the same linear; ContractError: a member of another backbone."""
        simple = {name: source for name, source in self.sources if isinstance(source, str)}
        opened = open_members(simple, find, backbone)
        methods: list[tuple[str, MethodState]] = []
        heads: dict[str, HeadState] = heads_of([name for name in self.chosen if name in opened], opened, self.words())
        reports: list[dict[str, Any]] = []
        for name, source in self.sources:
            if isinstance(source, str):
                manifest = opened[name].manifest
                reports.append({"name": name, "method": manifest.method.words, "sha256": manifest.sha256})
                if manifest.method.attaches:
                    methods.append((name, method_state(opened[name])))
                continue
            inner = source.build(find, backbone)
            reports.append({"name": name, **inner.report})
            methods += [(name, own) for own in inner.methods]
            heads |= {head: inner.heads[head] for head in self.chosen if head in inner.heads}
        _check_order_free(methods, backbone)
        report = {"composition": "stack", "words": self.words(), "members": reports, "heads": list(self.chosen)}
        return Mountable(tuple(own for _, own in methods), {name: heads[name] for name in self.chosen}, report)

    def problems(self) -> Iterator[tuple[str, str]]:
        """See `AnyComposition`."""
        if len({*self.names}) == len(self.names):
            for name in sorted({name for name in self.offered if self.offered.count(name) > 1}):
                yield "members", f"two of them offer a head {name!r}; give one another name"


class CompositionBlock(Settings):
    """One composition: exactly one of its blocks is there."""

    weighted: Weighted | None = None
    """Σ w·ΔW of LoRA adapters, exactly or approximated at a rank."""
    average: Average | None = None
    """The mean of the parameters of adapters that are built alike."""
    stack: Stack | None = None
    """Adapters one on top of the other."""

    @property
    def given(self) -> Weighted | Average | Stack:
        """The composition of the block that is there."""
        found = self.weighted or self.average or self.stack
        return cast(Weighted | Average | Stack, found)  # of which one is there

    @model_validator(mode="after")
    def _is_one(self) -> CompositionBlock:
        given = [name for name in BLOCKS if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none"
            refuse([("", f"{found}, expected exactly one of {', '.join(BLOCKS)}")])
        return self


BLOCKS: dict[str, type[AnyComposition]] = {"weighted": Weighted, "average": Average, "stack": Stack}


def _offered_by(name: str, source: str | Weighted | Average | Stack) -> tuple[str, ...]:
    """The heads that a member offers: its own, or those of a composition."""
    return (name,) if isinstance(source, str) else source.chosen


def _check_order_free(methods: list[tuple[str, MethodState]], backbone: Backbone) -> None:
    """DoRA and IA3 rescale a linear, so beside another change of that linear it would matter which comes first.
    Raises CompositionError: with every such pair of members."""
    problems = []
    words = set()
    changed = []
    for name, own in methods:
        if not method_of(own.method).why_not_merged(own.method):
            prefix = prefix_of(own.config, backbone)
            biases = {key.removeprefix(PREFIX).removesuffix(".bias") for key in own.state if key.endswith(".bias")}
            paths = {path.removeprefix(prefix) for path in {*own.config["target_modules"], *biases}}
            changed.append((name, own, paths))
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
