"""A pickle of joblib's read as data. Nothing that it names is imported, and nothing that it calls is called.

`pickletools` tells the instructions apart; what they build here is numbers, texts, lists and arrays, and `Thing`s where
a pickle would build objects. So there is nothing in it that could run, whatever it says.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from adapterkit.errors import ArtifactError

REMEDY = (
    "Save the head with joblib.dump(head, 'model_head.pkl'), as SetFit does: one LogisticRegression, or one per label."
)

_WRAPPER, _ARRAY, _TYPE = "joblib.numpy_pickle.NumpyArrayWrapper", "numpy.ndarray", "numpy.dtype"
_RECONSTRUCT = re.compile(r"numpy\.(_core|core)\.multiarray\._reconstruct")
_BUFFER = re.compile(r"numpy\.(_core|core)\.numeric\._frombuffer")
_SCALAR = re.compile(r"numpy\.(_core|core)\.multiarray\.scalar")
_TYPES = re.compile(r"[iuf][1248]|b1|U[1-9]\d{0,3}|O8?")
_PUSHED = frozenset(
    {
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)
_TAKE_MARKED = frozenset({"TUPLE", "LIST", "APPENDS", "SETITEMS"})
_OTHERS = frozenset(
    {
        *("PROTO", "FRAME", "MARK", "STOP", "MEMOIZE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET", "EMPTY_LIST"),
        *("EMPTY_DICT", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "SETITEM", "GLOBAL", "STACK_GLOBAL"),
        *("NEWOBJ", "REDUCE", "BUILD"),
    }
)
_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_INSTRUCTIONS: Mapping[bytes, tuple[str, Any]] = {
    each.code.encode("latin-1"): (each.name, each.arg and each.arg.reader)
    for each in pickletools.opcodes
    if each.name in {*_PUSHED, *_TAKE_MARKED, *_OTHERS, *_CONSTANTS}
}
"""Byte -> an instruction, and what reads its argument."""


T = TypeVar("T")


@dataclass(frozen=True)
class Name:
    """What a pickle would import."""

    full: str


@dataclass(eq=False)
class Thing:
    """What a pickle would build by calling something.

    Attributes:
        of: the name of what it would call.
        arguments: for the call.
        state: what it would be given afterwards.
        value: the array or number that it stands for; None for all others.
    """

    of: str
    arguments: tuple[Any, ...] = ()
    state: Any = None
    value: Any = None


@dataclass
class InertPickle:
    """Reads one pickle.

    Attributes:
        file: its name, for messages.
        known: names of classes that it may hold, beside numpy's arrays.
    """

    file: str
    known: frozenset[str]
    foreign: dict[str, None] = field(default_factory=dict)

    def read(self, raw: bytes) -> Any:
        """What the pickle holds.

        Raises:
            ArtifactError: it is damaged or compressed, or names anything else, with every such name.
        """
        if not raw.startswith(b"\x80"):
            raise self._refused("no pickle of today's protocols; it may be compressed")
        stream = io.BytesIO(raw)
        try:
            found = self._run(stream, nested=False)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
            if not self.foreign:
                raise self._refused(f"it is damaged: {str(error)[:120]}") from error
        if self.foreign:
            raise ArtifactError(
                f"{self.file} holds more than the numbers of a logistic regression",
                [f"{self.file}: names {name[:120]}" for name in list(self.foreign)[:20]],
                "Nothing of it was run. " + REMEDY,
            )
        if stream.read(1):
            raise self._refused("more follows after its end")
        return found

    def _refused(self, problem: str) -> ArtifactError:
        return ArtifactError(f"{self.file} cannot be read", [f"{self.file}: {problem}"], REMEDY)

    def _run(self, stream: io.BytesIO, *, nested: bool) -> Any:
        stack: list[Any] = []
        below: list[list[Any]] = []  # the stacks under the marks
        memo: dict[int, Any] = {}
        while (code := stream.read(1)) in _INSTRUCTIONS:
            name, read = _INSTRUCTIONS[code]
            value: Any = read(stream) if read else None
            marked: list[Any] = []
            if name in _TAKE_MARKED:
                marked, stack = stack, below.pop()
            if name in _PUSHED:
                stack.append(value)
            elif name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            elif name == "MARK":
                below.append(stack)
                stack = []
            elif name in ("MEMOIZE", "BINPUT", "LONG_BINPUT"):
                memo[len(memo) if name == "MEMOIZE" else value] = stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                stack.append(memo[value])
            elif name.startswith("EMPTY_"):
                stack.append({"EMPTY_LIST": [], "EMPTY_DICT": {}, "EMPTY_TUPLE": ()}[name])
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                stack[-int(name[-1]) :] = [tuple(stack[-int(name[-1]) :])]
            elif name in ("TUPLE", "LIST"):
                stack.append(tuple(marked) if name == "TUPLE" else marked)
            elif name in ("APPEND", "APPENDS"):
                items = marked if name == "APPENDS" else [stack.pop()]
                _of(list, stack[-1]).extend(items)
            elif name in ("SETITEM", "SETITEMS"):
                items = marked if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                _of(dict, stack[-1]).update(zip((_of(str, key) for key in items[::2]), items[1::2], strict=True))
            elif name in ("GLOBAL", "STACK_GLOBAL"):
                stack.append(self._named(value.split(" ") if name == "GLOBAL" else [stack.pop(-2), stack.pop()]))
            elif name in ("NEWOBJ", "REDUCE"):
                arguments, of = _of(tuple, stack.pop()), _of(Name, stack.pop())
                stack.append(_called(of.full, arguments))
            elif name == "BUILD":
                state = stack.pop()
                self._build(_of(Thing, stack[-1]), state, stream, nested)
            elif name == "STOP":
                return stack.pop()
        raise ValueError(f"the instruction {code!r}, which a head does not need" if code else "it has no end")

    def _named(self, parts: list[Any]) -> Name:
        full = ".".join(_of(str, part) for part in parts)
        numpys = any(pattern.fullmatch(full) for pattern in (_RECONSTRUCT, _BUFFER, _SCALAR))
        if full not in self.known and full not in (_WRAPPER, _ARRAY, _TYPE) and not numpys:
            self.foreign[full] = None
        return Name(full)

    def _build(self, thing: Thing, state: Any, stream: io.BytesIO, nested: bool) -> None:
        thing.state = state
        if _RECONSTRUCT.fullmatch(thing.of):
            _, shape, dtype, by_columns, content = state
            thing.value = _array(content, _dtype(dtype), shape, "F" if by_columns else "C")
        elif thing.of == _WRAPPER:
            dtype = _dtype(state["dtype"])
            if dtype.hasobject:
                if nested:
                    raise ValueError("arrays of objects in arrays of objects")
                thing.value = array_of(self._run(stream, nested=True))
                return
            if state.get("numpy_array_alignment_bytes") is not None:
                stream.read(stream.read(1)[0])
            content = stream.read(math.prod(_shape(state["shape"])) * dtype.itemsize)
            thing.value = _array(content, dtype, state["shape"], state["order"])


def array_of(value: Any) -> np.ndarray[Any, Any]:
    """The array that a thing stands for. Raises TypeError where it is none."""
    return _of(np.ndarray, _of(Thing, value).value)


def _called(of: str, arguments: tuple[Any, ...]) -> Thing:
    thing = Thing(of, arguments)
    if _BUFFER.fullmatch(of):
        content, dtype, shape, order = arguments
        thing.value = _array(content, _dtype(dtype), shape, order)
    elif _SCALAR.fullmatch(of):
        thing.value = _array(arguments[1], _dtype(arguments[0]), (), "C")
    return thing


def _dtype(thing: Any) -> np.dtype[Any]:
    text = _of(str, _of(Thing, thing).arguments[0])
    if thing.of != _TYPE or not _TYPES.fullmatch(text):
        raise ValueError(f"numbers of the type {text[:40]!r}")
    order = thing.state[1] if isinstance(thing.state, tuple) else "="
    return np.dtype(text if order not in ("<", ">") else order + text)


def _array(content: Any, dtype: np.dtype[Any], shape: Any, order: Any) -> np.ndarray[Any, Any]:
    if dtype.hasobject:
        flat = np.array([_of(str, each) for each in _of(list, content)], dtype=str)
    else:
        flat = np.frombuffer(content, dtype=dtype)
    return flat.reshape(_shape(shape), order="F" if order == "F" else "C")


def _shape(shape: Any) -> tuple[int, ...]:
    found = _of(tuple, shape)
    if any(type(size) is not int or size < 0 for size in found):
        raise ValueError("an array with sizes that are no numbers")
    return found


def _of(kind: type[T], value: Any) -> T:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} where a {kind.__name__} is expected")
    return value
