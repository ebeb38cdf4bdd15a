"""The fingerprint of a checkpoint: one digest over its config, its tokenizer and its weights.

Weights in safetensors are read tensor by tensor, so the fingerprint does not depend on how they are spread over files,
on the files' names, on the order or the metadata inside, or on the number format that they are loaded in. Weights in
PyTorch's own format (.bin) are hashed as files, whole, since reading their tensors would mean loading them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from adapterkit.backbone.files import read_config, weight_files
from adapterkit.errors import BackboneError

WHOLE_BYTES = 1 << 20
"""Tensors up to this size are hashed whole."""
BLOCK_BYTES = 4096
BLOCKS = 64
"""Of larger tensors, this many blocks are hashed, spread evenly from the first byte to the last."""

_HEADER_LIMIT_BYTES = 100_000_000
_FORMAT = "adapterkit fingerprint 1"
# What a config says about how it was written or is to be loaded, not about what the model computes.
_IGNORED_CONFIG = ("transformers_version", "_name_or_path", "_commit_hash", "dtype", "torch_dtype")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class _Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    size_bytes: int


def fingerprint_checkpoint(folder: Path, tokenizer_digest: str, *, full: bool = False) -> str:
    """SHA-256, in 64 hexadecimal digits, over the checkpoint in a folder.

    Every tensor counts with its name, shape, stored number format and content. Of a tensor larger than `WHOLE_BYTES`
    only `BLOCKS` blocks of `BLOCK_BYTES` are read, the first and the last among them, so a 14 GB checkpoint costs the
    reading of about 100 MB. A change that touches every weight, as any training does, is always seen; what can be
    missed is an edit of a large tensor that happens to lie between the blocks. `full=True` reads every byte and misses
    nothing; its digest differs from the sampled one.

    The digest of the weights is kept in the user's cache folder under the files' identity (path, size, inode, times of
    the last change), so a second call costs next to nothing.

    Args:
        folder: the checkpoint.
        tokenizer_digest: what `tokenizer.tokenizer_digest` says of its tokenizer.
        full: hash every byte of every tensor.

    Raises:
        BackboneError: no weights, or weight files that are damaged.
    """
    files = weight_files(folder)
    if not files:
        raise BackboneError(f"{folder} holds no weights", remedy="Expected model.safetensors or pytorch_model.bin.")
    config = {key: value for key, value in read_config(folder).items() if key not in _IGNORED_CONFIG}
    digest = hashlib.sha256()
    for piece in (
        _FORMAT,
        json.dumps(config, sort_keys=True, separators=(",", ":")),
        tokenizer_digest,
        _cached_weights_digest(files, full=full),
    ):
        _add(digest, piece)
    return digest.hexdigest()


def _cached_weights_digest(files: tuple[Path, ...], *, full: bool) -> str:
    try:
        identity = [_identity(file) for file in files]
    except OSError as error:
        raise BackboneError(f"{files[0].parent}: the weights cannot be read", [str(error)]) from error
    key = hashlib.sha256(json.dumps([_FORMAT, full, identity]).encode()).hexdigest()
    entry = cache_folder() / "fingerprints" / key
    kept = _read_entry(entry)
    if kept is not None:
        return kept
    digest = weights_digest(files, full=full)
    _write_entry(entry, digest)
    return digest


def weights_digest(files: tuple[Path, ...], *, full: bool = False) -> str:
    """What of the fingerprint is about weights, never from the cache."""
    digest = hashlib.sha256()
    _add(digest, "full" if full else f"sampled {WHOLE_BYTES} {BLOCK_BYTES} {BLOCKS}")
    pickled = [file for file in files if file.suffix != ".safetensors"]
    try:
        for content in sorted(_file_digest(file) for file in pickled):
            _add(digest, content)
        tensors = [tensor for file in files if file not in pickled for tensor in _tensors(file)]
        for tensor in sorted(tensors, key=lambda tensor: tensor.name):
            _add(digest, f"{tensor.name} {tensor.dtype} {list(tensor.shape)} {tensor.size_bytes}")
            with tensor.file.open("rb") as stream:
                for block in _blocks(stream, tensor, full=full):
                    digest.update(block)
    except OSError as error:
        raise BackboneError(f"{files[0].parent}: the weights cannot be read", [str(error)]) from error
    return digest.hexdigest()


def _tensors(file: Path) -> Iterator[_Tensor]:
    """The tensors that the header of a safetensors file names."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
        if not 2 <= length <= min(size - 8, _HEADER_LIMIT_BYTES):
            raise _damaged(file, f"found {size} bytes, which cannot hold its header")
        try:
            header = json.loads(stream.read(length))
            for name, entry in header.items():
                if name == "__metadata__":
                    continue
                start, end = entry["data_offsets"]
                tensor = _Tensor(
                    name, str(entry["dtype"]), tuple(entry["shape"]), file, 8 + length + start, end - start
                )
                if not (0 <= start <= end and 8 + length + end <= size):
                    raise _damaged(file, f"tensor {name} ends at byte {8 + length + end}, the file at {size}")
                yield tensor
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, BackboneError):
                raise
            raise _damaged(file, f"its header is not one of safetensors ({type(error).__name__})") from error


def _blocks(stream: BinaryIO, tensor: _Tensor, *, full: bool) -> Iterator[bytes]:
    if full or tensor.size_bytes <= WHOLE_BYTES:
        stream.seek(tensor.start)
        left = tensor.size_bytes
        while left > 0:
            block = stream.read(min(left, WHOLE_BYTES))
            if not block:
                raise _damaged(tensor.file, f"tensor {tensor.name} ends early")
            left -= len(block)
            yield block
        return
    for number in range(BLOCKS):
        stream.seek(tensor.start + number * (tensor.size_bytes - BLOCK_BYTES) // (BLOCKS - 1))
        yield stream.read(BLOCK_BYTES)


def _file_digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _add(digest: Any, text: str) -> None:
    """Add a text with its length before it, so that no two lists of texts give the same bytes."""
    encoded = text.encode("utf-8", errors="surrogatepass")
    digest.update(struct.pack("<Q", len(encoded)))
    digest.update(encoded)


def _damaged(file: Path, finding: str) -> BackboneError:
    return BackboneError(f"{file} is damaged", [finding], "Fetch the checkpoint again.")


def cache_folder() -> Path:
    """Where adapterkit keeps what it can compute again: $ADAPTERKIT_CACHE, else the system's folder for caches."""
    named = os.environ.get("ADAPTERKIT_CACHE")
    if named:
        return Path(named)
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "adapterkit"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "adapterkit" / "cache"
    home = Path(os.path.expanduser("~"))
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "adapterkit"


def _identity(file: Path) -> list[Any]:
    """What changes whenever a file's content does, short of setting the system's clock back."""
    # A hub's snapshot is a folder of links: what they lead to is the file.
    real = file.resolve()
    facts = real.stat()
    return [str(real), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]


def _read_entry(entry: Path) -> str | None:
    try:
        text = entry.read_text(encoding="ascii")
    except (OSError, ValueError):
        return None
    return text if _DIGEST.fullmatch(text) else None


def _write_entry(entry: Path, digest: str) -> None:
    """Keep the digest. A cache that cannot be written costs time, never an answer."""
    temporary = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=entry.parent, delete=False, encoding="ascii") as stream:
            temporary = Path(stream.name)
            stream.write(digest)
        temporary.replace(entry)
    except OSError:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
