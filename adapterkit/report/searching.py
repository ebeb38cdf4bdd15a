"""Artifacts that fit a backbone, on a hub, in a folder or at a URL. Manifests alone are read, and nothing is believed
of an artifact but what its manifest says; whoever mounts one has it checked whole."""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from adapterkit.errors import AdapterkitError, HubError, first_line
from adapterkit.manifest import MANIFEST, MAX_BYTES, Manifest, Store, parse_manifest
from adapterkit.manifest.elsewhere import find_url, read_url
from adapterkit.manifest.names import MAIN, is_digest
from adapterkit.records.found import Fit, FoundArtifact, SearchRecord
from adapterkit.report.hub_files import read_hub
from adapterkit.report.runs import DEEPEST, facts_of

MOST_LISTED = 1000
"""Models of one base model that a hub is asked for."""
TAG = "fingerprint:"
"""How the card's tag with the fingerprint begins, by which a hub finds what fits exactly."""
ORDER: tuple[Fit, ...] = ("exact", "by-name", "other-version")


@dataclass(frozen=True)
class Sought:
    """The backbone that artifacts are looked for, as it was asked for."""

    asked: str
    names: tuple[str, ...]
    """Under which artifacts may name it."""
    fingerprints: tuple[str, ...]
    """Of it; () where its files are not here."""

    def fit(self, manifest: Manifest) -> Fit | None:
        """How an artifact fits; None where it is of another backbone."""
        facts = manifest.backbone
        if facts.fingerprint in self.fingerprints:
            return "exact"
        here = os.path.isabs(facts.name) or any(map(os.path.isdir, self.names))
        known = {Path(name).name for name in self.names} if here else {*self.names}
        if (Path(facts.name).name if here else facts.name) not in known:
            return None
        return "other-version" if self.fingerprints else "by-name"


def search(wanted: Sought, where: str | None = None) -> SearchRecord:
    """Artifacts that fit a backbone, in a folder or at a URL, both to a depth of `DEEPEST`; None: on the hub.

    Raises HubError: there is no such place, or it cannot be read.
    """
    found: list[FoundArtifact] = []
    refused: dict[str, str] = {}
    others = 0
    for source, date, at in _on_hub(wanted) if where is None else _below(where):
        try:
            place, commit = at
            limit = MAX_BYTES[MANIFEST]
            read = read_hub(place, MANIFEST, commit, limit) if commit else read_url(place, limit)
            manifest = parse_manifest(read or b"")
        except AdapterkitError as error:
            refused[source] = "; ".join(error.problems or (error.summary,))
            continue
        if (fit := wanted.fit(manifest)) is None:
            others += 1
        else:
            own = {"fingerprint": manifest.backbone.fingerprint, "sha256": manifest.sha256}
            found.append(FoundArtifact(source=source, fit=fit, **own, **facts_of(manifest, date)))
    found.sort(key=lambda one: (ORDER.index(one.fit), one.kind, one.metric, -(one.value or 0.0), one.source))
    versions = {"adapterkit": metadata.version("adapterkit"), "python": platform.python_version()}
    return SearchRecord(
        made_with=versions,
        seed=0,
        where=_hub_name() if where is None else where,
        backbone=wanted.asked,
        fingerprints=wanted.fingerprints,
        found=tuple(found),
        refused=refused,
        others=others,
    )


def _below(where: str) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """Every manifest in and below a folder or a URL: what names its artifact, when it was written, and where it is."""
    names: dict[str, dict[str, str]] = {}
    for folder, date in find_url(os.path.expanduser(where), MANIFEST, DEEPEST):
        above, _, last = folder.rpartition("/")
        source = folder
        if is_digest(last):  # of a store: by what people call it
            if above not in names:
                named = Store(above, Path()).names()
                names[above] = {digest: name for name, digest in named.items() if name != MAIN}
            source = f"{above}@{names[above].get(last, last)}"
        yield source, date, (f"{folder}/{MANIFEST}", "")


def _on_hub(wanted: Sought) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """What a hub lists under the backbone's name or fingerprint."""
    from huggingface_hub import HfApi

    asked = [f"base_model:{name}" for name in wanted.names if not os.path.exists(name)]
    asked += [f"{TAG}{fingerprint}" for fingerprint in wanted.fingerprints]
    models: dict[str, Any] = {}
    try:
        for tag in asked:
            listed = HfApi().list_models(filter=["adapterkit", tag], limit=MOST_LISTED, full=True)
            models |= {model.id: model for model in listed}
    except Exception as error:  # whatever a client calls its troubles, and answers that are no hub's
        raise HubError(
            f"{_hub_name()} cannot be searched",
            [f"{type(error).__name__}: {first_line(error)}"],
            "Check the network (HF_HUB_OFFLINE, HF_ENDPOINT), or name a folder or a URL to look through.",
        ) from error
    for name, model in sorted(models.items()):
        commit = str(model.sha or MAIN)
        date = "" if model.last_modified is None else model.last_modified.isoformat(timespec="minutes")
        yield f"{name}@{commit}", date, (name, commit)


def _hub_name() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)
