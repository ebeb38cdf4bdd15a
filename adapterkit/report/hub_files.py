"""Files of a repository on a hub, of which no more is read than was asked for."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from adapterkit.errors import ArtifactError, HubError, first_line

TIMEOUT_S = 60.0
"""Of an answer, and of each piece of it."""


def hub_pieces(repository: str, name: str, revision: str) -> Generator[bytes]:
    """A file in pieces, as they come. Raises whatever a hub's client raises."""
    from huggingface_hub import get_session, get_token, hf_hub_url

    # A packed answer could grow without end.
    headers = {"Accept-Encoding": "identity", **({"Authorization": f"Bearer {t}"} if (t := get_token()) else {})}
    url = hf_hub_url(repository, name, revision=revision)
    with get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT_S) as answer:
        answer.raise_for_status()
        yield from answer.iter_bytes()


def read_hub(repository: str, name: str, revision: str, limit_bytes: int) -> bytes:
    """A file of at most `limit_bytes`. Raises ArtifactError where it is larger, HubError where it cannot be read."""
    raw = bytearray()
    try:
        with closing(hub_pieces(repository, name, revision)) as pieces:
            for piece in pieces:
                raw += piece
                if len(raw) > limit_bytes:
                    break
    except Exception as error:  # whatever a client calls its troubles
        raise HubError(f"{name} of {repository} cannot be read", [first_line(error)]) from error
    if len(raw) > limit_bytes:
        raise ArtifactError(f"{name} of {repository} is too large", [f"expected at most {limit_bytes:,} bytes"])
    return bytes(raw)
