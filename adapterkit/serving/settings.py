"""The settings of a service: where it listens, and what it takes at most."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Limits(BaseModel):
    """What one request, and all of them together, may ask for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    body_bytes: Count = 1 << 20
    """Of a request, checked before anything is parsed."""
    body_s: Positive = 10.0
    """How long a client may take to send it."""
    rows: Count = 256
    """Of a request."""
    text_characters: Count = 200_000
    """Of one text."""
    queued_rows: Count = 4096
    """That wait for an answer at once; beyond it a request is answered with 429."""
    deadline_s: Positive = 30.0
    """After which a request is answered with 504, whatever is still open."""
    batch_rows: Count = 64
    """That the host answers together."""
    batch_characters: Count = 65_536
    """Of them together, a stand-in for tokens that is known before tokenising."""
    new_tokens: Count = 1024
    """That one request may have generated."""


class ServiceSettings(BaseModel):
    """What a service answers with, and how. Paths are those of the machine it runs on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mounts: dict[str, str] = Field(default_factory=dict)
    """Task -> artifact or composition; without a registry."""
    registry: str | None = None
    """URL of the registry whose channels are followed; without mounts."""
    rules: Path | None = None
    """YAML file of splits, guards, shadows and alerts."""
    shadow_log: Path | None = None
    """JSON lines of rows that a shadow answers otherwise."""
    flags: Path | None = None
    """File in flagd's format."""
    backbone: str | tuple[str, ...] = ()
    """Where to load the backbone from, or several side by side; a registry needs one."""
    dtype: str = "auto"
    """Of the frozen weights."""
    slots: Count | None = None
    """Adapters in memory at once."""
    require_signature: tuple[str, ...] = ()
    """Public keys (files, or ed25519:…), one of which has to have signed; none asks for none."""
    keys: Path | None = None
    """File of API keys; None for everybody on this machine."""
    sign_with: Path | None = None
    """Private key that signs receipts."""
    traces: bool = False
    """Whether OpenTelemetry traces are sent."""
    follow_every_s: Annotated[float, Field(ge=0.1)] = 2.0
    """Seconds between looks at the registry."""
    limits: Limits = Field(default_factory=Limits)
    """Of requests."""

    @model_validator(mode="after")
    def _whole(self) -> ServiceSettings:
        if bool(self.mounts) == (self.registry is not None):
            raise ValueError("give mounts or a registry, to say what answers")
        if self.registry is not None and not self.backbone:
            raise ValueError("a registry's tasks may be of many backbones: name one")
        if self.registry is None and (self.shadow_log is not None or self.flags is not None):
            raise ValueError("shadow_log and flags are about the channels of a registry")
        return self

    @property
    def backbones(self) -> tuple[str, ...]:
        """Where to load backbones from."""
        return (self.backbone,) if isinstance(self.backbone, str) else self.backbone


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own, which nobody else can reach."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
