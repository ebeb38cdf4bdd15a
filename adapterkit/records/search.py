"""Artifacts that were found for a backbone."""

from typing import Literal

from pydantic import Field

from adapterkit.records.record import Number, Record, Values

Fit = Literal["exact", "other-version", "by-name"]


class FoundArtifact(Values):
    """An artifact that was found."""

    source: str
    """What mounts and pulls it: owner/name@revision, URL@digest, or a folder."""
    fit: Fit
    """`exact` where it was trained on this very backbone, by its fingerprint; `other-version` where its backbone has
    the same name and another fingerprint; `by-name` where the name is the same, and the fingerprint that is asked for
    is not known."""
    kind: str
    """Of its task."""
    method: str
    split: str
    """Of the rows that the metric was measured on."""
    metric: str
    value: Number
    low: Number
    """Lower end of the metric's 95 % interval."""
    high: Number
    """Upper end of it."""
    size_bytes: int
    date: str
    """When it was written or published, ISO 8601; "" where nobody says."""
    backbone: str
    """As the artifact names it."""
    fingerprint: str
    """Of the backbone that it was trained on."""
    sha256: str
    """Digest of its manifest."""


class SearchRecord(Record):
    """`adapterkit search --json`."""

    form: Literal["adapterkit.search/1"] = Field("adapterkit.search/1", alias="schema")
    where: str
    """The hub, folder or URL that was looked through."""
    backbone: str
    """As it was asked for."""
    fingerprints: tuple[str, ...]
    """Of that backbone, where they are known."""
    found: tuple[FoundArtifact, ...]
    """What fits exactly first, the best of a kind before the others."""
    refused: dict[str, str]
    """Source -> why what stands there is no artifact that can be used."""
    others: int
    """Artifacts of other backbones that were passed over."""
