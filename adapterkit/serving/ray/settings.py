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
    """A service of several replicas. Paths have to be there on every machine of the cluster.

    Attributes:
        replicas: how many there are at first, and at least.
        max_replicas: how many there may be; between the two Ray follows the requests. None keeps their number.
        ongoing: requests that one replica takes at once; what comes beyond is offered to another, or waits.
        target_ongoing: requests at once per replica that Ray aims at, where it may choose.
        cpus: processors per replica, which are its threads too.
        gpus: accelerators per replica.
    """

    replicas: Count = 2
    max_replicas: Count | None = None
    ongoing: Count = 256
    target_ongoing: Positive = 32.0
    cpus: Positive = 1.0
    gpus: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _more_at_most(self) -> RaySettings:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas: found {self.max_replicas}, expected {self.replicas} or more")
        return self


@dataclass(frozen=True)
class Hosting:
    """A pool of hosts. Paths have to be there on every machine of the cluster.

    Attributes:
        sources: name -> artifact's folder, URL, hub id or composition.
        name: whom every row asks; None where rows say it themselves.
        parts: name -> folder, of a fusion.
        settings: what `open_host` takes besides: backbone, dtype, slots.
        actors: how many hosts there are at most; fewer where there is not enough to do.
        cpus: processors of each, which are its threads too.
        gpus: accelerators of each.
    """

    sources: Mapping[str, str]
    name: str | None = None
    parts: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    actors: int = 2
    cpus: float = 1.0
    gpus: float = 0.0

    def marks(self) -> dict[str, Any]:
        """What tells one set of answers from another."""
        whole = {**self.sources, **self.parts}
        return {"sources": {n: _mark(s) for n, s in whole.items()}, "name": self.name, "settings": dict(self.settings)}


def _mark(source: str) -> str:
    path = Path(source)
    if (path / MANIFEST).is_file():
        return open_manifest(source).sha256
    return sha256_of(path) if path.is_file() else source


def sha256_of(file: Path) -> str:
    """Of a file's bytes."""
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()
