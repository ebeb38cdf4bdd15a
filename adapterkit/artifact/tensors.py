"""Safetensors, read without trust and written with the same bytes every time.

The format: 8 bytes with the header's length (little-endian), the header (JSON: name -> dtype, shape, data_offsets),
then the data. Everything in the header is checked against the file's real size before a tensor is made, so what is
allocated is never more than the file itself.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from adapterkit.artifact.eight_bits import SCALE_BYTES, decode, matrix_shape, stored_shape
from adapterkit.errors import ArtifactError
from adapterkit.manifest import parse_object

DTYPES: Mapping[str, torch.dtype] = {
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I8": torch.int8,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
METADATA = {"format": "pt"}

MAX_HEADER_BYTES = 4 << 20
MAX_TENSORS = 16_384
MAX_DIMENSIONS = 4
MAX_NAME_LENGTH = 512
LARGEST = 1e18
"""No weight is larger. The product of two such is finite in float32 and bfloat16; what is learned stays far below."""
_REPORTED = 20
_MOST_REMEMBERED_BYTES = 1 << 16


@dataclass(frozen=True)
class TensorEntry:
    """One tensor in a header."""

    dtype: torch.dtype
    """Its torch dtype; int8 for a matrix of eight bits, which is read as float32."""
    shape: tuple[int, ...]
    """Its sizes, each at least 1; of a matrix of eight bits those of the matrix."""
    begin: int
    """Offset of its first byte in the data."""
    end: int
    """Offset after its last byte."""


@dataclass(frozen=True)
class Header:
    """A checked header."""

    entries: Mapping[str, TensorEntry]
    """Name -> what the header says of it, in the order of the data."""
    data_start: int
    """Offset of the data in the file."""


def parse_header(raw: bytes | bytearray, file: str) -> Header:
    """Check the header of a whole safetensors file.
    `raw`: the file's bytes. `file`: the file's name, for the message. Raises ArtifactError: with every problem: sizes
    that do not add up, an unknown dtype, a bad shape, gaps or overlaps in the data, bytes that belong to no tensor."""
    summary = f"{file} is not a safetensors file that can be read"
    if len(raw) < 8:
        raise ArtifactError(summary, [f"{file}: {len(raw)} bytes, expected at least 8"])
    length = int.from_bytes(raw[:8], "little")
    if length > min(MAX_HEADER_BYTES, len(raw) - 8):
        bound = min(MAX_HEADER_BYTES, len(raw) - 8)
        raise ArtifactError(summary, [f"{file}: a header of {length:,} bytes, expected at most {bound:,}"])
    read = _read_header if length <= _MOST_REMEMBERED_BYTES else _read_header.__wrapped__
    return read(bytes(raw[8 : 8 + length]), len(raw) - 8 - length, file)


@lru_cache(maxsize=64)
def _read_header(text: bytes, data_bytes: int, file: str) -> Header:
    """As `parse_header`. Remembered: artifacts of one recipe have the same header, byte for byte."""
    summary = f"{file} is not a safetensors file that can be read"
    fields = parse_object(text, f"{file} (header)")
    metadata = fields.pop("__metadata__", {})
    problems: list[str] = []
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        problems.append(f"{file}: __metadata__ is not an object of texts")
    if len(fields) > MAX_TENSORS:
        raise ArtifactError(summary, [f"{file}: {len(fields):,} tensors, expected at most {MAX_TENSORS:,}"])
    entries: dict[str, TensorEntry] = {}
    for name, field in fields.items():
        reason = _problem(name, field, data_bytes)
        if reason is None:
            dtype, stored = DTYPES[field["dtype"]], tuple(field["shape"])
            shape = stored if dtype != torch.int8 else matrix_shape(stored)
            entries[name] = TensorEntry(dtype, shape or stored, *field["data_offsets"])
        else:
            problems.append(f"{file}: {name[:200]!r}: {reason}")
    if not problems:
        problems = _layout_problems(entries, data_bytes, file)
    if problems:
        raise ArtifactError(summary, shortened(problems))
    ordered = sorted(entries, key=lambda name: entries[name].begin)
    return Header(MappingProxyType({name: entries[name] for name in ordered}), 8 + len(text))


def read_tensors(raw: bytes | bytearray, header: Header, file: str) -> dict[str, Tensor]:
    """Make the tensors of a checked header. Those of one dtype share their memory.
    `raw`: the file's bytes; a bytearray becomes the tensors' memory, nothing is copied. Raises ArtifactError: a value
    is not finite, or too large to compute with."""
    memory, start = raw, header.data_start
    if isinstance(raw, bytes) or start % 8:  # torch wants memory that it may write to, and aligned
        memory, start = bytearray(memoryview(raw)[start:]), 0
    dtypes = {entry.dtype for entry in header.entries.values()}
    if len(dtypes) == 1 and torch.int8 not in dtypes:
        dtype = dtypes.pop()
        # Without gaps between them, tensors of one dtype are one tensor, cut.
        counts = [math.prod(entry.shape) for entry in header.entries.values()]
        whole = torch.frombuffer(memory, dtype=dtype, offset=start)
        pieces = whole.split_with_sizes(counts)
        tensors = {name: piece.view(e.shape) for piece, (name, e) in zip(pieces, header.entries.items(), strict=True)}
        if unusable(whole) is None:
            return tensors
    else:
        tensors = {
            name: _tensor(torch.frombuffer(memory, dtype=torch.int8, offset=start)[e.begin : e.end], e)
            for name, e in header.entries.items()
        }
    problems = [
        f"{file}: {name!r} {reason}" for name, tensor in tensors.items() if (reason := unusable(tensor)) is not None
    ]
    if problems:
        raise ArtifactError(f"{file} cannot be used", shortened(problems))
    return tensors


def _tensor(raw: Tensor, entry: TensorEntry) -> Tensor:
    """One tensor from its own bytes."""
    if entry.dtype != torch.int8:
        return raw.clone().view(entry.dtype).view(entry.shape)
    return decode(raw.view(*stored_shape(entry.shape)))


def unusable(tensor: Tensor) -> str | None:
    """Why nothing can be computed with the values of a tensor, or None."""
    low, high = map(float, torch.aminmax(tensor))
    if not (math.isfinite(low) and math.isfinite(high)):
        return "holds values that are not finite"
    if max(-low, high) > LARGEST:
        return f"holds values up to {max(-low, high):.3g}, expected at most {LARGEST:.0e}"
    return None


def dump_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Write tensors, in an order that only their names and dtypes decide.
    Raises ArtifactError: a tensor is empty, not finite, too large, or of a dtype that an artifact does not hold."""
    problems = [
        f"{name!r}: {reason}" for name, tensor in sorted(tensors.items()) if (reason := _unwritable(tensor)) is not None
    ]
    if problems:
        raise ArtifactError("These tensors cannot be saved", shortened(problems), "Nothing was written.")
    copies = {  # the library refuses tensors that share memory
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in sorted(tensors.items())
    }
    return save(copies, METADATA)


def shortened(problems: list[str]) -> list[str]:
    """The first problems, and how many more there are."""
    more = len(problems) - _REPORTED
    return problems if more <= 0 else [*problems[:_REPORTED], f"and {more:,} more"]


def _problem(name: str, field: Any, data_bytes: int) -> str | None:
    """What is wrong with one field of the header, or None."""
    if not 0 < len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        return f"a name must have 1 to {MAX_NAME_LENGTH} printable characters"
    if not isinstance(field, dict) or field.keys() != {"dtype", "shape", "data_offsets"}:
        return "expected exactly dtype, shape and data_offsets"
    dtype, shape, offsets = field["dtype"], field["shape"], field["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        return f"dtype {dtype!r:.40}, expected one of {', '.join(DTYPES)}"
    if not _are_counts(shape) or len(shape) > MAX_DIMENSIONS or 0 in shape:
        return f"shape {shape!r:.80}, expected at most {MAX_DIMENSIONS} whole numbers of at least 1"
    if not _are_counts(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= data_bytes:
        return f"data_offsets {offsets!r:.80}, expected two in order within {data_bytes:,} bytes of data"
    needed = math.prod(shape) * DTYPES[dtype].itemsize
    if dtype == "I8" and matrix_shape(shape) is None:
        return f"shape {shape} in eight bits, expected a matrix and the {SCALE_BYTES} bytes of each line's scale"
    if offsets[1] - offsets[0] != needed:
        return f"{offsets[1] - offsets[0]:,} bytes of data, expected {needed:,} for shape {shape} in {dtype}"
    return None


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and (not value or ({*map(type, value)} == {int} and min(value) >= 0))


def _layout_problems(entries: Mapping[str, TensorEntry], data_bytes: int, file: str) -> list[str]:
    """Gaps and overlaps between tensors, and data after the last one."""
    problems: list[str] = []
    position = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1].begin):
        if entry.begin != position:
            what = "overlaps the tensor before it" if entry.begin < position else "leaves a gap before it"
            problems.append(f"{file}: {name!r} {what}")
        position = entry.end
    if not problems and position != data_bytes:
        problems.append(f"{file}: {data_bytes - position:,} bytes after the last tensor, expected none")
    return problems


def _unwritable(tensor: Tensor) -> str | None:
    if tensor.dtype not in NAMES:
        return f"dtype {tensor.dtype}, expected one of {', '.join(DTYPES)}"
    if tensor.numel() == 0:
        return f"shape {tuple(tensor.shape)} has no values"
    if tensor.dim() > MAX_DIMENSIONS:
        return f"{tensor.dim()} dimensions, expected at most {MAX_DIMENSIONS}"
    return unusable(tensor)
