"""Signatures of compositions in files: of the order and the weights, and of the very artifacts that are its members."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapterkit.artifact import open_artifact
from adapterkit.compose.composition_file import load_composition
from adapterkit.compose.mountable import Find
from adapterkit.manifest import Manifest
from adapterkit.manifest.signature import read_signature, sign_statement, write_signature


def sign_composition(file: str | Path, key_file: str | Path) -> Path:
    """Sign the composition in a YAML file, beside those who have signed it already. Returns the signature's file, which
    stands beside it. Raises CompositionError, ArtifactError: it is none, or a member is not there; SignatureError: the
    key is no private key; OutputError: it cannot be written."""
    file = Path(file)
    stated = statement_of_composition(load_composition(file), open_artifact)
    return write_signature(file, sign_statement(stated, key_file, read_signature(file)))


def statement_of_composition(composition: Any, find: Find) -> dict[str, Any]:
    """What a signature of a composition says: how it is made of which artifacts, in which order, on which backbone."""
    members: list[Manifest] = []
    told = _told(composition, find, members)
    facts = members[0].backbone
    return {
        "composition": told,
        "backbone": {"fingerprint": facts.fingerprint, "coverage": facts.coverage},
        "tokenizer": str(facts.contract.get("tokenizer", "")),
        "formats": {"manifest": members[0].format, "tensors": ", ".join(sorted({one.dtype for one in members}))},
    }


def _told(composition: Any, find: Find, members: list[Manifest]) -> Mapping[str, Any]:
    """A composition as JSON has it, its members by their digests and not by where they are."""

    def member(source: Any) -> Any:
        if not isinstance(source, str):
            return _told(source, find, members)
        members.append(find(source).manifest)
        return members[-1].sha256

    told = composition.model_dump(exclude={"members", "head"}) | {"heads": list(composition.chosen)}
    if "weights" in told:  # in the order of the members, as the heads are
        weights = told["weights"] or dict.fromkeys(composition.names, 1.0)
        told["weights"] = [weights[name] for name in composition.names]
    named = [{"name": name, "is": member(source)} for name, source in composition.sources]
    return {"made": composition.kind, "members": named, **told}
