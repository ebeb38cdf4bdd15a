"""Artifacts that others read: on a model hub, in a folder, or at a URL; checked on both ways."""

import logging
import os
from pathlib import Path

from adapterkit.artifact import hub
from adapterkit.artifact.hub import Published
from adapterkit.artifact.reading import read_artifact
from adapterkit.errors import HubError
from adapterkit.manifest import (
    CARD,
    SIGNATURE,
    Store,
    check_output,
    check_target,
    fetch_stored,
    is_address,
    meant_as_folder,
    parse_hub_name,
    parse_store_name,
    read_folder,
    read_whole,
    write_folder,
)
from adapterkit.manifest.names import MAIN
from adapterkit.manifest.signature import (
    TrustedKeys,
    check_statement,
    read_signature,
    read_trusted,
    signature_for,
    statement_of,
)
from adapterkit.own_folder import cache_folder

logger = logging.getLogger(__name__)


def push(
    folder: str | Path,
    target: str,
    *,
    sign: str | Path | None = None,
    tag: str | None = None,
    private: bool | None = None,
    message: str | None = None,
) -> Published:
    """Publish an artifact: its four files, its signature, and nothing else of its folder, so that others see all of it
    or nothing.

    The manifest is published with them, so also the recipe with its paths, and the golden rows: a few rows of the data.

    Args:
        folder: of the artifact.
        target: owner/name on a hub, made where it does not exist; or a store: a URL of fsspec, or a folder that begins
            with . / or ~, as in ./shared/intent.
        sign: the file of a private key that signs it, beside those that have signed it already. The folder is left as
            it is.
        tag: a name for this version, so that `pull("owner/name@tag")` always gives it. A tag never moves.
        private: whether a repository that is made is private. None: as its owner's settings say. Of a hub alone.
        message: of the commit. Of a hub alone.

    Raises:
        ArtifactError: the folder holds no artifact that could be read; nothing was published.
        SignatureError: no private key, or the signature beside the artifact is of something else; nothing either.
        HubError: a name that cannot be one, a tag that is taken, no right to write, or no hub.
        OutputError: the store's folder holds other things, or the disk refuses.
    """
    check_target(target, tag, private=private, message=message)
    artifact = read_artifact(find_folder(folder))
    if Path(artifact.manifest.backbone.name).is_absolute():
        logger.warning(
            "the backbone is a folder of this machine (%s): others have to name theirs, which the fingerprint checks",
            artifact.manifest.backbone.name,
        )
    files, signature = read_folder(artifact.folder), signature_for(artifact.folder, artifact.manifest, sign)
    if not is_address(target):
        return hub.publish(artifact, files, target, signature=signature, tag=tag, private=private, message=message)
    store, digest = Store(os.path.expanduser(target), cache_folder()), artifact.manifest.sha256
    if tag is not None:
        store.check_free(tag)
    location = store.put(digest, files, signature)
    for name in filter(None, (tag, MAIN)):
        store.call(name, digest)
    return Published(store.url, digest, tag, location)


def pull(
    name: str,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    offline: bool = False,
    require_signature: TrustedKeys | None = None,
) -> Path:
    """Fetch an artifact, and check all that can be checked without its backbone.

    Args:
        name: owner/name on a hub, or the folder or URL of a store; each with @revision where a tag, a branch, a
            commit or a digest is meant.
        output: the folder to write. None: one in adapterkit's cache folder, or the store's own where that is a folder.
        overwrite: whether what stands at `output` is replaced.
        offline: take the copy that was fetched before, and ask nobody.
        require_signature: public keys, of which one must have signed exactly this: artifact, backbone, tokenizer, card.
            Each is a file or a line, as in "ed25519:…". None asks for no signature.

    Returns:
        The artifact's folder.

    Raises:
        HubError: the name is none, or nobody gives it. Where a hub or a store cannot be reached, the copy from before
            is given, with a warning.
        ArtifactError: what is given is damaged, unsafe, or no artifact; nothing is written to `output`.
        SignatureError: none of these keys has signed it; nothing is written to `output`.
        OutputError: something stands at `output`.
    """
    keys = read_trusted(require_signature)
    if output is not None:
        check_output(output, overwrite=overwrite)
    if (stored := parse_store_name(name)) is not None:
        folder = fetch_stored(stored, cache_folder() / "artifacts", check=read_artifact, offline=offline)
    elif os.path.isdir(name):
        folder = Path(name)
        read_artifact(folder)
    else:
        folder = hub.fetch(parse_hub_name(name), offline=offline)
    manifest, files = read_whole(folder)
    statement, signature = statement_of(manifest, files.sha256(CARD)), read_signature(folder)
    if keys:
        check_statement(signature, statement, name, keys)
    if output is None:
        return folder
    content = {**files.content, **({} if signature is None else {SIGNATURE: signature})}
    write_folder(Path(output), content, overwrite=overwrite)
    return Path(output)


def find_folder(source: str | os.PathLike[str]) -> Path:
    """The folder of an artifact: the name itself, or what a store or a hub gives for it. Raises HubError: it is no
    folder, and no store and no hub gives it; ArtifactError: what they give is damaged or unsafe."""
    name = os.fspath(source)
    if (stored := parse_store_name(name)) is not None:
        return fetch_stored(stored, cache_folder() / "artifacts", check=read_artifact)
    if not isinstance(source, str) or meant_as_folder(name):
        return Path(source)
    try:
        named = parse_hub_name(name)
    except HubError:  # then it can only be meant as a folder
        return Path(source)
    return hub.fetch(named)
