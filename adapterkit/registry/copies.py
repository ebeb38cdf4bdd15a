"""What a registry finds of its own copies: whether they are whole, and who has signed them."""

from collections.abc import Sequence

from adapterkit.errors import AdapterkitError
from adapterkit.manifest import Store, open_manifest
from adapterkit.manifest.signature import signers_of
from adapterkit.registry.gates import Evidence
from adapterkit.registry.records import Version


def whole_evidence(store: Store, version: Version) -> Evidence:
    """Whether the files are those that were added."""
    try:
        store.get(version.digest, version.location)
    except AdapterkitError as error:
        return _failed(error)
    return Evidence(passed=True, detail="the files are those that were added")


def signature_evidence(store: Store, version: Version, keys: Sequence[str]) -> Evidence:
    """Whether one of these keys, spelled in one line each, has signed it."""
    if not keys:
        return Evidence(passed=False, detail="no key is trusted: adapterkit registry gate --signer PUB")
    try:
        folder = store.get(version.digest, version.location)
        found = signers_of(folder, open_manifest(folder), keys)
    except AdapterkitError as error:
        return _failed(error)
    return Evidence(passed=True, detail=f"signed by {', '.join(found)}", facts={"signed_by": found})


def _failed(error: AdapterkitError) -> Evidence:
    return Evidence(passed=False, detail="; ".join([error.summary, *error.problems])[:4096])
