"""Settings by kind: adapterkit's own, and those that installed packages bring through an entry point.

An entry point names a settings class in a module that imports no torch. Nothing is installed, downloaded or looked up
under any other name: a kind that an artifact or a recipe names is one of ours, or the name of an entry point of a
package that stands in this environment.
"""

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from adapterkit.errors import PluginError
from adapterkit.recipe.settings import SettingsError
from adapterkit.recipe.suggestions import did_you_mean, one_of

B = TypeVar("B", bound=BaseModel)

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_LONGEST_SHOWN = 60

logger = logging.getLogger("adapterkit")


class SettingsTable(Mapping[str, type[B]], Generic[B]):
    """Kind -> settings class. Iterates over all that can be used, ours first.

    A package that takes one of our names, or that cannot be used, is told of once in a warning and left out.
    """

    def __init__(self, what: str, base: type[B], own: Mapping[str, type[B]]) -> None:
        """
        Args:
            what: "method" or "head"; the entry points' group is adapterkit.methods or adapterkit.heads.
            base: what every settings class derives from, besides implementing `implementation`.
            own: those that come with adapterkit.
        """
        self.what = what
        self.group = f"adapterkit.{what}s"
        self.base = base
        self.own = own

    def __getitem__(self, kind: str) -> type[B]:
        """The settings of a kind.

        Raises PluginError: nobody brings it, or the package that does cannot be used; says why.
        """
        if kind in self.own:
            return self.own[kind]
        points = self._points().get(kind, ())
        if not points:
            raise PluginError(
                f"{kind!r:.{_LONGEST_SHOWN}} is no {self.what} of adapterkit, and no installed package brings it",
                [f"{self.group}: no entry point {kind!r:.{_LONGEST_SHOWN}}"],
                "Install the package that brings it, if you trust its authors: its code will run on this machine.",
            )
        problem = ""
        if len(points) > 1:
            problem = f"{' and '.join(map(package_of, points))} both bring it"
        else:
            found, problem = self._load(points[0])
        if problem:
            raise PluginError(
                f"the {self.what} {kind!r} of {package_of(points[0])} cannot be used",
                [f"{self.group}: {kind} = {points[0].value}: {problem}"],
                "Repair or uninstall the package.",
            )
        return found

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        for kind in sorted(self._points()):
            try:
                self[kind]
            except PluginError as error:
                _warn(" ".join([error.summary, *error.problems]))
            else:
                yield kind

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def load(self, settings: B, base: type, attribute: str = "implementation") -> Any:
        """What the settings of another package name, which may import torch.

        Args:
            base: what it is an instance of.
            attribute: of the settings' class: "package.module:name".

        Raises:
            PluginError: it cannot be imported, or is something else.
        """
        block = type(settings)
        reference = getattr(block, attribute)
        module, _, name = reference.partition(":")
        found, problem = None, ""
        try:
            found = getattr(import_module(module), name)
        except Exception as error:  # noqa: BLE001 - it is another package's code
            problem = f"{type(error).__name__}: {error}"
        if not problem and not isinstance(found, base):
            problem = f"found {found!r:.80}, expected an instance of a class that derives from {base.__name__}"
        if problem:
            kind = block.model_fields["kind"].default
            raise PluginError(
                f"the {self.what} {kind!r} of {self.package(kind) or block.__module__} cannot be used",
                [f"{block.__name__}.{attribute} = {reference!r}: {problem}"],
                "Repair or uninstall the package.",
            )
        return found

    def package(self, kind: str) -> str:
        """Who brings a kind, with its version, for messages."""
        return "adapterkit" if kind in self.own else " and ".join(map(package_of, self._points().get(kind, ())))

    def _points(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        return _named(self.group, frozenset(self.own), tuple(sys.path))

    def _load(self, point: EntryPoint) -> tuple[type[B], str]:
        """The settings class, and what is wrong with it."""
        try:
            found = point.load()
        except Exception as error:  # noqa: BLE001 - it is another package's code
            return self.base, f"{type(error).__name__}: {error}"
        if not (isinstance(found, type) and issubclass(found, self.base)):
            return self.base, f"found {found!r:.80}, expected a class that derives from {self.base.__name__}"
        kind = found.model_fields["kind"].default
        if kind != point.name:
            return self.base, f'{found.__name__}.kind: found {kind!r:.40}, expected Literal["{point.name}"] as default'
        for name, needed in (("implementation", True), ("packer", False)):
            reference = getattr(found, name, "")
            if not isinstance(reference, str) or (_REFERENCE.fullmatch(reference) is None and (needed or reference)):
                shown = f"{found.__name__}.{name}: found {reference!r:.80}"
                return self.base, f'{shown}, expected "package.module:name"'
        return found, ""


def package_of(point: EntryPoint) -> str:
    """The name and version of the package that an entry point is of."""
    return "an unnamed package" if point.dist is None else f"{point.dist.name} {point.dist.version}"


@lru_cache(maxsize=8)
def _named(group: str, own: frozenset[str], path: tuple[str, ...]) -> Mapping[str, tuple[EntryPoint, ...]]:
    """The entry points of a group by name, without our own names; looked for again where packages' `path` changes."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=group):
        if point.name in own:
            _warn(f"{package_of(point)} brings {group}: {point.name}, which is adapterkit's own name; it is not used")
        else:
            found[point.name] = (*found.get(point.name, ()), point)
    return found


@cache
def _warn(message: str) -> None:
    logger.warning(message)


@dataclass(frozen=True)
class OfKind(Generic[B]):
    """Marks a field that holds a block whose `kind` says which class of a table it is."""

    table: SettingsTable[B]
    default: str = ""
    """The kind of a block that does not say one; "" where it must."""

    def __call__(self, value: Any) -> B:
        """The block that a mapping describes. Raises SettingsError for a kind that nobody brings."""
        base = self.table.base
        if isinstance(value, base):
            return value
        if not isinstance(value, Mapping):
            raise PydanticKnownError("model_type", {"class_name": base.__name__})
        kind = value.get("kind", self.default or None)
        if kind is None and "kind" not in value:
            raise SettingsError([("kind", f"is missing; expected {one_of(self.table)}")])
        if not isinstance(kind, str) or kind not in self.table:
            raise SettingsError([("kind", self._refusal(kind))])
        return self.table[kind].model_validate(value)

    def _refusal(self, kind: object) -> str:
        shown = f"found {kind!r:.{_LONGEST_SHOWN}}"
        if not isinstance(kind, str):
            return f"{shown}, expected {one_of(self.table)}"
        if problem := self._broken(kind):
            return f"{shown}, which cannot be used: {problem}"
        name = f"{kind!r:.{_LONGEST_SHOWN}}"
        brought = f"or a package with the entry point {name} in {self.table.group}"
        return f"{shown}, expected {one_of(self.table)} ({brought}){did_you_mean(kind, self.table)}"

    def _broken(self, kind: str) -> str:
        try:
            self.table[kind]
        except PluginError as error:
            return "" if not self.table.package(kind) else error.problems[0]
        return ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        blocks = dict.fromkeys(self.table.values())
        return handler(core_schema.union_schema([block.__pydantic_core_schema__ for block in blocks]))
