"""What is found of artifacts: runs of a folder, those that fit a backbone, and what records say of some."""

from typing import Any, Literal

from pydantic import Field

from adapterkit.records.evaluation import MetricRecord
from adapterkit.records.record import Number, Record, Values

Fit = Literal["exact", "other-version", "by-name"]


class RunFacts(Values):
    """What a list says of an artifact."""

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


class RunLine(RunFacts):
    """A run below a folder."""

    name: str
    """Its folder, from the folder that was looked through."""
    state: str = ""
    """ "" of an artifact; else why it is none that can be used."""


class FoundArtifact(RunFacts):
    """An artifact that was found."""

    source: str
    """What mounts and pulls it: owner/name@revision, URL@digest, or a folder."""
    fit: Fit
    """`exact` where it was trained on this very backbone, by its fingerprint; `other-version` where its backbone has
    the same name and another fingerprint; `by-name` where the name is the same, and the fingerprint that is asked for
    is not known."""
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


class ReportedRun(Values):
    """An artifact of a report."""

    name: str
    """Of its folder."""
    sha256: str
    """Digest of its manifest."""
    kind: str
    backbone: str
    fingerprint: str
    version: int
    parent: str | None
    metrics: dict[str, dict[str, MetricRecord]]
    """Split -> metric -> value, as its manifest has them."""


class ReportRecord(Record):
    """`adapterkit report --json`."""

    form: Literal["adapterkit.report/1"] = Field("adapterkit.report/1", alias="schema")
    runs: tuple[ReportedRun, ...]
    """In the order that they were named in."""
    records: tuple[dict[str, Any], ...]
    """What was found about them, each as its verb printed it, by kind and then by digest."""
