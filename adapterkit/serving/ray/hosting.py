"""What every host of a pool mounts, and by what one set of answers is told from another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path
from typing import Any

from adapterkit.manifest import MANIFEST, open_manifest


@dataclass(frozen=True)
class Hosting:
    """What every host of the pool mounts, and how. Paths have to be there on every machine of the cluster.

    Attributes:
        sources: name -> artifact's folder, URL, hub id or composition.
        name: whom every row asks; None where rows say it themselves.
        parts: name -> folder, of a fusion.
        settings: what `open_host` takes besides: backbone, dtype, slots, require_signature.
    """

    sources: Mapping[str, str]
    name: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def marks(self) -> dict[str, Any]:
        """What tells one set of answers from another."""
        digests = {
            name: open_manifest(source).sha256 if (Path(source) / MANIFEST).is_file() else sha256_of(Path(source))
            for name, source in {**self.sources, **self.parts}.items()
        }
        return {"sources": digests, "name": self.name, "settings": dict(self.settings)}


def sha256_of(file: Path) -> str:
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()
