"""Artifacts that were found for a backbone."""

from typing import Literal

from pydantic import Field

from adapterkit.records.record import Number, Record, Values

Fit = Literal["exact", "other-version", "by-name"]


class FoundArtifact(Values):
    """An artifact that was found.

    Attributes:
        source: what mounts and pulls it: owner/name@revision, URL@digest, or a folder.
        fit: `exact` where it was trained on this very backbone, by its fingerprint; `other-version` where its backbone
            has the same name and another fingerprint; `by-name` where the name is the same, and the fingerprint that is
            asked for is not known.
        kind: of its task.
        split: of the rows that the metric was measured on.
        low: lower end of the metric's 95 % interval.
        high: upper end of it.
        date: when it was written or published, ISO 8601; "" where nobody says.
        backbone: as the artifact names it.
        fingerprint: of the backbone that it was trained on.
        sha256: digest of its manifest.
    """

    source: str
    fit: Fit
    kind: str
    method: str
    split: str
    metric: str
    value: Number
    low: Number
    high: Number
    size_bytes: int
    date: str
    backbone: str
    fingerprint: str
    sha256: str


class SearchRecord(Record):
    """`adapterkit search --json`.

    Attributes:
        where: the hub, folder or URL that was looked through.
        backbone: as it was asked for.
        fingerprints: of that backbone, where they are known.
        found: what fits exactly first, the best of a kind before the others.
        refused: source -> why what stands there is no artifact that can be used.
        others: artifacts of other backbones that were passed over.
    """

    form: Literal["adapterkit.search/1"] = Field("adapterkit.search/1", alias="schema")
    where: str
    backbone: str
    fingerprints: tuple[str, ...]
    found: tuple[FoundArtifact, ...]
    refused: dict[str, str]
    others: int
