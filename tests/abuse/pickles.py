"""Damaged and hostile heads of SetFit: nothing in them runs, and what is accepted is what joblib reads of them."""

from __future__ import annotations

import io
import pickle
import pickletools
import random
import struct
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from joblib.numpy_pickle import NumpyUnpickler
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from adapterkit.artifact.convert.sentence.logistic import HEAD, LinearFacts, labels_of, read_logistic
from tests.abuse.artifacts import answered

NEAR = 1e-6
WIDTH, ROWS = 6, 12
VECTORS_ND = np.random.default_rng(0).normal(size=(ROWS, WIDTH))
NUMBERS = np.arange(ROWS) % 3
NAMES = np.array(["no", "perhaps", "yes"], dtype=object)
SEVERAL = np.stack([NUMBERS == 0, NUMBERS != 1, np.arange(ROWS) % 2 == 0], axis=1).astype(int)
WATCHED = {
    "os.system",
    "os.mkdir",
    "os.exec",
    "os.posix_spawn",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
}

_happened: list[str] = []
_watching: list[bool] = []


class Pickles:
    """A head is refused, or is the one that joblib reads where it may import these classes alone."""

    judged = True

    def __init__(self, folder: Path) -> None:
        heads = [
            LogisticRegression().fit(VECTORS_ND, NUMBERS),
            LogisticRegression().fit(VECTORS_ND, NAMES[NUMBERS]),
            OneVsRestClassifier(LogisticRegression()).fit(VECTORS_ND, SEVERAL),
        ]
        self._whole: list[bytes] = []
        for head in heads:
            file = io.BytesIO()
            joblib.dump(head, file)
            self._whole += [file.getvalue(), pickle.dumps(head, protocol=4)]
        if not _watching:
            sys.addaudithook(lambda event, _: _happened.append(event) if _watching[-1] and event in WATCHED else None)
            _watching.append(False)

    def attempt(self, number: int, folder: Path) -> str:
        whole, generator = self._whole[number % len(self._whole)], random.Random(number)
        act = BOMBS[number // 20 % len(BOMBS)] if number % 20 == 19 else generator.choice(ACTS)
        raw = act(whole, generator, folder / "touched")
        (folder / HEAD).write_bytes(raw)
        _happened.clear()
        _watching[-1] = True
        try:
            facts = answered(lambda: _read(folder))
        finally:
            _watching[-1] = False
        assert not _happened, f"{act.__name__}: {_happened[:5]}"
        assert not (folder / "touched").exists(), f"{act.__name__}: it ran"
        if facts is None:
            return "refused"
        assert act not in BOMBS, f"{act.__name__}: accepted"
        ours = shares(facts)
        try:
            theirs = by_joblib(raw)
        except Exception:  # noqa: BLE001 (what joblib says of it is not ours to judge)
            assert np.array_equal(ours, shares(_read_bytes(whole, folder))), f"{act.__name__}: joblib alone refuses it"
            return "as before, and joblib refuses it"
        assert np.allclose(ours, theirs, rtol=0, atol=NEAR, equal_nan=True), (
            f"{act.__name__}: joblib reads another head"
        )
        return "as joblib"


def _read(folder: Path) -> LinearFacts:
    facts = read_logistic(folder)
    labels_of(facts, list(map(str, NAMES)))
    return facts


def _read_bytes(raw: bytes, folder: Path) -> LinearFacts:
    (folder / HEAD).write_bytes(raw)
    return read_logistic(folder)


def shares(facts: LinearFacts) -> Any:
    """Probabilities of a linear head: of a softmax, or of a sigmoid for each label."""
    logits = VECTORS_ND @ facts.weight.double().numpy().T + facts.bias.double().numpy()
    with np.errstate(over="ignore"):
        if facts.problem == "multi-label":
            return 1 / (1 + np.exp(-logits))
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


class OfScikitLearn(NumpyUnpickler):  # type: ignore[misc]
    """joblib's own, which may import what such a head is made of."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.partition(".")[0], name) not in FOUND:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


FOUND = {
    *(("sklearn", name) for name in ("LogisticRegression", "OneVsRestClassifier", "LabelBinarizer")),
    *(("numpy", name) for name in ("_reconstruct", "scalar", "ndarray", "dtype")),
    ("joblib", "NumpyArrayWrapper"),
}


def by_joblib(raw: bytes) -> Any:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        stream = io.BytesIO(raw)
        head = OfScikitLearn("head", stream, ensure_native_byte_order=False).load()
        return head.predict_proba(VECTORS_ND)


def cut(raw: bytes, generator: random.Random, touched: Path) -> bytes:
    return raw[: generator.randrange(len(raw))]


def change_bytes(raw: bytes, generator: random.Random, touched: Path) -> bytes:
    changed = bytearray(raw)
    for _ in range(generator.choice([1, 1, 1, 4])):
        changed[generator.randrange(len(raw))] = generator.randrange(256)
    return bytes(changed)


def change_an_instruction(raw: bytes, generator: random.Random, touched: Path) -> bytes:
    """Another instruction in the place of one, with its argument or without, or beside it."""
    starts = [*_starts(raw), len(raw)]
    place = generator.randrange(len(starts) - 1)
    start, end = starts[place], starts[place + 1]
    code = generator.choice(pickletools.opcodes).code.encode("latin-1")
    piece = generator.choice([code + raw[start + 1 : end], code, raw[start:end] + code, b"", 2 * raw[start:end]])
    return raw[:start] + piece + raw[end:]


def run_something(raw: bytes, generator: random.Random, touched: Path) -> bytes:
    """Something that runs as soon as it is unpickled, before any instruction."""
    place = str(touched).encode()
    text = struct.pack("<I", len(place)) + place
    harm = generator.choice(
        [
            b"cos\nmkdir\nX" + text + b"\x85R0",
            b"X\x02\0\0\0osX\x05\0\0\0mkdir\x93X" + text + b"\x85R0",
            b"cpathlib\nPosixPath\nX" + text + b"\x85R}X\x05\0\0\0_drvX\0\0\0\0sb0",
            b"(X" + text + b"ios\nmkdir\n0",
            b"(cos\nmkdir\nX" + text + b"o0",
            b"cnumpy.core._internal\n_reconstruct\n(X" + text + b"tR0",
            b"cos\nmkdir\nX" + text + b"\x85\x810",
        ]
    )
    start = generator.choice(_starts(raw))
    return raw[:start] + harm + raw[start:]


def huge_counts(raw: bytes, generator: random.Random, touched: Path) -> bytes:
    """Lengths, shapes and places in the memo of which there is nothing."""
    many = generator.choice([2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1])
    short, long = struct.pack("<I", many & 0xFFFFFFFF), struct.pack("<Q", many)
    piece = generator.choice(
        [b"B" + short, b"X" + short, b"\x8e" + long, b"\x8d" + long, b"\x8b" + short, b"j" + short, b"r" + short,
         b"\x95" + long]
    )  # fmt: skip
    start = generator.choice(_starts(raw))
    return raw[:start] + piece + raw[start:]


def _starts(raw: bytes) -> list[int]:
    """Where instructions begin, as far as they can be told: joblib's numbers stand between them."""
    found = []
    try:
        for _, _, position in pickletools.genops(raw):
            found.append(position or 0)
    except ValueError:
        pass
    return found[1:]


ACTS: tuple[Callable[[bytes, random.Random, Path], bytes], ...] = (
    cut, change_bytes, change_bytes, change_an_instruction, change_an_instruction, run_something, huge_counts,
)  # fmt: skip

ARRAY = (  # an array of objects without its numbers: what builds it, its version, and its dtype
    b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R(K\x01"
    b"%s\x85cnumpy\ndtype\nX\x02\0\0\0O8\x89\x88\x87R(K\x03X\x01\0\0\0|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89"
)


def nested_key(raw: bytes, generator: random.Random, touched: Path) -> bytes:
    """A key whose hash would end the process: tuples in tuples."""
    return b"\x80\x04})" + b"\x85" * 150_000 + b"Ns."


def keys_of_one_hash(raw: bytes, generator: random.Random, touched: Path) -> bytes:
    prime = 2**61 - 1
    keys = ((n * prime).to_bytes(12, "little") for n in range(1, 30_000))
    return b"\x80\x04}(" + b"".join(b"\x8a\x0c" + key + b"N" for key in keys) + b"u."


def wide_texts(raw: bytes, generator: random.Random, touched: Path) -> bytes:
    """An array of one long text, many times: as wide as it is long in each."""
    text = b"X" + struct.pack("<I", 4_000_000) + b"a" * 4_000_000 + b"q\x01"
    content = b"](" + text + b"h\x01" * 2_000 + b"e"
    return b"\x80\x02" + ARRAY % b"M\xd1\x07" + content + b"tb."


def one_array_often(raw: bytes, generator: random.Random, touched: Path) -> bytes:
    """Many arrays of the same long list."""
    content = b"](" + b"X\x01\0\0\0aq\x01" + b"h\x01" * 65_000 + b"eq\x02"
    again = ARRAY % b"M\xe9\xfd" + b"h\x02tb"
    return b"\x80\x02" + content + again * 3_000 + b"N."


def arrays_in_arrays(raw: bytes, generator: random.Random, touched: Path) -> bytes:
    """joblib's wrapper, whose array is a pickle of its own, whose array is one again."""
    kind = b"cnumpy\ndtype\nX\x02\0\0\0O8\x89\x88\x87R"
    fields = b"}(X\x05\0\0\0shapeK\x01\x85X\x05\0\0\0dtype" + kind + b"u"
    return (b"\x80\x04cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81" + fields + b"b") * 2_000


def many_marks(raw: bytes, generator: random.Random, touched: Path) -> bytes:
    return b"\x80\x04" + b"(" * 8_000_000


def long_names(raw: bytes, generator: random.Random, touched: Path) -> bytes:
    """Names of every pair of long texts."""
    size = struct.pack("<I", 100_000)
    texts = b"".join(b"X" + size + bytes([97 + n]) * 100_000 + b"q" + bytes([n]) for n in range(20))
    return b"\x80\x04" + texts + b"".join(b"h%ch%c\x93" % (a, b) for a in range(20) for b in range(20)) * 20 + b"."


def a_long_shape(raw: bytes, generator: random.Random, touched: Path) -> bytes:
    """A shape whose product takes for ever."""
    number = b"\x8a\xff" + b"\xff" * 254 + b"\x7f" + b"q\x01"
    kind = b"cnumpy\ndtype\nX\x02\0\0\0f8\x89\x88\x87R"
    shape = b"(" + number + b"h\x01" * 200_000 + b"t"
    fields = b"}(X\x05\0\0\0shape" + shape + b"X\x05\0\0\0dtype" + kind + b"u"
    return b"\x80\x04cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81" + fields + b"b."


def itself(raw: bytes, generator: random.Random, touched: Path) -> bytes:
    """A list that holds itself, and a thing whose state it is."""
    return b"\x80\x04]\x94h\0ah\0acsklearn.linear_model._logistic\nLogisticRegression\n)\x81\x94h\x01b."


BOMBS = (
    keys_of_one_hash, wide_texts, one_array_often, arrays_in_arrays, long_names, a_long_shape, itself, nested_key,
    many_marks,
)  # fmt: skip
