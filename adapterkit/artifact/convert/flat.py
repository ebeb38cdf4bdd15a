"""A LoRA as servers of LoRAs read it without thinking: one rank, one scale of 1, the same modules in every layer.

PEFT's config can say much that other loaders do not look at: a root in the scale (rsLoRA), ranks and scales that differ
by module, layers that are left out. What is not looked at gives other answers without a word. So here everything stands
in the tensors: ranks are filled up with zeros, scales are folded into B, and modules that are not adapted have zeros.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapterkit.adapted import PREFIX
from adapterkit.artifact.card import escaped, export_card, fenced
from adapterkit.artifact.config import task_type
from adapterkit.artifact.convert.answering import check_answers, expected_answers, plain_answer, temper
from adapterkit.artifact.reading import Artifact
from adapterkit.artifact.tensors import dump_tensors
from adapterkit.artifact.updates import filled, prefix_of, updates_of
from adapterkit.backbone import Backbone
from adapterkit.backbone.checkpoint import silence
from adapterkit.errors import ExportError
from adapterkit.manifest import CARD, CONFIG, TENSORS, dump_json
from adapterkit.methods.table import method_of
from adapterkit.recipe.kinds import FACTS

WHOLE = (
    ("attention.query", "attention.key", "attention.value"),
    ("feedforward.gate", "feedforward.input"),
)
"""Sites that servers join to one product: they want all of them, or none."""

HEADS = {"score", "classifier"}
"""Names of the one linear that servers take for the head of a classification."""

NEAR = 1e-5
"""By how much an answer may differ, as a share of the largest number of its row: only rounding is left."""


@dataclass(frozen=True)
class LoraServer:
    """What one server's loader takes."""

    name: str
    """As people write it."""
    ranks: tuple[int, ...]
    """That it takes; a rank is filled up to the next. Empty: any."""
    tasks: tuple[str, ...]
    """PEFT's types of the tasks that it answers."""
    load: str
    """A line that loads the folder OUT of an adapter of rank RANK on BASE."""


SERVERS: Mapping[str, LoraServer] = {
    "vllm": LoraServer(
        "vLLM",
        (8, 16, 32, 64, 128, 256, 320, 512),
        ("CAUSAL_LM", "SEQ_CLS"),
        "vllm serve BASE --enable-lora --max-lora-rank RANK --lora-modules NAME=OUT",
    ),
    "sglang": LoraServer(
        "SGLang",
        (),
        ("CAUSAL_LM",),
        "python -m sglang.launch_server --model-path BASE --enable-lora --max-lora-rank RANK --lora-paths NAME=OUT",
    ),
    "lorax": LoraServer(
        "LoRAX", (), ("CAUSAL_LM",), "lorax-launcher --model-id BASE --adapter-id OUT --adapter-source local"
    ),
    "gguf": LoraServer("llama.cpp", (), ("CAUSAL_LM",), "python convert_lora_to_gguf.py --base BASE OUT"),
}
"""Name on the command line -> server."""


def check_flat(artifact: Artifact, *, flat: bool, server: str) -> None:
    """Raises ExportError where the adapter is no sum of low-rank updates, or the server does not take it."""
    if server and server not in SERVERS:
        raise ExportError(f"{server!r} is not a server that is known", remedy=f"Take one of {', '.join(SERVERS)}.")
    if not flat:
        raise ExportError(
            "an artifact is a PEFT folder already",
            remedy=f"PeftModel.from_pretrained(model, {str(artifact.folder)!r}) loads it as it is; its card has the "
            "lines. For servers that ignore rsLoRA and patterns there is flat=True (--flat).",
        )
    problems = [*why_not_flat(artifact), *(_server_problems(artifact, server) if server else ())]
    if problems:
        raise ExportError(
            f"{artifact.folder} cannot be a flat LoRA" + (f" for {SERVERS[server].name}" if server else ""),
            problems,
            "Serve it with `adapterkit serve`, or merge it: --format transformers.",
        )


def write_flat(artifact: Artifact, copy: Backbone, stage: Path, out: Path, *, flat: bool, server: str) -> None:
    """Write a folder with one rank and no scale, and prove in plain PEFT that it answers as the adapter does.
    Raises ExportError: a rank above the server's, or plain PEFT answers otherwise."""
    manifest, prefix = artifact.manifest, prefix_of(artifact.config, copy)
    updates = updates_of(manifest.method, artifact.config, artifact.state, copy)
    highest, ranks = max(update.rank for update in updates.values()), SERVERS[server].ranks if server else ()
    if ranks and highest > ranks[-1]:
        raise ExportError(
            f"{SERVERS[server].name} takes a rank of at most {ranks[-1]}, and this LoRA has {highest}",
            remedy="Take a smaller rank: `adapterkit compose … --rank`, or train with one.",
        )
    rank = next((taken for taken in ranks if taken >= highest), highest)
    names = {(site.side, site.name) for site in updates}
    for group in WHOLE:
        names |= {(side, other) for side, name in names if name in group for other in group}
    sites = [site for site in copy.sites.sites if (site.side, site.name) in names]
    state, targets = {}, []
    for site, update in filled(updates, sites, lambda _: rank, copy).items():
        targets.append(prefix + site.path)
        state[f"{PREFIX}{targets[-1]}.lora_A.weight"] = update.a.float()
        state[f"{PREFIX}{targets[-1]}.lora_B.weight"] = update.b.float()
    if not manifest.head.is_own:
        head = [PREFIX + name for name in manifest.head_tensors]
        state |= {name: artifact.state[name].float() for name in head}
        temper(state, head, artifact.task)
    (stage / TENSORS).write_bytes(dump_tensors(state))
    (stage / CONFIG).write_bytes(dump_json(_config(artifact, targets, rank)))
    (stage / CARD).write_bytes(_card(artifact, out, rank, server))
    prove_in_peft(artifact, copy, stage, FACTS[artifact.task.kind].auto_class, states=manifest.head.is_own)


def why_not_flat(artifact: Artifact) -> Iterator[str]:
    """Why an adapter is no sum of low-rank updates."""
    settings = artifact.manifest.method
    method = method_of(settings)
    if not method.low_rank:
        yield f"method {settings.kind}: expected a LoRA"
    elif reason := method.why_not_summed(settings):
        yield f"method: {reason}"


def _server_problems(artifact: Artifact, server: str) -> Iterator[str]:
    taken, head = SERVERS[server], artifact.manifest.head
    if FACTS[artifact.task.kind].peft_type not in taken.tasks:
        kinds = " and ".join(kind for kind, facts in FACTS.items() if facts.peft_type in taken.tasks)
        yield f"kind {artifact.task.kind}: {taken.name} serves LoRA for {kinds}"
    elif head.is_own:
        yield f"head {head.kind}: {taken.name} reads one linear called score or classifier: train with head.kind=family"
    elif extra := sorted({name.rpartition(".")[0] for name in artifact.manifest.head_tensors} - HEADS):
        yield f"head: {taken.name} reads one linear called score or classifier, and this one has {', '.join(extra)} too"


def _config(artifact: Artifact, targets: Sequence[str], rank: int) -> dict[str, Any]:
    manifest, own = artifact.manifest, artifact.config
    return {
        "peft_type": "LORA",
        "task_type": task_type(artifact.task.kind, manifest.head.is_own),
        "base_model_name_or_path": own["base_model_name_or_path"],
        "revision": own.get("revision"),
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": bool(own.get("fan_in_fan_out", False)),
        "init_lora_weights": True,
        "target_modules": list(targets),
        "modules_to_save": own.get("modules_to_save"),
    }


def prove_in_peft(artifact: Artifact, backbone: Backbone, folder: Path, auto: str, *, states: bool) -> None:
    """Raises ExportError where plain PEFT answers otherwise than the adapter. `auto`: name of transformers' class that
    the folder goes with. `states`: compare the trunk's states instead of logits."""
    import transformers
    from peft import PeftModel

    with artifact.adapted(backbone) as adapted:
        batches, expected = expected_answers(adapted, artifact, states)
        labels = len(adapted.task.labels)
    with silence():
        plain = getattr(transformers, auto).from_pretrained(
            backbone.folder, dtype=torch.float32, local_files_only=True, **({"num_labels": labels} if labels else {})
        )
        plain.config.pad_token_id = backbone.tokenizer.pad_token_id
        model = PeftModel.from_pretrained(plain, str(folder)).eval()
    whole = model.get_base_model()
    asked = getattr(whole, whole.base_model_prefix, whole) if states else model
    found = [plain_answer(asked, batch, states) for batch in batches]
    check_answers("plain PEFT answers otherwise with what was written", found, expected, NEAR)


def _card(artifact: Artifact, out: Path, rank: int, server: str) -> bytes:
    manifest = artifact.manifest
    base = Path(manifest.backbone.name).name
    told = (
        f"A LoRA of rank {rank} for {escaped(base)}: one rank and a scale of 1 at every module, the same modules in "
        f"every layer. The adapter that it was made of has the digest `{manifest.sha256}`."
    )
    sections = [told]
    if manifest.head.is_own:
        sections.append(f"Its {manifest.head.kind} head is not here, since no server has such a one.")
    if server:
        line = SERVERS[server].load
        for word, value in (("BASE", base), ("RANK", str(rank)), ("OUT", out.name), ("NAME", out.name)):
            line = line.replace(word, value)
        sections.append(fenced("bash", line))
    return export_card(manifest, "Flat LoRA", *sections)
