"""What people see of an object or a size: one short line."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

LONGEST = 160
"""Letters of the whole line."""
_LONGEST_VALUE = 60
_PLAIN = (str, int, float, os.PathLike)


def in_short(*names: str) -> Callable[[Any], str]:
    """A `__repr__` that shows these attributes alone, as in "Manifest(kind='causal-lm', backbone='gpt2')".

    Args:
        names: attributes, or ways to them, as in "method.kind", which is shown as method; another name stands before an
            equals sign, as in "layers=contract.layers". Without any, the fields of a block that are plain values.
    """
    ways = [(label or way.partition(".")[0], way) for label, _, way in (name.rpartition("=") for name in names)]

    def shown(self: Any) -> str:
        pairs = [(label, _reached(self, way)) for label, way in ways] or [
            (name, value) for name, value in _fields(self) if _is_plain(value)
        ]
        text = f"{type(self).__name__}({', '.join(f'{name}={_short(value)}' for name, value in pairs)})"
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 2]}…)"

    return shown


def _reached(found: Any, name: str) -> Any:
    for piece in name.split("."):
        found = getattr(found, piece)
    return found() if callable(found) else found


def _fields(found: Any) -> Iterable[tuple[str, Any]]:
    """The fields that were given, of a block of settings; those with a default say nothing."""
    given = getattr(found, "model_fields_set", None)
    return [(name, getattr(found, name)) for name in type(found).model_fields if given is None or name in given]


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and isinstance(value[0], _PLAIN)
    return isinstance(value, _PLAIN) and value != ""


def _short(value: Any) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, Mapping):
        value = list(value)
    text = f"{value:.4g}" if isinstance(value, float) else " ".join(repr(value).split())
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def readable_bytes(size_bytes: int) -> str:
    """1,234,567 as 1.23 MB."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.3g} {unit}"
    return f"{size_bytes} bytes"
