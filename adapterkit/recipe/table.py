"""Settings by kind: adapterkit's own, and those that installed packages bring through an entry point.

An entry point names a settings class in a module that imports no torch. Nothing is installed, downloaded or looked up
under any other name: a kind that an artifact or a recipe names is one of ours, or the name of an entry point of a
package that stands in this environment.
"""

import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
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
        where = f"{self.group}: {kind} = {points[0].value}"
        if len(points) > 1:
            raise self._useless(kind, f"{where}: {self.package(kind)} both bring it")
        derives = f"a class that derives from {self.base.__name__}"
        found = self._imported(
            kind, where, points[0].load, derives, lambda it: isinstance(it, type) and issubclass(it, self.base)
        )
        if problem := _misfit(found, kind):
            raise self._useless(kind, f"{where}: {problem}")
        settings: type[B] = found
        return settings

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
        `base`: what it is an instance of. `attribute`: of the settings' class: "package.module:name". Raises
        PluginError: it cannot be imported, or is something else."""
        block = type(settings)
        reference = getattr(block, attribute)
        module, _, name = reference.partition(":")
        return self._imported(
            block.model_fields["kind"].default,
            f"{block.__name__}.{attribute} = {reference!r}",
            lambda: getattr(import_module(module), name),
            f"an instance of a class that derives from {base.__name__}",
            lambda it: isinstance(it, base),
        )

    def _imported(
        self, kind: str, where: str, load: Callable[[], Any], expected: str, fits: Callable[[Any], bool]
    ) -> Any:
        """What another package's code gives, where it is what is expected."""
        try:
            found = load()
        except Exception as error:
            raise self._useless(kind, f"{where}: {type(error).__name__}: {error}") from error
        if not fits(found):
            raise self._useless(kind, f"{where}: found {found!r:.80}, expected {expected}")
        return found

    def _useless(self, kind: str, problem: str) -> PluginError:
        summary = f"the {self.what} {kind!r} of {self.package(kind) or 'another package'} cannot be used"
        return PluginError(summary, [problem], "Repair or uninstall the package.")

    def package(self, kind: str) -> str:
        """Who brings a kind, with its version, for messages."""
        return "adapterkit" if kind in self.own else " and ".join(map(package_of, self._points().get(kind, ())))

    def _points(self) -> Mapping[str, tuple[EntryPoint, ...]]:
        return _named(self.group, frozenset(self.own), tuple(sys.path))


def _misfit(settings: Any, kind: str) -> str:
    """What is wrong with the settings class that an entry point names; "" where nothing is."""
    given = settings.model_fields["kind"].default
    if given != kind:
        return f'{settings.__name__}.kind: found {given!r:.40}, expected Literal["{kind}"] as default'
    for name, needed in (("implementation", True), ("packer", False)):
        reference = getattr(settings, name, "")
        if not isinstance(reference, str) or (_REFERENCE.fullmatch(reference) is None and (needed or reference)):
            return f'{settings.__name__}.{name}: found {reference!r:.80}, expected "package.module:name"'
    return ""


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
        try:
            self.table[kind]
        except PluginError as error:
            if self.table.package(kind):
                return f"{shown}, which cannot be used: {error.problems[0]}"
        name = f"{kind!r:.{_LONGEST_SHOWN}}"
        brought = f"or a package with the entry point {name} in {self.table.group}"
        return f"{shown}, expected {one_of(self.table)} ({brought}){did_you_mean(kind, self.table)}"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        blocks = dict.fromkeys(self.table.values())
        return handler(core_schema.union_schema([block.__pydantic_core_schema__ for block in blocks]))
