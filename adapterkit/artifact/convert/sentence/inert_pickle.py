"""A pickle of joblib's read as data. Nothing that it names is imported, and nothing that it calls is called.

`pickletools` reads the instructions' arguments; what they build here is numbers, texts, lists, arrays, and `Thing`s
where a pickle would build objects. So there is nothing in it that could run, whatever it says; and what it says is
bounded: steps, names, keys and shapes, so that a small file takes little memory and little time.
"""

import io
import math
import pickletools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapterkit.errors import ArtifactError

REMEDY = (
    "Save the head with joblib.dump(head, 'model_head.pkl') as SetFit does: one LogisticRegression, or one per label."
)
MOST_STEPS = 1_000_000
"""Instructions, and objects of arrays. A head of ten thousand labels has some hundred thousand."""
MOST_FOREIGN = 20
_WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"
_SCALAR = re.compile(r"numpy\.(core|_core)\.multiarray\.scalar")
_BUILT = re.compile(r"numpy\.(core|_core)\.multiarray\._reconstruct")
_TYPES = re.compile(r"[iuf][1248]|b1|U[1-9]\d{0,3}|O8?")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NAMES = """PROTO FRAME STOP MARK MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET EMPTY_LIST EMPTY_DICT EMPTY_TUPLE
    TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS GLOBAL STACK_GLOBAL NEWOBJ REDUCE BUILD NONE NEWTRUE
    NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES
    BINBYTES8"""
_INSTRUCTIONS = {
    each.code.encode("latin-1"): (each.name, each.arg and each.arg.reader)
    for each in pickletools.opcodes
    if each.name in _NAMES.split()
}


@dataclass(eq=False, slots=True)
class Thing:
    """What a pickle would import, or build by calling it: its name, what it would be given, the array it stands for."""

    of: str
    arguments: Any = None
    state: Any = None
    value: Any = None


def read_inert(raw: bytes, file: str, known: frozenset[str]) -> Any:
    """What a pickle holds.
    `file`: its name, for messages. `known`: names of classes that it may hold, beside numpy's arrays. Raises
    ArtifactError: it is damaged or compressed, has more than `MOST_STEPS` instructions, or names anything else."""
    reader, problem, found = _Reader(raw, known | {_WRAPPER, "numpy.ndarray", "numpy.dtype"}), "", None
    try:
        found = reader.run()
        problem = "more follows after its end" if reader.stream.read(1) else ""
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        problem = "it is compressed, or damaged: " + str(error)[:120]
    problems = [f"names {name}" for name in reader.foreign] or ([problem] if problem else [])
    if problems:
        raise ArtifactError(f"{file} cannot be read; nothing in it was run", [f"{file}: {p}" for p in problems], REMEDY)
    return found


class _Reader:
    """Goes through a pickle's instructions. Whatever they say, it takes a few steps and some bytes for each."""

    def __init__(self, raw: bytes, known: frozenset[str]) -> None:
        self.stream, self._known = io.BytesIO(raw), known
        self.foreign: dict[str, None] = {}
        self._left = MOST_STEPS

    def run(self, inside: bool = False) -> Any:
        """What the next pickle in the stream holds. `inside`: it is the objects of an array, which hold no array."""
        stack: list[Any] = []
        below: list[list[Any]] = []  # the stacks under the marks
        memo: dict[int, Any] = {}
        while (code := self.stream.read(1)) in _INSTRUCTIONS:
            self._spend(1)
            name, read = _INSTRUCTIONS[code]
            value: Any = read(self.stream) if read else _CONSTANTS.get(name)
            items: list[Any] = []
            if name in ("TUPLE", "APPENDS", "SETITEMS"):
                items, stack = stack, below.pop()
            match name:
                case "STOP":
                    return stack.pop()
                case "PROTO" | "FRAME":
                    pass
                case "MARK":
                    below.append(stack)
                    stack = []
                case "MEMOIZE" | "BINPUT" | "LONG_BINPUT":
                    memo[len(memo) if value is None else value] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[value])
                case "EMPTY_LIST" | "EMPTY_DICT":
                    stack.append([] if name == "EMPTY_LIST" else {})
                case "TUPLE" | "EMPTY_TUPLE":
                    stack.append(tuple(items))
                case "TUPLE1" | "TUPLE2" | "TUPLE3":
                    stack[-int(name[-1]) :] = [tuple(stack[-int(name[-1]) :])]
                case "APPEND" | "APPENDS":
                    items = items if name == "APPENDS" else [stack.pop()]
                    stack[-1].extend(items)
                case "SETITEM" | "SETITEMS":
                    items = items if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                    stack[-1].update(zip(map(_key, items[::2]), items[1::2], strict=True))
                case "GLOBAL" | "STACK_GLOBAL":
                    stack.append(self._named(*(value.split(" ") if value else (stack.pop(-2), stack.pop()))))
                case "NEWOBJ" | "REDUCE":
                    arguments, of = stack.pop(), stack.pop().of
                    number = self._array(arguments[1], arguments[0], ()) if _SCALAR.fullmatch(of) else None
                    stack.append(Thing(of, arguments, value=number))
                case "BUILD":
                    thing, thing.state = stack[-2], stack.pop()
                    self._fill(thing, inside)
                case _:
                    stack.append(value)
        raise ValueError(f"the instruction {code!r}" if code else "it has no end")

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise ValueError(f"more than {MOST_STEPS:,} instructions and objects")

    def _named(self, module: str, name: str) -> Thing:
        """A name, which is noted where it is a foreign one."""
        full = f"{module[:120]}.{name[:120]}"
        if not (full in self._known or _SCALAR.fullmatch(full) or _BUILT.fullmatch(full)):
            self.foreign[full[:120]] = None
            if len(self.foreign) == MOST_FOREIGN:
                raise ValueError("many names")
        return Thing(full)

    def _fill(self, thing: Thing, inside: bool) -> None:
        """Give an array its numbers; joblib puts them between the instructions, or a pickle of their own where they are
        objects."""
        state = thing.state
        if _BUILT.fullmatch(thing.of):
            thing.value = self._array(state[4], state[2], state[1], "F" if state[3] else "C")
        elif thing.of == _WRAPPER and _dtype(state["dtype"]).hasobject:
            if inside:
                raise ValueError("an array of arrays")
            thing.value = array_of(self.run(inside=True))
        elif thing.of == _WRAPPER:
            if state.get("numpy_array_alignment_bytes") is not None:
                self.stream.read(self.stream.read(1)[0])
            shape = _shape(state["shape"])
            content = self.stream.read(math.prod(shape) * _dtype(state["dtype"]).itemsize)
            thing.value = self._array(content, state["dtype"], shape, state["order"])

    def _array(self, content: Any, dtype: Thing, shape: Any, order: str = "C") -> np.ndarray[Any, Any]:
        kind = _dtype(dtype)
        if not kind.hasobject:
            return np.frombuffer(content, dtype=kind).reshape(_shape(shape), order="F" if order == "F" else "C")
        self._spend(len(content))
        if not all(isinstance(each, str) for each in content):
            raise TypeError("an array of objects that are no texts")
        return np.array(content, dtype=object).reshape(_shape(shape))  # not as wide as its longest text


def array_of(thing: Any) -> np.ndarray[Any, Any]:
    """The array that a thing stands for. Raises TypeError where it is none."""
    if not isinstance(getattr(thing, "value", None), np.ndarray):
        raise TypeError(f"a {type(thing).__name__} where an array is expected")
    found: np.ndarray[Any, Any] = thing.value
    return found


def _key(key: Any) -> Any:
    """A key of a dictionary, of a kind whose hash takes no time, no stack and no collisions."""
    if not (key is None or isinstance(key, str | Thing) or (isinstance(key, int) and abs(key) < 2**32)):
        raise TypeError(f"a {type(key).__name__} as a key")
    return key


def _shape(found: Any) -> tuple[int, ...]:
    if not (isinstance(found, tuple) and len(found) <= 4 and all(isinstance(n, int) and 0 <= n < 2**32 for n in found)):
        raise ValueError("an array of no shape")
    return found


def _dtype(thing: Thing) -> np.dtype[Any]:
    text, order = thing.arguments[0], thing.state[1] if thing.state else "|"
    if thing.of != "numpy.dtype" or not _TYPES.fullmatch(text):
        raise ValueError("numbers of another type than numpy's own")
    found: np.dtype[Any] = np.dtype(order + text if order in ("<", ">") else text)
    return found
