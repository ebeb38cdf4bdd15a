"""What a folder of sentence-transformers says of the vectors that it makes, and how that is written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterkit.artifact.tensors import shortened
from adapterkit.backbone import Backbone
from adapterkit.backbone.files import read_json
from adapterkit.backbone.limits import Pooling, said_pooling
from adapterkit.errors import ArtifactError

MODULES, PROMPTS, LENGTHS, SETFIT = (
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "config_setfit.json",
)
_TYPES = "sentence_transformers.models."
"""Names that all versions read, old and new."""


@dataclass(frozen=True)
class Encoder:
    """How texts become vectors."""

    folder: Path
    """Where the transformer lies, its adapter or its weights."""
    pooling: Pooling | None
    """Of its states; None where the folder does not say."""
    normalize: bool
    """Whether vectors are brought to length 1."""
    max_tokens: int | None
    """Where longer texts are cut; None where only the tokenizer says."""
    labels: tuple[str, ...] | None
    """Of SetFit's head, or None."""


def read_encoder(src: Path) -> Encoder:
    """Read the configs of a folder.
    Raises ArtifactError: it makes its vectors in a way that no head of ours does, with every reason."""
    problems, folder, pools, normalize = [], src, False, False
    for module, kind in zip(_modules(src), kinds_of(src), strict=True):
        if kind == "Transformer":
            folder = (src / str(module.get("path", ""))).resolve()
        elif kind not in ("Pooling", "Normalize"):
            problems.append(f"{MODULES}: {kind[:60]!r}: expected Transformer, Pooling and Normalize alone")
        pools, normalize = pools or kind == "Pooling", normalize or kind == "Normalize"
    if not folder.is_relative_to(src.resolve()) and folder != src:
        problems.append(f"{MODULES}: the transformer lies outside the folder")
    pooling = said_pooling(src)
    if pools and pooling is None:
        problems.append(f"{MODULES}: Pooling: expected one of mean, cls and lasttoken")
    lengths, prompts, setfit = (_config(folder / LENGTHS), _config(src / PROMPTS), _config(src / SETFIT))
    if lengths.get("do_lower_case"):
        problems.append(f"{LENGTHS}: do_lower_case: texts are lowercased before the tokenizer reads them")
    if prompts.get("default_prompt_name"):
        problems.append(f"{PROMPTS}: default_prompt_name: a prompt is put before every text")
    if problems:
        raise ArtifactError("no head of ours reads so", shortened(problems), "Serve it with sentence-transformers.")
    longest, labels = lengths.get("max_seq_length"), setfit.get("labels")
    return Encoder(
        folder,
        pooling,
        normalize or setfit.get("normalize_embeddings") is True,
        longest if type(longest) is int and longest > 1 else None,
        tuple(map(str, labels)) if isinstance(labels, list) else None,
    )


def kinds_of(folder: Path) -> list[str]:
    """The kinds of the modules that a folder's `modules.json` names, in their order."""
    return [str(module.get("type", "")).rpartition(".")[2] for module in _modules(folder)]


def write_encoder(out: Path, backbone: Backbone, pooling: str, normalize: bool, max_tokens: int | None) -> None:
    """Write all but the adapter and the card."""
    kinds = ["Transformer", "Pooling", *["Normalize"] * normalize]
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": _TYPES + kind}
        for n, (kind, path) in enumerate(zip(kinds, paths, strict=False))
    ]
    _write(out / MODULES, modules)
    switches = {"mean": "mean_tokens", "first": "cls_token", "last": "lasttoken"}
    modes = {f"pooling_mode_{word}": pooling == name for name, word in switches.items()}
    _write(out / "1_Pooling" / "config.json", {"word_embedding_dimension": backbone.hidden_size, **modes})
    if normalize:
        (out / "2_Normalize").mkdir()
    _write(out / LENGTHS, {"max_seq_length": max_tokens, "do_lower_case": False})
    backbone.tokenizer.save_pretrained(out)


def _modules(folder: Path) -> list[dict[str, Any]]:
    found = read_json(folder / MODULES) if (folder / MODULES).is_file() else []
    return [each if isinstance(each, dict) else {} for each in found] if isinstance(found, list) else []


def _config(path: Path) -> Mapping[str, Any]:
    found = read_json(path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
