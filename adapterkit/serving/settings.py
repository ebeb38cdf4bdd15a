"""The settings of a service: where it listens, and what it takes at most."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Limits(BaseModel):
    """What one request, and all of them together, may ask for.

    Attributes:
        body_bytes: of a request, checked before anything is parsed.
        body_s: how long a client may take to send it.
        rows: of a request.
        text_characters: of one text.
        queued_rows: that wait for an answer at once; beyond it a request is answered with 429.
        deadline_s: after which a request is answered with 504, whatever is still open.
        batch_rows: that the host answers together.
        batch_characters: of them together, a stand-in for tokens that is known before tokenising.
        new_tokens: that one request may have generated.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    body_bytes: Count = 1 << 20
    body_s: Positive = 10.0
    rows: Count = 256
    text_characters: Count = 200_000
    queued_rows: Count = 4096
    deadline_s: Positive = 30.0
    batch_rows: Count = 64
    batch_characters: Count = 65_536
    new_tokens: Count = 1024


class ServiceSettings(BaseModel):
    """What a service answers with, and how. Paths are those of the machine it runs on.

    Attributes:
        mounts: task -> artifact or composition; without a registry.
        registry: URL of the registry whose channels are followed; without mounts.
        rules: YAML file of splits, guards, shadows and alerts.
        shadow_log: JSON lines of rows that a shadow answers otherwise.
        flags: file in flagd's format.
        backbone: where to load the backbone from, or several side by side; a registry needs one.
        dtype: of the frozen weights.
        slots: adapters in memory at once.
        require_signature: public keys (files, or ed25519:…), one of which has to have signed; none asks for none.
        keys: file of API keys; None for everybody on this machine.
        sign_with: private key that signs receipts.
        traces: whether OpenTelemetry traces are sent.
        follow_every_s: seconds between looks at the registry.
        limits: of requests.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mounts: dict[str, str] = Field(default_factory=dict)
    registry: str | None = None
    rules: Path | None = None
    shadow_log: Path | None = None
    flags: Path | None = None
    backbone: str | tuple[str, ...] = ()
    dtype: str = "auto"
    slots: Count | None = None
    require_signature: tuple[str, ...] = ()
    keys: Path | None = None
    sign_with: Path | None = None
    traces: bool = False
    follow_every_s: Annotated[float, Field(ge=0.1)] = 2.0
    limits: Limits = Field(default_factory=Limits)

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
