"""The fingerprint: tells two checkpoints apart by config, tokenizer and weights.

Weights in safetensors are read tensor by tensor, so the fingerprint does not depend on how they are spread over files,
on the files' names, on the order or the metadata inside, or on the number format that they are loaded in. Weights in
PyTorch's own format (.bin) are hashed as files, since reading their tensors would mean loading them.
"""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from adapterkit.backbone.file_digests import FileSpan, digests, remembered
from adapterkit.backbone.files import read_config, weight_files
from adapterkit.errors import BackboneError

Coverage = Literal["whole", "samples"]
"""How much of the weights a fingerprint has seen: every byte, or blocks of the large tensors."""

SAMPLED_FROM_BYTES = 8 << 30
"""Weights that are smaller are always read whole."""

WHOLE_BYTES = 1 << 20
"""Where weights are sampled, tensors up to this size are hashed whole all the same."""
BLOCK_BYTES = 4096
BLOCKS = 64
"""Of larger tensors, this many blocks are hashed, spread evenly from the first byte to the last."""

_HEADER_LIMIT_BYTES = 100_000_000
_FORMAT = "adapterkit fingerprint 2"
# What a config says about how it was written or is to be loaded, not about what the model computes.
_IGNORED_CONFIG = ("transformers_version", "_name_or_path", "_commit_hash", "dtype", "torch_dtype")


def fingerprints(
    folder: Path, tokenizer_digest: str, coverage: Coverage = "whole", *, again: bool = False
) -> dict[Coverage, str]:
    """SHA-256, in 64 hexadecimal digits, over the checkpoint in a folder, by what it covers.

    Every tensor counts with its name, shape, stored number format and content. Every byte of it is read, once: the
    digest of the weights is kept in the user's cache folder under the files' identity. Weights above
    `SAMPLED_FROM_BYTES` may be sampled instead: of a tensor larger than `WHOLE_BYTES`, `BLOCKS` blocks of `BLOCK_BYTES`
    are read, the first and the last among them. That sees what touches every weight, as any training does, and misses
    most edits of a few weights. Of such weights, the samples' fingerprint is given beside the whole one.

    Args:
        folder: the checkpoint.
        tokenizer_digest: what `tokenizer.tokenizer_digest` says of its tokenizer.
        coverage: "samples" to read no more than that, where the weights are that large.
        again: read the files, whatever is remembered of them.

    Raises:
        BackboneError: no weights, or weight files that are damaged.
    """
    files = weight_files(folder)
    if not files:
        raise BackboneError(f"{folder} holds no weights", remedy="Expected model.safetensors or pytorch_model.bin.")
    config = {key: value for key, value in read_config(folder).items() if key not in _IGNORED_CONFIG}
    written = json.dumps(config, sort_keys=True, separators=(",", ":"))
    found: dict[Coverage, str] = {}
    try:
        for wanted in _wanted(files, coverage):
            compute = partial(weights_digest, files, wanted)
            weights = compute() if again else remembered(f"{_FORMAT} {wanted}", files, compute)
            digest = hashlib.sha256()
            for text in (_FORMAT, wanted, written, tokenizer_digest, weights):
                _add(digest, text)
            found[wanted] = digest.hexdigest()
    except OSError as error:
        raise BackboneError(f"{folder}: the weights cannot be read", [str(error)]) from error
    return found


def _wanted(files: Sequence[Path], coverage: Coverage) -> tuple[Coverage, ...]:
    if sum(file.stat().st_size for file in files) < SAMPLED_FROM_BYTES:
        return ("whole",)
    return ("samples",) if coverage == "samples" else ("whole", "samples")


def weights_digest(files: Sequence[Path], coverage: Coverage = "whole") -> str:
    """The part of the fingerprint that is about weights, read from the files.
    Raises BackboneError: they are damaged; OSError: they cannot be read."""
    whole = [FileSpan(file, 0, file.stat().st_size) for file in files if file.suffix != ".safetensors"]
    stored = sorted((t for file in files if file.suffix == ".safetensors" for t in _tensors(file)), key=lambda t: t[0])
    blocks = [_blocks(span, coverage) for _, _, span in stored]
    try:
        found = digests([*whole, *(block for own in blocks for block in own)])
    except EOFError as error:
        raise _damaged(Path(str(error)), "a tensor ends early") from error
    digest = hashlib.sha256()
    for content in sorted(found[: len(whole)]):
        digest.update(content)
    contents = iter(found[len(whole) :])
    for (name, facts, span), own in zip(stored, blocks, strict=True):
        _add(digest, f"{name} {facts} {span.size_bytes}")
        for _ in own:
            digest.update(next(contents))
    return digest.hexdigest()


def _tensors(file: Path) -> Iterator[tuple[str, str, FileSpan]]:
    """Name, number format with shape, and place of every tensor that the header of a safetensors file names."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
        if not 2 <= length <= min(size - 8, _HEADER_LIMIT_BYTES):
            raise _damaged(file, f"found {size} bytes, which cannot hold its header")
        raw = stream.read(length)
    try:
        header: Mapping[str, Any] = json.loads(raw)
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            start, end = entry["data_offsets"]
            if not (0 <= start <= end and 8 + length + end <= size):
                raise _damaged(file, f"tensor {name} ends at byte {8 + length + end}, the file at {size}")
            yield name, f"{entry['dtype']} {list(entry['shape'])}", FileSpan(file, 8 + length + start, end - start)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, BackboneError):
            raise
        raise _damaged(file, f"its header is not one of safetensors ({type(error).__name__})") from error


def _blocks(part: FileSpan, coverage: Coverage) -> list[FileSpan]:
    """What is read of a tensor."""
    if coverage == "whole" or part.size_bytes <= WHOLE_BYTES:
        return [part]
    starts = [number * (part.size_bytes - BLOCK_BYTES) // (BLOCKS - 1) for number in range(BLOCKS)]
    return [FileSpan(part.file, part.start + start, BLOCK_BYTES) for start in starts]


def _add(digest: Any, text: str) -> None:
    """Add a text with its length before it, so that no two lists of texts give the same bytes."""
    encoded = text.encode("utf-8", errors="surrogatepass")
    digest.update(struct.pack("<Q", len(encoded)))
    digest.update(encoded)


def _damaged(file: Path, finding: str) -> BackboneError:
    return BackboneError(f"{file} is damaged", [finding], "Fetch the checkpoint again.")
