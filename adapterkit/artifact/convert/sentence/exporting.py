"""Write an artifact's LoRA or IA3 for sentence-transformers: on the bare trunk, with how its vectors are made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapterkit.adapted import PREFIX
from adapterkit.artifact.card import escaped, export_card, fenced
from adapterkit.artifact.convert.flat import prove_in_peft
from adapterkit.artifact.convert.sentence.encoder import kinds_of, write_encoder
from adapterkit.artifact.reading import Artifact
from adapterkit.artifact.tensors import dump_tensors
from adapterkit.artifact.updates import prefix_of
from adapterkit.backbone import Backbone
from adapterkit.errors import ExportError
from adapterkit.manifest import CARD, CONFIG, TENSORS, dump_json
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
        raise _refused(artifact, problems)


def write_sentence_transformers(artifact: Artifact, copy: Backbone, stage: Path, out: Path) -> None:
    """Write a folder that `SentenceTransformer(folder)` loads above the backbone that the artifact names. The head is
    left out. Raises ExportError: an encoder-decoder, or plain PEFT answers otherwise."""
    if copy.is_encoder_decoder:
        raise _refused(artifact, ["backbone: an encoder-decoder, of which it reads the encoder alone"])
    prefix, head = prefix_of(artifact.config, copy), artifact.manifest.head
    heads = {PREFIX + path for path in artifact.manifest.head_tensors}
    state = {
        PREFIX + name.removeprefix(PREFIX).removeprefix(prefix): tensor.float()
        for name, tensor in artifact.state.items()
        if name not in heads
    }
    config = {key: _bare(value, prefix) for key, value in artifact.config.items()}
    config |= {"task_type": "FEATURE_EXTRACTION", "modules_to_save": None}
    pooling = head.pooling if head.pooling != "auto" else copy.pooling
    normalize = head.normalize or (not head.is_own and "Normalize" in kinds_of(copy.folder))
    write_encoder(stage, copy, pooling, normalize, artifact.task.settings.max_tokens or copy.max_tokens)
    (stage / TENSORS).write_bytes(dump_tensors(state))
    (stage / CONFIG).write_bytes(dump_json(config))
    (stage / CARD).write_bytes(_card(artifact, out, pooling, normalize))
    prove_in_peft(artifact, copy, stage, "AutoModel", states=True)


def _refused(artifact: Artifact, problems: Sequence[str]) -> ExportError:
    summary = f"{artifact.folder} cannot be written for sentence-transformers"
    return ExportError(summary, problems, "Serve it with `adapterkit serve`, whose /v1/embeddings gives its vectors.")


def _bare(value: Any, prefix: str) -> Any:
    """A field of PEFT's config with its modules named from the trunk on."""
    if isinstance(value, dict):
        return {key.removeprefix(prefix): each for key, each in value.items()}
    return [str(each).removeprefix(prefix) for each in value] if isinstance(value, list) else value


def _card(artifact: Artifact, out: Path, pooling: str, normalize: bool) -> bytes:
    manifest = artifact.manifest
    vector = f"{pooling} of its states" + ", brought to length 1" * normalize
    told = (
        f"A {escaped(manifest.method.words)} adapter on {escaped(Path(manifest.backbone.name).name)}; a vector is the "
        f"{vector}. The head of the adapter that it was made of (digest `{manifest.sha256}`) is not here."
    )
    load = "from sentence_transformers import SentenceTransformer"
    code = fenced("python", load, "", f"vectors = SentenceTransformer({str(out)!r}).encode(texts)")
    title = "Adapter of a sentence encoder"
    return export_card(manifest, title, told, code, library="sentence-transformers", relation="adapter")
