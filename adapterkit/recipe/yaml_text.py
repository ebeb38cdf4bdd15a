"""Read YAML without surprises: the plain subset that a recipe needs, with the line of every value.

What differs from PyYAML's own loader, and why:

- `1e-3` is a number and `no`, `on` and `2026-01-01` are text, as YAML 1.2 has them;
- a key that stands twice is refused, instead of the last one winning;
- keys are text, numbers are finite;
- anchors, aliases, tags, many documents and deep nesting are refused, so that no file can be larger in memory than on
  disk, or name a Python object.
"""

import math
import pathlib
import re
from typing import Any, NamedTuple

import yaml

from adapterkit.errors import AdapterkitError

LARGEST_TEXT_BYTES = 200_000
DEEPEST = 32
LONGEST_NUMBER = 40

_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF|nan|NaN|NAN)\Z")

Path = tuple[str | int, ...]


class YamlError(ValueError):
    """Text that is not the YAML of a recipe. Its message begins with the position, if there is one."""


class Parsed(NamedTuple):
    """A value, and the line (from 1) on which each value inside it was written."""

    value: Any
    lines: dict[Path, int]


def read_yaml(path: pathlib.Path, name: str, what: str, refused: type[AdapterkitError]) -> Parsed:
    """A file that holds one YAML document: a `what`, which errors call `name`.

    Raises what shall be `refused`: too large, not readable, not UTF-8, or not such YAML.
    """
    try:
        if path.stat().st_size > LARGEST_TEXT_BYTES:
            raise refused(f"{name} is larger than {LARGEST_TEXT_BYTES:,} bytes; a {what} has a few thousand at most")
        return parse_yaml(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise refused(f"{name} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise refused(f"{name} is not UTF-8 text (byte {error.start})", (), "Save it as UTF-8.") from error
    except YamlError as error:
        raise refused(f"{name} is not the YAML of a {what}", [str(error)], "Correct it there.") from error


def parse_yaml(text: str) -> Parsed:
    """Parse one YAML document of plain values.

    Raises YamlError: a syntax error, a key that stands twice or is no text, a number that is not finite, or a feature
    that recipes do not have; with line and column.
    """
    if len(text.encode("utf-8", "surrogatepass")) > LARGEST_TEXT_BYTES:
        raise YamlError(f"is larger than {LARGEST_TEXT_BYTES:,} bytes; a recipe has a few thousand")
    try:
        root = yaml.compose(text, Loader=_Plain)
    except yaml.composer.ComposerError as error:
        raise YamlError(f"{_position(error.problem_mark)}a second document begins; a recipe is one") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(f"{_position(mark)}{error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(f"line {line}: holds a character that YAML does not allow") from error
    lines: dict[Path, int] = {}
    return Parsed(None if root is None else _value(root, (), lines), lines)


def write_yaml(value: Any) -> str:
    """The text that `parse_yaml` reads as `value`. PyYAML alone would leave the text 1e3 without quotes."""
    return yaml.dump(value, Dumper=_Quoting, sort_keys=False, allow_unicode=True, width=110)


class _Quoting(yaml.SafeDumper):
    """Puts text in quotes where YAML 1.2 sees a number."""

    def represent_str(self, text: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, "'" if _FLOAT.match(text) else None)


_Quoting.add_representer(str, _Quoting.represent_str)


class _Plain(yaml.SafeLoader):
    """Composes nodes of plain values alone."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        position = _position(event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            raise YamlError(f"{position}an alias (*{event.anchor}); write the value out")
        if event.anchor is not None:
            raise YamlError(f"{position}an anchor (&{event.anchor}); write the value out where it is needed")
        if event.tag is not None:
            raise YamlError(f"{position}a tag ({event.tag}); a recipe holds plain values only")
        if self._depth == DEEPEST and not isinstance(event, yaml.ScalarEvent):
            raise YamlError(f"{position}nested deeper than {DEEPEST} levels; a recipe has 3")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _value(node: Any, path: Path, lines: dict[Path, int]) -> Any:
    """What a node holds; notes the lines of it and of all inside."""
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [_value(inner, (*path, place), lines) for place, inner in enumerate(node.value)]
    found: dict[str, Any] = {}
    for name, inner in node.value:
        position = _position(name.start_mark)
        if not isinstance(name, yaml.ScalarNode):
            raise YamlError(f"{position}a key is a list or a mapping; expected text")
        key = _scalar(name)
        if not isinstance(key, str):
            raise YamlError(f'{position}the key {name.value!r} is not text; put it in quotes: "{name.value}"')
        own = (*path, key)
        if key in found:
            raise YamlError(f"{position}{'.'.join(map(str, own))} stands twice, first on line {lines[own]}")
        lines[own] = name.start_mark.line + 1
        found[key] = _value(inner, own, lines)
    return found


def _scalar(node: yaml.ScalarNode) -> Any:
    text, position = str(node.value), _position(node.start_mark)
    if node.style:  # in quotes, or a block of text
        return _whole(text, position)
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text[0] in "tT"
    if _NOT_FINITE.match(text):
        raise YamlError(f"{position}{text} is not a finite number")
    if not _FLOAT.match(text):
        return text
    if len(text) > LONGEST_NUMBER:
        raise YamlError(f"{position}a number of {len(text)} characters; put it in quotes if it is text")
    if _INT.match(text):
        return int(text)
    if not math.isfinite(float(text)):
        raise YamlError(f"{position}{text} is too large for a number")
    return float(text)


def _whole(text: str, position: str) -> str:
    r"""Text in which \ud83d\ude00, JSON's way to write one character as two halves, is one again."""
    try:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError as error:
        raise YamlError(f"{position}half a character (a lone surrogate)") from error


def _position(mark: Any) -> str:
    return "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
