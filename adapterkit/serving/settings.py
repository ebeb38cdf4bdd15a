"""The settings of a service: where it listens, and what it takes at most."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

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


def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own, which nobody else can reach."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
