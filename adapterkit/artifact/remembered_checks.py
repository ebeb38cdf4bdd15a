"""What artifacts of one recipe have in common, byte for byte, is checked once: the config, and names and shapes.

Only what passed is remembered, by all that the checks read.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from adapterkit.artifact.config import check_config
from adapterkit.artifact.contents import check_contents, dtype_problems
from adapterkit.artifact.tensors import Header, shortened
from adapterkit.errors import ArtifactError
from adapterkit.manifest import CONFIG, Manifest, parse_object

_MOST_BYTES = 1 << 17
_MOST_KEPT = 64
_CHECKED: Any = {"task": {"kind"}, "method": True, "parts": True, "head": True, "head_tensors": True, "dtype": True}
"""What the checks read of a manifest."""

_passed: dict[tuple[bytes, bytes, str], None] = {}


def read_config(raw: bytes) -> Mapping[str, Any]:
    """PEFT's config; artifacts with the same one share what is read. Raises ArtifactError."""
    return _read(raw) if len(raw) <= _MOST_BYTES else parse_object(raw, CONFIG)


@lru_cache(maxsize=_MOST_KEPT)
def _read(raw: bytes) -> Mapping[str, Any]:
    return parse_object(raw, CONFIG)


def check_tensors(
    manifest: Manifest, config: Mapping[str, Any], raw_config: bytes, header: Header, raw_header: bytes
) -> None:
    """Check config, names, shapes and dtypes against the manifest and each other. `raw_config`: the bytes that `config`
    was read from. `raw_header`: the bytes that `header` was read from. Raises ArtifactError: with every problem."""
    key = raw_config, raw_header, manifest.model_dump_json(include=_CHECKED)
    if key in _passed:
        return
    problems: list[str] = []
    try:
        head = manifest.head
        check_config(config, manifest.kind, manifest.method, own_head=head.is_own, tokens=len(head.tokens))
        check_contents(manifest, config, {name: entry.shape for name, entry in header.entries.items()})
    except ArtifactError as error:
        problems += error.problems
    problems += dtype_problems(manifest, header.entries)
    if problems:
        raise ArtifactError("The tensors are not those of this adapter", shortened(problems))
    if len(raw_config) + len(raw_header) <= _MOST_BYTES:
        if len(_passed) >= _MOST_KEPT:
            _passed.clear()
        _passed[key] = None
