"""How many hosts answer, what each may take, and what it mounts: of a service's replicas, and of a file's pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from adapterkit.manifest import MANIFEST, open_manifest
from adapterkit.serving.settings import Count, Positive, ServiceSettings


class RaySettings(ServiceSettings):
    """A service of several replicas. Paths have to be there on every machine of the cluster."""

    replicas: Count = 2
    """How many there are at first, and at least."""
    max_replicas: Count | None = None
    """How many there may be; between the two Ray follows the requests. None keeps their number."""
    ongoing: Count = 256
    """Requests that one replica takes at once; what comes beyond is offered to another, or waits."""
    target_ongoing: Positive = 8.0
    """Requests at once per replica that Ray aims at, where it may choose: half of the largest that fill its queue."""
    cpus: Positive = 1.0
    """Processors per replica, which are its threads too."""
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """Accelerators per replica."""

    @model_validator(mode="after")
    def _more_at_most(self) -> RaySettings:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas: found {self.max_replicas}, expected {self.replicas} or more")
        return self


@dataclass(frozen=True)
class Hosting:
    """A pool of hosts. Paths have to be there on every machine of the cluster."""

    sources: Mapping[str, str]
    """Name -> artifact's folder, URL, hub id or composition."""
    name: str | None = None
    """Whom every row asks; None where rows say it themselves."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Name -> folder, of a fusion."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What `open_host` takes besides: backbone, dtype, slots."""
    actors: int = 2
    """How many hosts there are at most; fewer where there is not enough to do."""
    cpus: float = 1.0
    """Processors of each, which are its threads too."""
    gpus: float = 0.0
    """Accelerators of each."""

    def marks(self) -> dict[str, Any]:
        """What tells one set of answers from another."""
        sources = {}
        for name, source in {**self.sources, **self.parts}.items():
            path = Path(source)
            content = sha256_of(path) if path.is_file() else source
            sources[name] = open_manifest(source).sha256 if (path / MANIFEST).is_file() else content
        return {"sources": sources, "name": self.name, "settings": dict(self.settings)}


def sha256_of(file: Path) -> str:
    """Of a file's bytes."""
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()
