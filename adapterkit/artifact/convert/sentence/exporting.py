"""Write an artifact's LoRA or IA3 for sentence-transformers: on the bare trunk, with how its vectors are made."""

import json
from pathlib import Path
from typing import Any

from adapterkit.adapted import PREFIX
from adapterkit.artifact.card_text import escaped, quoted
from adapterkit.artifact.convert.flat import prove_in_peft, trunk_prefix
from adapterkit.artifact.convert.sentence.encoder import kinds_of, write_encoder
from adapterkit.artifact.reading import Artifact
from adapterkit.artifact.tensors import dump_tensors
from adapterkit.backbone import Backbone
from adapterkit.errors import ExportError
from adapterkit.manifest import CARD, CONFIG, TENSORS, stage_folder
from adapterkit.methods.table import method_of


def check_bare_adapter(artifact: Artifact) -> None:
    """Raises ExportError where there is nothing of the trunk that plain PEFT has."""
    method, head = artifact.manifest.method, artifact.manifest.head
    problems = []
    if not method.attaches or method_of(method).peft_import != "":
        problems.append(f"method {method.kind}: expected one that PEFT has, as lora")
    elif getattr(method, "dora", False):
        problems.append("method: DoRA, whose magnitudes it saves and does not find again when it loads")
    if head.tokens:
        problems.append("head.tokens: rows of the projection to the vocabulary, which a bare trunk lacks")
    if problems:
        raise ExportError(
            f"{artifact.folder} cannot be written for sentence-transformers",
            problems,
            "Serve it with `adapterkit serve`, whose /v1/embeddings gives its vectors.",
        )


def export_sentence_transformers(artifact: Artifact, out: Path, backbone: Backbone, *, overwrite: bool) -> None:
    """Write a folder that `SentenceTransformer(folder)` loads above the backbone that the artifact names.

    Args:
        artifact: one that `check_bare_adapter` lets pass. Its head is left out.
        out: the folder to write.
        backbone: in float32.
        overwrite: replace what stands at `out`.

    Raises:
        ExportError: an encoder-decoder, or plain PEFT answers otherwise; nothing is written then.
    """
    if backbone.is_encoder_decoder:
        raise ExportError(
            f"{artifact.folder} cannot be written for sentence-transformers",
            ["backbone: an encoder-decoder, of which it reads the encoder alone"],
            "Serve it with `adapterkit serve`.",
        )
    prefix, head = trunk_prefix(artifact, backbone), artifact.manifest.head
    heads = {PREFIX + path for path in artifact.manifest.head_tensors}
    state = {
        PREFIX + name.removeprefix(PREFIX).removeprefix(prefix): tensor.float()
        for name, tensor in artifact.state.items()
        if name not in heads
    }
    config = {key: _bare(value, prefix) for key, value in artifact.config.items()}
    config |= {"task_type": "FEATURE_EXTRACTION", "modules_to_save": None}
    pooling = head.pooling if head.pooling != "auto" else backbone.pooling
    normalize = head.normalize or (not head.is_own and "Normalize" in kinds_of(backbone.folder))
    longest = artifact.task.settings.max_tokens or backbone.max_tokens
    with stage_folder(out, overwrite=overwrite) as stage:
        write_encoder(stage, backbone, pooling, normalize, longest)
        (stage / TENSORS).write_bytes(dump_tensors(state))
        (stage / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        (stage / CARD).write_text(_card(artifact, out, pooling, normalize), encoding="utf-8")
        prove_in_peft(artifact, backbone, stage, "AutoModel", states=True)


def _bare(value: Any, prefix: str) -> Any:
    """A field of PEFT's config with its modules named from the trunk on."""
    if isinstance(value, dict):
        return {key.removeprefix(prefix): each for key, each in value.items()}
    return [str(each).removeprefix(prefix) for each in value] if isinstance(value, list) else value


def _card(artifact: Artifact, out: Path, pooling: str, normalize: bool) -> str:
    manifest = artifact.manifest
    lines = ["---"]
    if not Path(manifest.backbone.name).is_absolute():
        lines += [f"base_model: {quoted(manifest.backbone.name)}", "base_model_relation: adapter"]
    lines += ["library_name: sentence-transformers", "---", "", "# Adapter of a sentence encoder", ""]
    vector = f"{pooling} of its states" + ", brought to length 1" * normalize
    lines.append(
        f"A {escaped(manifest.method.words)} adapter on {escaped(Path(manifest.backbone.name).name)}; a vector is the "
        f"{vector}. The head of the adapter that it was made of (digest `{manifest.sha256}`) is not here."
    )
    lines += [
        "",
        "```python",
        "from sentence_transformers import SentenceTransformer",
        "",
        f"vectors = SentenceTransformer({str(out)!r}).encode(texts)",
        "```",
    ]
    return "\n".join([*lines, ""])
